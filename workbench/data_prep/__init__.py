"""`edit-r1 data`: task lists from annotated pictures, one module a command. Needs neither torch nor a GPU."""

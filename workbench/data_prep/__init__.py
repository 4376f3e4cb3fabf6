"""`edit-r1 data`: makes task lists from annotated images, one module per command. Needs neither torch nor a GPU."""

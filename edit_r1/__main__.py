"""`python -m edit_r1 ...` is `edit-r1 ...`."""

from edit_r1.command import main

main()

"""`accelerate launch -m edit_r1.trainer CONFIG key=value ...`."""

from edit_r1.trainer.cli import main

main()

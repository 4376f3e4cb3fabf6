"""`accelerate launch -m trainer CONFIG key=value ...`."""

from trainer.cli import main

main()

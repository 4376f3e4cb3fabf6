"""`make gpu-check`: what a machine with one NVIDIA GPU shows in under 8 minutes, without network and without weights.

packages   what must be installed, and the commands that bring it
machine    card, driver, versions
runner     runs steps one after another, each with a time limit, and writes the JSON file after each
worker     one step in its own process
steps      the steps and their limits
training   steps `kontext`, `large` and `compile`: FLUX.1-Kontext
judging    step `judge`: a judge of 7 B
demo       step `demo`: first epochs of the tiny demo
report     the JSON file as Markdown
"""

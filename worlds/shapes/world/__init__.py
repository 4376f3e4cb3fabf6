"""Scenes, edits on them, and the oracle that measures an edit from its pixels.

scenes     scenes and how they are rendered
tasks      instructions, with source and target scenes
oracle     how well an edit followed the instruction and kept the rest
make_data  writes the task lists and sample edits of the repository
"""

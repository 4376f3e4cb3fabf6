"""`edit-r1 data`: makes checked task lists from annotated images or other lists. Needs neither torch nor a GPU.

cli             the commands
terminal        options and tables shared by the commands
formats         formats of the input lines
input_lists     lists, checked from end to end before anything is written
resumable_jobs  outputs that survive a killed command
pictures        images that lists refer to
geometry        boxes; pure
boxes           `data boxes`: objects of a useful size
redbox          `data redbox`: a red box around an object
text_edit       `data text-edit`: change a word in an image
rationality     `data rationality`: does the instruction make sense for its image?
mix             `data mix`: several lists into one
check           `data check`: is a list fit to train on?
task_writers    tasks -> JSON lines or parquet
contact_sheet   a contact sheet of a list
"""

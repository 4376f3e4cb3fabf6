"""Golden edits, of known quality: does a judge order them correctly, and write its scores where they are read?

edits   directories of golden edits, and figures of their scores
scenes  golden edits made by code, for judges that bring none
"""

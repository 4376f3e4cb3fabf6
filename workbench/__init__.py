"""The workbench judges judges, editors and data. It uses the trainer and what is shared.

clients       commands and classes that ask a running judge
editing       a trained editor at work: `edit-r1 edit` and `export`
alignment     `edit-r1 align`: does a reward agree with people?
evaluation    `edit-r1 evaluate`: did the editor get better?
data_prep     `edit-r1 data`: task lists from annotated images
significance  intervals and sign tests; pure
markdown      tables as Markdown
"""

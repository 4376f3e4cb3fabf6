"""The workbench evaluates judges, editors and data. It uses the trainer and `shared`.

clients       commands and classes that call a running judge
editing       `edit-r1 edit` and `export`: using a trained editor
alignment     `edit-r1 align`: does a reward agree with human raters?
evaluation    `edit-r1 evaluate`: did the editor get better?
data_prep     `edit-r1 data`: task lists from annotated images
significance  intervals and sign tests; pure
markdown      tables as Markdown
"""

"""Clients of a running judge: they send images and instructions and get scores or answers.

options            command-line options that several commands share
score              `edit-r1 score`
selftest           `edit-r1 selftest`
best_of_n          ranks several edits of one image
chat               asks any OpenAI-compatible chat endpoint about many images
spending           tokens and money that such a command will use, and has used
editscore_adapter  the reward service in place of EditScore's scorer
"""

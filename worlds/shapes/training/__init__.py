"""Trains the two tiny models of the repository, `../editor` and `../judge`; CONTRIBUTING.md has the commands.

stages            recipes and resumable stages
optimizing        learning-rate schedule and optimizer step
editor_model      the tiny editor
train_editor      trains it
judge_model       the tiny judge
judge_words       its vocabulary for reasoning
judge_data        examples to learn from
judge_trainer     teacher forcing and auxiliary heads
train_judge       trains it
judge_vocabulary  makes words it never saw learnable
train_wordings    teaches it answer prefixes and a second wording
review_data       answers for the methods that review an edit point by point
train_reviews     trains an adapter for each of these methods
"""

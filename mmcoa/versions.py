"""Versions of what a result depends on beside its parameters: raise one when what it computes changes. Parts of their own, such
as attacks and defences, state theirs in their file; tests/golden says when one has to be raised.
"""

TRAINING = 1  # fine-tuning as mmcoa/training does it: batches, schedule, optimiser, held-out slice
PRETRAINING = 1  # a base model from scratch: mmcoa/training/pretrain.py

"""Versions of the parts that every result shares. Attacks and defences carry their own, in their files.

A result is identified by its parameters, its inputs and the versions of what computed it, never by source text. Raise a number
when, and only when, results of that part come out otherwise than before; what was computed with the old number is then computed
again. `tests/golden/` fails when outcomes move while the numbers stay.
"""

TRAINING = 1  # the loop, its schedule and optimiser, the choice of batches: mmcoa/training/
PRETRAINING = 1  # base models from scratch: mmcoa/training/pretrain.py
EVALUATION = 1  # which samples are attacked, what counts as right, towers: mmcoa/evaluation/, mmcoa/model/
AT_TEST = 1  # judging and attacking through a test-time defence: mmcoa/evaluation/at_test.py
CHECKS = 1  # what the self-checks try, and their limits: mmcoa/evaluation/self_checks.py
DATA = 1  # readers, order, splits and prompts: mmcoa/datasets/, mmcoa/prompts.py
CANDIDATES = 1  # candidate words of a source: mmcoa/attacks/candidates.py, wordnet.py, mlm.py, characters.py
GALLERY = 1  # which pictures the gallery shows, and what of them: mmcoa/gallery/

"""Versions of what the library computes. Results carry them, so that a result is stale when its meaning changed, and only then.

Raise a number when the same input may from now on give another outcome: another prediction, accuracy, weight or verdict.
Leave it alone for a new name, a faster way, or a last digit. Attacks and defences have versions of their own, in their files.
"""

EVALUATION = 1  # which samples are attacked, what counts as right, how a worst case is put together
CHECKS = 1  # what the self-checks try, and their limits

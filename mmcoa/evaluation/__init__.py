"""Clean and robust accuracy sample by sample: the loop, its outcomes, rows, self-checks and intervals."""

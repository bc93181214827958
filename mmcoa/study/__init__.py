"""The study: a profile (YAML) expands into cells, each one papermill run of a notebook or part of one, with a record on disk.

All but `compute`, `pack` and `papermill_run` import neither torch nor pandas. What follows what: book/architecture.md.
"""

"""The study: a profile (YAML) expands into cells, each one papermill run of a notebook or part of one, with a record on disk.

`settings`, `sweeps`, `profiles`, `cells`, `records`, `plan` and `status` import nothing heavy; `cell` is what the notebooks
call.
"""

"""The command line: arguments to functions, nothing else."""

"""Who attacks what, and who sees what; worst cases over several attacks. One a file: see `mmcoa.attacks`."""

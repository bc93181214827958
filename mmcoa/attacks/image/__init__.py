"""Searches on pictures, one a file. What a file must hold: see `mmcoa.attacks`."""

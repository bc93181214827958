"""Settings of a Slurm cluster: a YAML file of Snakemake options, such as slurm.yaml beside this file, read and checked."""

from pathlib import Path

import yaml

from mmcoa.errors import UserError, unknown

RULES = ("pretrain", "train", "evaluate")
# Options whose value may be a mapping; Snakemake passes over any other mapping in silence.
OF_RULES = ("set-resources", "set-threads")
MAPPINGS = (*OF_RULES, "default-resources", "resources", "set-scatter", "set-resource-scopes", "groups", "group-components")
OURS = ("snakefile", "configfile", "executor", "directory", "cores", "workflow-profile", "profile")  # `mmcoa run` sets them


def read_cluster(path):
    """The options in a cluster's file, as a dict.

    Raises `UserError` for what Snakemake would ignore or `mmcoa run` sets itself.
    """
    path = Path(path)
    try:
        options = yaml.safe_load(path.read_text(encoding="utf8"))
    except FileNotFoundError as error:
        raise UserError(f"no cluster file {path}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from error
    if not isinstance(options, dict):
        raise UserError(f"{path}: a cluster file is a mapping of Snakemake options, such as jobs: 20")
    for option, value in options.items():
        if option in OURS:
            raise UserError(f"{path}: '{option}' is set by mmcoa run; remove it")
        if isinstance(value, dict) and option not in MAPPINGS:
            raise UserError(f"{path}: {unknown('option with a mapping', option, MAPPINGS)}")
        for rule in value if option in OF_RULES and isinstance(value, dict) else ():
            if rule not in RULES:
                raise UserError(f"{path}: {unknown('rule', rule, RULES)}")
    return options

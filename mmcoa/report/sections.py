"""Which parts of a report notebook a study has results for.

Cells are tagged `needs-KEY` or `lacks-KEY`. Before a notebook runs, the book leaves out the cells whose needs are not met and
those that stand in for something that is there: so a small profile builds, and its page says what it lacks.
"""

import nbformat

from mmcoa.report import ablations, growth, published, strength, sweeps, training
from mmcoa.report.names import SWEEPS


def available(study, results="results"):
    """Keys of what can be shown; `results`: the folder of all results.

    Sweeps by name, where they hold the undefended model; `search` (steps or restarts), `all-sweeps`; `edits` (prompts with
    two changed words); `checks`, `gaps`, `text-gaps`; `strength`, `prompts`, `predictions` (comparisons with other
    implementations), `speed` and `cost`; `training-logs`, `held-out`; `paper-tables`; and those of `ablations.keys`.
    """
    keys = {name for name in SWEEPS if any("none" in set(part.rows.method) for part in study.sweeps.get(name, {}).values())}
    has = {
        "search": bool({"steps", "restarts"} & keys),
        "all-sweeps": set(SWEEPS) <= keys,
        "edits": "budget" in keys and sweeps.longest_edit(study) > 1,
        "checks": len(strength.checks(study)),
        "gaps": "attacks" in keys and len(strength.gaps(study)),
        "text-gaps": "source" in keys and len(strength.text_gaps(study)),
        "strength": len(strength.comparisons(results)),
        "prompts": len(strength.same_prompts(results)),
        "predictions": len(strength.clean_table(results)),
        "speed": len(strength.speed(results)),
        "cost": len(growth.cost(results)),
        "training-logs": len(training.logs(study, results)),
        "held-out": len(training.held_out(study)),
        "paper-tables": len(published.paper()),
    }
    return keys | {key for key, there in has.items() if there} | ablations.keys(results)


def fits(cell, keys):
    """Whether a cell stays, given the keys of what can be shown."""
    tags = cell.metadata.get("tags", [])
    needs = {tag.removeprefix("needs-") for tag in tags if tag.startswith("needs-")}
    lacks = {tag.removeprefix("lacks-") for tag in tags if tag.startswith("lacks-")}
    return needs <= keys and not lacks & keys


def write_fitting(notebook, path, keys):
    """Write the notebook without the cells that do not fit, and return the path."""
    content = nbformat.read(notebook, as_version=4)
    content.cells = [cell for cell in content.cells if fits(cell, keys)]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(content, path)
    return path

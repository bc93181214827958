"""Which parts of a report notebook a study has results for.

Cells are tagged `needs-KEY` or `lacks-KEY`. Before a notebook runs, the book leaves out the cells whose needs are not met and
those that stand in for something that is there: so a small study builds, and its page says what it lacks. Where the first cell,
the title, is left out, so is the page.
"""

import nbformat

from mmcoa.report import (
    ablations,
    at_test,
    comparisons,
    gallery,
    growth,
    in_distribution,
    learning_rates,
    published,
    strength,
    sweeps,
    tasks,
    variants,
    worked,
)
from mmcoa.report.names import SWEEPS


def available(study, results="results", variant=None):
    """Keys of what can be shown; `results`: the folder of all results; `variant`: study of the same data with another base
    model.

    Sweeps by name, where they hold the undefended model; `search` (steps or restarts), `all-sweeps`; `edits` (prompts with
    two changed words); `checks`, `at-test` (test-time defences), `gaps`, `text-gaps`; `strength`, `prompts`, `predictions`
    (comparisons with other implementations), `speed` and `cost`; `training-logs`, `held-out`; `paper-tables`;
    `in-distribution`, `few-shot`; `gallery`, `examples` and `example` (pictures of it, see worked.py); `learning-rates` (tuning
    for the same base model);
    `epsilon-methods` and `attacks-methods` (sweeps over epsilon and over all attacks with defended models); `variants`; and
    those of `ablations.keys`.
    """
    every, study = study, tasks.everywhere(study)
    keys = {name for name in SWEEPS if any("none" in set(part.rows.method) for part in study.sweeps.get(name, {}).values())}
    folder = gallery.folder_of(study.name, results)
    shown = gallery.load(folder) if gallery.there(folder) else None
    has = {
        "search": bool({"steps", "restarts"} & keys),
        "all-sweeps": set(SWEEPS) <= keys,
        "edits": "budget" in keys and sweeps.longest_edit(study) > 1,
        "checks": len(every.checks),
        "at-test": at_test.there(every),
        "gaps": "attacks" in keys and strength.pairs(sweeps.one(study, "attacks")),
        "text-gaps": "source" in keys and len(study.sweep("source")) > 1,
        "strength": len(comparisons.robust(results)),
        "prompts": len(comparisons.same_prompts(results)),
        "predictions": len(comparisons.clean_table(results)),
        "speed": len(comparisons.speed(results)),
        "cost": len(growth.cost(results)),
        "training-logs": len(study.logs),
        "held-out": study.training.held_out_samples.notna().any(),
        "paper-tables": len(published.paper()),
        "gallery": shown,
        "examples": shown and worked.broken(shown),
        "example": shown and worked.choose(shown),
        "learning-rates": len(learning_rates.trained(study, results)),
        "in-distribution": in_distribution.there(every),
        "few-shot": in_distribution.few_shot(every),
        "epsilon-methods": len(sweeps.methods_of(study, "epsilon")) > 1,
        "attacks-methods": len(sweeps.methods_of(study, "attacks")) > 1,
        "variants": variants.there(variant, results),
    }
    return keys | {key for key, there in has.items() if there} | ablations.keys(results)


def fits(cell, keys):
    """Whether a cell stays, given the keys of what can be shown."""
    tags = cell.metadata.get("tags", [])
    needs = {tag.removeprefix("needs-") for tag in tags if tag.startswith("needs-")}
    lacks = {tag.removeprefix("lacks-") for tag in tags if tag.startswith("lacks-")}
    return needs <= keys and not lacks & keys


def fitting(notebook, keys):
    """The notebook's content without the cells that do not fit; None where its first cell, the title, does not."""
    content = nbformat.read(notebook, as_version=4)
    if not fits(content.cells[0], keys):
        return None
    content.cells = [cell for cell in content.cells if fits(cell, keys)]
    return content

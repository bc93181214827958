"""A user's own class names and templates for a data set: files that count as they stand. Imports no torch.

names: one a line in label order; or `id name`, where ids are the data's class folders (`n01440764 tench`)
templates: one a line with {} for the name, as an ensemble; or JSON {class: [prompt, ...]}, as CuPL's
"""

import itertools
import json
import warnings
from dataclasses import dataclass
from pathlib import Path

from mmcoa.datasets.records import PromptRule
from mmcoa.errors import UserError, unknown
from mmcoa.prompts import clean_name, fill, record_prompts


@dataclass(frozen=True)
class Told:
    """Class names in label order, and what a result says of how its prompts came about."""

    names: list
    preset: str


def chosen_prompts(record, classes, names, preset, template=None, classnames=None, templates=None):
    """(lists of C prompts, one a template; `Told`) of a data set, by the user's own words where he gave some.

    Arguments:
        classes: what the data calls its classes; names: their names, both in label order.
        preset, template: of `mmcoa.prompts.record_prompts`.
        classnames, templates: files; default: those that the record found beside the data.
    """
    if template is not None and templates is not None:
        raise UserError("give one template or a file of templates, not both")
    classnames = classnames or record.options.get("classnames")
    templates = templates or (record.options.get("templates") if template is None else None)
    if preset != "reference" and templates is not None:
        raise UserError(f"'{record.name}' has templates of its own ({Path(templates).name}); leave out the preset '{preset}'")
    said, numbered = f"template: {template}" if template else preset, record.options.get("numbered", False)
    if classnames is not None:
        names = own_names(classnames, classes, numbered)
        openclip = record.openclip and record.openclip.model_copy(update={"names": None})
        as_they_stand = PromptRule(template=record.template, lower=False, keep="_-/")
        record = record.model_copy(update={"prompt": as_they_stand, "openclip": openclip})
    elif numbered:
        raise UserError(
            f"the classes of '{record.name}' are numbers; give their names: --classnames FILE, or classnames.txt in the folder"
        )
    if templates is None:
        sets = record_prompts(record, names, preset, template)
    else:
        rule, said = record.prompt, f"templates: {Path(templates).name}"
        spelled = [clean_name(name, rule.lower, rule.keep, rule.rewrite) for name in names]
        sets, note = own_prompts(templates, spelled, classes)
        if note:
            warnings.warn(note, stacklevel=3)
    said += f", names: {Path(classnames).name}" if classnames is not None else ""
    return sets, Told(list(names), said)


def own_names(path, classes, numbered=False):
    """Class names in label order from a file.

    Arguments:
        classes: what the data calls its classes, in label order.
        numbered: whether these are numbers: line i, from 0, names class i, and where they count from 0 all lines are classes.
    """
    lines = lines_of(path)
    first = {line.split(None, 1)[0]: line.split(None, 1)[1].strip() for line in lines if len(line.split(None, 1)) == 2}
    if set(classes) <= set(first):  # ids; classes that the data lacks are left out
        return [first[name] for name in classes]
    spelled = {clean_name(line): line for line in lines}
    if len(spelled) == len(lines) and {clean_name(name) for name in classes} == set(spelled):
        return [spelled[clean_name(name)] for name in classes]
    if classes == [str(number) for number in range(len(classes))] and len(lines) >= len(classes):
        return lines
    if numbered:
        start = 1 if sorted(int(name) for name in classes) == list(range(1, len(lines) + 1)) else 0
        if max(int(name) for name in classes) - start >= len(lines):
            raise UserError(f"{path} names {len(lines)} classes, but the data has labels up to {max(map(int, classes))}")
        return [lines[int(name) - start] for name in classes]
    if len(lines) != len(classes):
        raise UserError(f"{path} names {len(lines)} classes, the data has {len(classes)}; one line for each, or `id name`")
    return lines


def lines_of(path):
    """Lines of a file; a blank one between others would shift what follows, and is an error."""
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8-sig").rstrip().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if not lines:
        raise UserError(f"{path} is empty")
    if "" in lines:
        raise UserError(f"{path}: line {lines.index('') + 1} is blank, and every later name would belong to another class")
    return lines


def own_prompts(path, names, classes):
    """(lists of C prompts, one list a template, note or None) from a file of templates.

    Arguments:
        names: class names in label order, as prompts have them; classes: what the data calls these classes.

    Of JSON whose classes have different numbers of prompts, those with fewer are repeated in turn, and the note says so.
    """
    if not str(path).endswith(".json"):
        return [[fill(template, name) for name in names] for template in lines_of(path)], None
    try:
        told = json.loads(Path(path).read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(told, dict) or not all(_is_prompts(value) for value in told.values()):
        raise UserError(f"{path}: {{class: [prompt, ...]}} is expected, every list with at least one prompt")
    cleaned = {clean_name(name): prompts for name, prompts in told.items()}
    found = []
    for name, code in itertools.zip_longest(names, classes, fillvalue=""):
        prompts = told.get(name) or told.get(code) or cleaned.get(clean_name(name))
        if prompts is None:
            raise UserError(f"{path}: {unknown('class', name, told)}")
        found.append(prompts)
    counts = [len(prompts) for prompts in found]
    note = f"{path}: classes have {min(counts)} to {max(counts)} prompts; those with fewer are repeated in turn"
    sets = [[prompts[i % len(prompts)] for prompts in found] for i in range(max(counts))]
    return sets, note if min(counts) < max(counts) else None


def _is_prompts(value):
    return isinstance(value, list) and bool(value) and all(isinstance(prompt, str) and prompt.strip() for prompt in value)

"""Class names to prompts: cleaning and templates (protocol, table of prompt rules)."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from mmcoa.errors import UserError, unknown

PRESETS = ("reference", "openclip")


def clean_name(name: str, lower: bool = True, keep: str = "", rewrite: Iterable[tuple[str, str]] = ()) -> str:
    """The reference's cleaning: lower case; `_`, `-` and `/` become spaces.

    lower: False keeps the case; keep: which of the three characters stay; rewrite: (pattern, replacement) pairs, done first.
    """
    for pattern, replacement in rewrite:
        name = re.sub(pattern, replacement, name)
    name = "".join(" " if character in "_-/" and character not in keep else character for character in name)
    return (name.lower() if lower else name).strip()


def fill(template: str, name: str) -> str:
    """A template with a name in it, at `{}` or clip-benchmark's `{c}`."""
    if "{}" not in template and "{c}" not in template:
        raise UserError(f"template '{template}' has no {{}} for the class name")
    return template.replace("{c}", "{}").replace("{}", name)


def class_prompts(class_names: Iterable[str], template: str, **cleaning: Any) -> list[str]:
    """One prompt a class: the template with the cleaned name; `cleaning`: of `clean_name`."""
    return [fill(template, clean_name(name, **cleaning)) for name in class_names]


def record_prompts(
    record: Any, class_names: Iterable[str], preset: str = "reference", template: str | None = None
) -> list[list[str]]:
    """Prompts of a data set: a list of T lists of C prompts, T > 1 for an ensemble.

    Arguments:
        record: of the data set, a `mmcoa.datasets.records.Record`.
        class_names: C names in label order.
        preset: `reference`, the record's own rule, or `openclip`, the templates that CLIP was published with, as an ensemble,
            and CLIP's class names, as they are, where the record names some.
        template: the caller's own, with the record's cleaning.
    """
    rule = record.prompt
    cleaning = {"lower": rule.lower, "keep": rule.keep, "rewrite": rule.rewrite}
    if preset not in PRESETS:
        raise unknown("prompt preset", preset, PRESETS)
    if template is not None:
        return [class_prompts(class_names, template, **cleaning)]
    if preset == "reference":
        return [class_prompts(class_names, rule.template, **cleaning)]
    if record.openclip is None:
        raise UserError(f"'{record.name}' has no prompts of the preset 'openclip'; use the reference's, or --template")
    names = record.openclip.class_names() or [clean_name(name, **cleaning) for name in class_names]
    return [[fill(template, name) for name in names] for template in record.openclip.template_lines()]


def duplicate_prompts(prompts: Iterable[str]) -> list[str]:
    """Prompts that more than one class has, as the first has them: no classifier can tell those classes apart (trap E4).

    CLIP's tokenizer reads no capitals, so that `Crane` is `crane`.
    """
    prompts = list(prompts)
    first = {prompt.lower(): prompt for prompt in reversed(prompts)}
    return sorted(first[read] for read, count in Counter(map(str.lower, prompts)).items() if count > 1)

"""Class names to prompts: cleaning and templates (protocol, table of prompt rules)."""

import re
from collections import Counter

from mmcoa.errors import UserError


def clean_name(name):
    """The reference's cleaning: lower case; `_`, `-` and `/` become spaces."""
    return re.sub(r"[_\-/]", " ", name).lower().strip()


def class_prompts(class_names, template):
    """One prompt a class; the template's `{}` (or clip-benchmark's `{c}`) is replaced by the cleaned name."""
    if "{}" not in template and "{c}" not in template:
        raise UserError(f"template '{template}' has no {{}} for the class name")
    return [template.replace("{c}", "{}").replace("{}", clean_name(name)) for name in class_names]


def duplicate_prompts(prompts):
    """Prompts that more than one class has: no classifier can tell those classes apart (trap E4)."""
    return sorted(prompt for prompt, count in Counter(prompts).items() if count > 1)

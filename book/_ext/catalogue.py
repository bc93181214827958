"""Sphinx extension: `{catalogue} WHAT` in a page becomes a table of what the package has, from its records.

WHAT: `attacks` and their sources; `knowledge`, which attack changes and knows what; `defences`.
"""

from sphinx.util.docutils import SphinxDirective

from mmcoa import defenses
from mmcoa.attacks.catalog import ATTACKS
from mmcoa.report.names import attack_label, changes_what


def setup(app):
    app.add_directive("catalogue", Catalogue)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


class Catalogue(SphinxDirective):
    """A table made of the records, in MyST: one line an attack or a defence."""

    required_arguments = 1

    def run(self):
        self.env.note_reread()  # a page is read again where a record may have changed, its own text or not
        return self.parse_text_to_nodes(markdown(self.arguments[0]))


def markdown(what):
    """The lines of the table."""
    lines = {"attacks": attacks, "knowledge": knowledge, "defences": listed_defences}[what]()
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def attacks():
    yield from (("attack", "what", "source"), ("---", "---", "---"))
    yield from ((f"`{attack.name}`", attack.summary, attack.source) for attack in ATTACKS.values())


def knowledge():
    yield from (("attack", "in tables", "changes", "knows", "the image attack sees"), ("---",) * 5)
    for name, attack in ATTACKS.items():
        yield f"`{name}`", attack_label(name), changes_what(name), attack.knows, seen(attack)


def seen(attack):
    """Which prompts a search on pictures knows."""
    if not attack.image:
        return "–"
    if attack.sees != "clean":
        return "the adversarial prompts"
    return "the clean prompts" if "label" in attack.knows else "no prompts"


def listed_defences():
    yield from (("defence", "what"), ("---", "---"))
    yield from ((f"`{name}`", defenses.describe(name)) for name in defenses.names())

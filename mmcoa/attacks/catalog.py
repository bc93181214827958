"""The attacks by name: what they perturb, what they use of the threat model, where they come from.

Filled from the records in `image/` and `protocol/`, which are read as text: lists must not wait for torch.
"""

import ast
import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mmcoa.attacks import image, protocol
from mmcoa.errors import UserError, unknown
from mmcoa.threat import ThreatModel, in_words, preset

PACKAGES = (image, protocol)
FIELDS = tuple(item.name for item in fields(ThreatModel))


@dataclass(frozen=True)
class Attack:
    """One attack, or with `parts` the per-sample worst case of several.

    name, summary, source: for lists; label, knows: as reports call it and what the adversary must know for it.
    version: raised when the outcomes change.
    uses: fields of the threat model that count for it; those of its search and of its prompts need not be repeated.
    fixed: {field of the threat model: value, or the field whose value it takes} where it allows no choice.
    default: {field: value} where the threat model leaves it at 0.
    preset: of the threat model, see `mmcoa.threat.preset`.
    image: the attack whose search perturbs the pictures, by default the file's own; None where pictures stay as they are.
    sees, judged: prompts that the search knows, and that the prediction is made with: `clean`, or an attack on prompts.
    budget: field that counts the steps of the search; None where it takes one.
    parts: names of the attacks of a worst case, cheapest first.
    classes: least number of classes; stand_in: the attack that takes its place in a worst case where there are fewer.
    train_pictures: whether it learns from labelled pictures of the train split.
    class_names: whether its search on pictures is handed the names of the classes.
    order: place in lists and tables.
    module, line: where it is defined: the module, and the line of its version in `path`.
    """

    name: str
    summary: str
    source: str
    label: str
    knows: str
    version: int
    uses: tuple = ()
    fixed: dict = field(default_factory=dict, hash=False)
    default: dict = field(default_factory=dict, hash=False)
    preset: str = "protocol"
    image: str | None = None
    sees: str = "clean"
    judged: str = "clean"
    budget: str | None = "steps"
    parts: tuple = ()
    classes: int = 1
    stand_in: str | None = None
    train_pictures: bool = False
    class_names: bool = False
    order: int = 50
    module: str = ""
    path: str = ""
    line: int = 0

    @property
    def text(self):
        """Whether prompts are perturbed."""
        return self.judged != "clean" or any(ATTACKS[part].text for part in self.parts)

    @property
    def search(self):
        """What names the search on pictures; attacks that share it search once."""
        return self.image, self.sees, self.preset, *sorted(self.fixed.items())

    def load(self):
        """The module of its file, with the function `attack` or `prompts`."""
        return importlib.import_module(self.module)

    def under(self, threat: ThreatModel) -> ThreatModel:
        """The threat model as this attack takes it: with its preset, and what it fixes."""
        threat = preset(threat, self.preset)
        values = {name: getattr(threat, value) if value in FIELDS else value for name, value in self.fixed.items()}
        if "target" not in self.uses:
            threat = threat.changed(target=None)
        open_ = [name for name in self.default if not getattr(threat, name) and name not in threat.idle]
        values |= {name: self.default[name] for name in open_}
        return threat.changed(**values)

    def settings(self, threat: ThreatModel, parts: Sequence[str] | None = None, classes: int | None = None) -> dict[str, Any]:
        """{field: value} of what it uses of a threat model; `parts`, `classes`: where some are left out, of the data set.

        Of a worst case what its parts use: where their values differ, the largest number, or all words joined by `and`.
        """
        if self.parts:
            found = [find(part).settings(threat, classes=classes) for part in parts or self.parts]
            values = {name: [one[name] for one in found if name in one] for name in FIELDS}
            return {name: _together(value) for name, value in values.items() if value}
        taken = self.under(threat)
        idle = taken.idle - ({"attacker_images"} if self.train_pictures else set())
        used = {name: getattr(taken, name) for name in FIELDS if name in self.uses and name not in idle}
        if classes and used.get("targets"):
            used["targets"] = min(used["targets"], classes - 1)
        return used

    def describe(self, threat: ThreatModel, parts: Sequence[str] | None = None, classes: int | None = None) -> str:
        """One sentence about what the adversary may do here; arguments as `settings`."""
        words = in_words(self.settings(threat, parts, classes))
        if not words or (self.image and "epsilon" not in self.uses):  # no ball says what becomes of the picture
            words = "; ".join(filter(None, (self.summary, words)))
        return f"worst case of {_listed(parts or self.parts)}: {words}" if self.parts else words


def find(name: str) -> Attack:
    """The `Attack` of that name; `UserError` with the nearest names otherwise."""
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    return ATTACKS[name]


def usable_parts(attack: Attack, classes: int, joint: bool = True) -> tuple[str, ...]:
    """Parts of an attack that exist for a data set: of so many classes; joint: with a train split to learn from."""
    usable = []
    for part in map(find, attack.parts or (attack.name,)):
        while part is not None and classes < part.classes:
            part = find(part.stand_in) if part.stand_in else None
        if part is not None and (joint or not part.train_pictures):
            usable.append(part.name)
    return tuple(usable)


def versions(names: Iterable[str]) -> dict[str, int]:
    """{name: version} of attacks and of all that their outcomes rest on: parts, stand-ins, searches, prompts."""
    found, open_ends = {}, list(names)
    while open_ends:
        attack = find(open_ends.pop())
        if attack.name not in found:
            found[attack.name] = attack.version
            behind = (attack.image, attack.sees, attack.judged, attack.stand_in, *attack.parts)
            open_ends += [name for name in behind if name not in (None, "clean")]
    return {name: found[name] for name in sorted(found)}


def collect() -> dict[str, Attack]:
    """{name: Attack} from all files, in the order of lists. Raises `UserError` for a record that is none."""
    found = {}
    for package in PACKAGES:
        for path in sorted(path for folder in package.__path__ for path in Path(folder).glob("[!_]*.py")):
            attack = read(path, f"{package.__name__}.{path.stem}")
            if attack.name in found:
                raise UserError(f"{path}: attack '{attack.name}' is defined in {found[attack.name].path} too")
            found[attack.name] = attack
    whole = [_with_what_is_behind(attack, found) for attack in found.values()]
    return {attack.name: attack for attack in sorted(whole, key=lambda attack: (attack.order, attack.name))}


def read(path: str | Path, module: str) -> Attack:
    """The `Attack` that a file's record states, by itself; `UserError` where there is none or it does not fit."""
    body = ast.parse(Path(path).read_text(encoding="utf8")).body
    calls = [node.value for node in body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "ATTACK"]
    if len(calls) != 1 or not isinstance(calls[0], ast.Call):
        raise UserError(f"{path}: an attack's file assigns ATTACK = dict(name=..., ...) once; see mmcoa/attacks/__init__.py")
    try:
        record = {str(item.arg): ast.literal_eval(item.value) for item in calls[0].keywords}
        attack = Attack(**record, module=module, path=str(path))
    except (ValueError, TypeError) as error:  # no literal; a key that is unknown or missing
        raise UserError(f"{path}: record of an attack: {str(error).replace('Attack.__init__() ', '')}") from error
    for name in {*attack.uses, *attack.fixed, *attack.default} - {*FIELDS}:
        raise unknown(f"field of the threat model in {path}", name, FIELDS)
    (line,) = (item.value.lineno for item in calls[0].keywords if item.arg == "version")
    searches = any(isinstance(node, ast.FunctionDef) and node.name == "attack" for node in body)
    return replace(attack, line=line, image=attack.name if searches else attack.image)


def _with_what_is_behind(attack: Attack, found: dict[str, Attack]) -> Attack:
    """The attack with what its search, its prompts and its parts use and fix."""
    names = [name for name in (attack.image, attack.sees, attack.judged, *attack.parts) if name not in (None, attack.name)]
    for name in [*names, *([attack.stand_in] if attack.stand_in else [])]:
        if name not in found:
            raise unknown(f"attack in {attack.path}", name, found)
    behind = [_with_what_is_behind(found[name], found) for name in names]
    uses = {name for one in (attack, *behind) for name in one.uses}
    of_its_own = [] if attack.parts else behind  # each part goes on with what it fixes
    fixed, default = (
        {k: v for one in (*of_its_own, attack) for k, v in getattr(one, kind).items()} for kind in ("fixed", "default")
    )
    budget = found[attack.image].budget if attack.image else attack.budget
    train_pictures = attack.train_pictures or any(one.train_pictures for one in of_its_own)
    return replace(
        attack,
        uses=tuple(name for name in FIELDS if name in uses),
        fixed=fixed,
        default=default,
        budget=budget,
        train_pictures=train_pictures,
    )


def _together(values: list[Any]) -> Any:
    """One value for several parts."""
    distinct = list(dict.fromkeys(values))
    if len(distinct) == 1:
        return distinct[0]
    return " and ".join(sorted(distinct)) if all(isinstance(value, str) for value in distinct) else max(distinct)


def _listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


ATTACKS = collect()

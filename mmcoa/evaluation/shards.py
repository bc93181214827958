"""One evaluation in parts, for several GPUs or the jobs of a cluster: `mmcoa evaluate --shard I/N`, then `mmcoa merge`.

Shard I of N has the samples I, I + N, I + 2N, ... of the data set's order, so that each is a fair sample of the whole. What is
computed once for a data set (its digest, attacked prompts) is computed in each; self-checks are made by the first alone.
A part is two files beside the output: OUTPUT.I-of-N.json and OUTPUT.I-of-N.parquet.
"""

import glob
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from mmcoa.errors import UserError
from mmcoa.evaluation import at_test
from mmcoa.evaluation.outcomes import read_outcomes
from mmcoa.evaluation.rows import counted
from mmcoa.store.files import write_atomic, write_json


@dataclass(frozen=True)
class Shard:
    """Part `number`, from 1 to `count`; `UserError` outside."""

    number: int
    count: int

    def __post_init__(self):
        if not 1 <= self.number <= self.count:
            raise UserError(f"shard {self} does not exist: I of I/N goes from 1 to N")

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, dataset):
        """Its samples, a `Dataset`."""
        if self.count > len(dataset):
            raise UserError(f"{self.count} shards of {len(dataset)} samples: some would be empty; take fewer")
        return dataset.take(slice(self.number - 1, None, self.count))

    def beside(self, output: Path) -> Path:
        """Where its part of an evaluation with this output lies."""
        return output.with_name(f"{output.stem}.{self.number}-of-{self.count}.json")


def parse(text: str) -> Shard:
    """`3/8` -> `Shard`."""
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
    if not found:
        raise UserError(f"a shard is I/N with I from 1 to N, such as 3/8, got '{text}'")
    return Shard(int(found[1]), int(found[2]))


@dataclass
class Part:
    """What one shard found.

    Attributes:
        samples: of the whole evaluation; evaluation: JSON value that says what is evaluated, one item a threat model.
        rows: result rows of this part; their `check` is the verdict of the self-checks alone.
        outcomes: DataFrame, one row a sample and threat model.
    """

    shard: Shard
    samples: int
    evaluation: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    outcomes: pd.DataFrame

    def write(self, path: Path) -> None:
        """The two files; the JSON comes last and says that both are there."""
        write_atomic(path.with_suffix(".parquet"), lambda temporary: self.outcomes.to_parquet(temporary, index=False))
        about = {"shard": str(self.shard), "samples": self.samples, "evaluation": self.evaluation, "rows": self.rows}
        write_json(path, about, indent=1)


def read_part(path: Path) -> Part:
    """A part from its files; `UserError` where they are none."""
    try:
        about = json.loads(path.read_text(encoding="utf8"))
        shard, *rest = (about[key] for key in ("shard", "samples", "evaluation", "rows"))
    except FileNotFoundError as error:
        raise UserError(f"no {path}; `mmcoa evaluate --shard I/N --output` writes it") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no part of an evaluation; `mmcoa evaluate --shard I/N --output` writes one") from error
    return Part(parse(shard), *rest, read_outcomes(path.with_suffix(".parquet")))


def parts_beside(output: Path) -> list[Path]:
    """The parts that lie beside an output."""
    pattern = re.compile(re.escape(output.stem) + r"\.\d+-of-\d+\.json")
    found = output.parent.glob(f"{glob.escape(output.stem)}.*-of-*.json")
    paths = sorted(path for path in found if pattern.fullmatch(path.name))
    if not paths:
        raise UserError(f"no parts of {output} beside it; `mmcoa evaluate --shard I/N --output {output}` writes them")
    return paths


def merge(parts: dict[str, Part]) -> tuple[list[dict[str, Any]], pd.DataFrame]:
    """(rows, outcomes) as one run gives them, `seconds` added up.

    Arguments:
        parts: {what a message calls it: `Part`}.

    Raises `UserError` where one is missing, comes twice, is damaged, or belongs to another evaluation.
    """
    first, *others = parts
    one = parts[first]
    for name in others:
        differ = differing(one, parts[name])
        if differ:
            raise UserError(f"{first} and {name} are not of one evaluation: they differ in {', '.join(differ)}")
    by_number: dict[int, str] = {}
    for name, part in parts.items():
        if part.shard.number in by_number:
            raise UserError(f"{by_number[part.shard.number]} and {name} are both shard {part.shard}")
        by_number[part.shard.number] = name
    missing = [str(number) for number in range(1, one.shard.count + 1) if number not in by_number]
    if missing:
        listed = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise UserError(f"of {one.shard.count} shards these are missing: {listed}")
    ordered = [parts[by_number[number]] for number in sorted(by_number)]
    threats = len(one.evaluation)
    frames = [pd.concat([placed(part, index, by_number) for part in ordered]) for index in range(threats)]
    frames = [frame.sort_index() for frame in frames]
    each = len(ordered[0].rows) // threats
    rows = [joined([part.rows[place] for part in ordered], frames[place // each]) for place in range(each * threats)]
    return rows, pd.concat(frames, ignore_index=True)


def differing(one: Part, other: Part) -> list[str]:
    """What two parts must have in common and have not, as words."""
    found = [] if one.shard.count == other.shard.count else [f"the number of shards ({one.shard.count}, {other.shard.count})"]
    found += [] if one.samples == other.samples else [f"samples ({one.samples}, {other.samples})"]
    if len(one.evaluation) != len(other.evaluation):
        return [*found, "the number of threat models"]
    pairs = zip(one.evaluation, other.evaluation, strict=True)
    keys = dict.fromkeys(key for a, b in pairs for key in [*a, *b] if a.get(key) != b.get(key))
    return found + list(keys)


def placed(part: Part, threat: int, names: dict[int, str]) -> pd.DataFrame:
    """Its outcomes under one threat model, indexed by their places in the whole."""
    frame = part.outcomes
    frame = frame[frame.threat == threat] if "threat" in frame else frame
    places = range(part.shard.number - 1, part.samples, part.shard.count)
    if len(frame) != len(places):
        raise UserError(f"{names[part.shard.number]} has {len(frame)} outcomes of {len(places)} samples; evaluate it again")
    return frame.set_index(pd.Index(places))


def joined(rows: list[dict[str, Any]], outcomes: pd.DataFrame) -> dict[str, Any]:
    """One row from those of all shards in order: the first's, counted anew."""
    row = rows[0] | counted(outcomes, rows[0]["attack"])
    row["seconds"] = round(sum(each["seconds"] for each in rows), 3)
    row["device"] = ", ".join(dict.fromkeys(each["device"] for each in rows))
    return at_test.answered(row, outcomes) if "defense_at_test" in row else row

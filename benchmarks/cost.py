"""How the seconds of an evaluation grow: `python benchmarks/cost.py`. Embedded model, up to ten minutes on two busy cores.

One setting varies at a time, all others stay as in `Settings`; for each attack alone the time of `mmcoa.evaluate`, data and
model loaded before, no self-checks:

    samples   pictures of one data set
    classes   prompts to choose from: always the same pictures, of the first ten classes
    steps     of the image attack
    epsilons  in one evaluation, which searches once for each
    restarts  of the image attack

The repetitions of a part take turns over its points, so that a machine that gets busier hurts them alike. `seconds` is the
shortest of them, since whatever else a machine does only adds to it; beside it stand `median` and `longest`. `load` is the
machine's load average before the part. Writes FOLDER/<hardware>.csv after each part; a point that is there, with the same
settings and versions, is not measured again.
"""

import argparse
import csv
import os
import statistics
from dataclasses import dataclass, replace
from pathlib import Path

from common import hardware, short, slug, timed, versions, write_csv

import mmcoa
from mmcoa.datasets import openmoji_names
from mmcoa.errors import UserError
from mmcoa.model.loading import resolve_device
from mmcoa.runtime import tune_allocator
from mmcoa.threat import ThreatModel, format_epsilon

SETTINGS = (
    "what",
    "value",
    "attack",
    "dataset",
    "n",
    "classes",
    "steps",
    "restarts",
    "epsilons",
    "versions",
)  # what makes a point the same
COLUMNS = (
    *("what", "value", "attack", "seconds", "median", "longest", "dataset", "n", "classes", "steps", "restarts", "epsilons"),
    *("repetitions", "load", "versions", "hardware"),
)
ATTACKS = ("image", "text", "sequential")
SEARCHES = ("image", "sequential")  # those with steps and restarts


@dataclass(frozen=True)
class Settings:
    """Sizes. `QUICK`: seconds, to see that everything runs."""

    dataset: str = "openmoji/land-vehicles"
    n: int = 40
    steps: int = 10
    epsilons: tuple = ("2/255", "1/255", "4/255", "8/255")  # the first alone, where their number does not vary
    repetitions: int = 5
    samples: tuple = (20, 40, 80, 160)
    classes: tuple = (10, 25, 50, 100, 200, 400)
    some_steps: tuple = (1, 5, 10, 20, 50)
    counts: tuple = (1, 2, 4)  # of epsilons
    restarts: tuple = (1, 2, 4)


QUICK = Settings(
    n=4, steps=1, repetitions=1, samples=(2, 4), classes=(10, 12), some_steps=(1, 2), counts=(1, 2), restarts=(1, 2)
)
PARTS = ("samples", "classes", "steps", "epsilons", "restarts")


def points(part, settings):
    """[(value, attack, data set, threat models)] of a part."""
    base = mmcoa.load_dataset(settings.dataset, samples=max(settings.n, *settings.samples))
    threats = [ThreatModel(epsilon=epsilon, steps=settings.steps) for epsilon in settings.epsilons]
    few = base.prefix(settings.n)
    if part == "samples":
        found, attacks = [(n, base.prefix(n), threats[:1]) for n in settings.samples], ATTACKS
    elif part == "classes":
        found, attacks = [(count, among(count, settings.n), threats[:1]) for count in settings.classes], ATTACKS
    elif part == "steps":
        found, attacks = [(steps, few, [threats[0].changed(steps=steps)]) for steps in settings.some_steps], SEARCHES
    elif part == "epsilons":
        found, attacks = [(count, few, threats[:count]) for count in settings.counts], ATTACKS
    else:
        found, attacks = [(starts, few, [threats[0].changed(restarts=starts)]) for starts in settings.restarts], SEARCHES
    return [(value, attack, dataset, threats) for value, dataset, threats in found for attack in attacks]


def among(count, n):
    """The same `n` pictures of ten classes, with `count` classes to choose from. `UserError` where there are fewer."""
    parts = [mmcoa.load_dataset(name, samples=None if index == 0 else 1) for index, name in enumerate(openmoji_names())]
    names, prompts = ([item for part in parts for item in getattr(part, key)] for key in ("class_names", "prompts"))
    if len(names) < count:
        raise UserError(f"the data sets have {len(names)} classes, {count} were asked for")
    kept = parts[0].take((parts[0].labels < 10).nonzero()[:n, 0])
    return replace(kept, class_names=names[:count], prompts=prompts[:count])


def measure(part, settings, model, done, machine):
    """Rows of the points of a part that are not in `done`."""
    todo = []
    for value, attack, dataset, threats in points(part, settings):
        row = {"what": part, "value": value, "attack": attack, "dataset": dataset.name, "n": len(dataset)}
        row |= {"classes": len(dataset.prompts), "steps": threats[0].steps, "restarts": threats[0].restarts}
        row["epsilons"] = " ".join(format_epsilon(threat.epsilon) for threat in threats)
        row |= dict.fromkeys(("steps", "restarts"), 0) if attack == "text" else {}
        row |= {"repetitions": settings.repetitions, "load": load(), "versions": versions("mmcoa"), "hardware": machine}
        if key_of(row) not in done:
            todo.append(
                (row, lambda dataset=dataset, attack=attack, threats=threats: mmcoa.evaluate(model, dataset, [attack], threats))
            )
    if not todo:
        print(f"{part}: all points are there")
        return []
    times = [[] for _ in todo]
    for turn in range(settings.repetitions):
        for place, (_, function) in enumerate(todo):
            times[place].append(timed(function, model.device)[0])
        print(f"{part}: round {turn + 1} of {settings.repetitions}", flush=True)
    rows = []
    for (row, _), seconds in zip(todo, times, strict=True):
        found = {"seconds": min(seconds), "median": statistics.median(seconds), "longest": max(seconds)}
        row |= {name: short(value) for name, value in found.items()}
        print(
            f"{part} {row['value']}, {row['attack']}: {row['seconds']} s (median {row['median']}, longest {row['longest']})",
            flush=True,
        )
        rows.append(row)
    return rows


def key_of(row):
    return tuple(str(row[name]) for name in SETTINGS)


def load():
    """Processes that ran or waited in the last minute, on average; empty where the system does not say."""
    return f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""


def finished(path):
    """Keys of the points that a file holds."""
    if not path.is_file():
        return set()
    with path.open(newline="", encoding="utf8") as file:
        return {key_of(row) for row in csv.DictReader(file)}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="some of the parts")
    parser.add_argument("--output", type=Path, default=Path("results/cost"), metavar="FOLDER")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--again", action="store_true", help="measure points that are there once more")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, measures nothing; into FOLDER/quick")
    options = parser.parse_args(arguments)
    settings = QUICK if options.quick else Settings()
    device = str(resolve_device(options.device))
    machine = hardware(device)
    print(f"{machine}; {versions('mmcoa')}")
    path = options.output / ("quick" if options.quick else "") / f"{slug(machine)}.csv"
    model = mmcoa.load_model("openmoji-clip", device)
    for part in PARTS:
        if part in options.only:
            rows = measure(part, settings, model, set() if options.again else finished(path), machine)
            write_csv(path, rows, COLUMNS, key=("what", "value", "attack"))
    print(f"written: {path}")


if __name__ == "__main__":
    tune_allocator()
    main()

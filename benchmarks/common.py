"""What the benchmarks share: timing side by side, names of the machine and of what is installed, tables, CSV files."""

import csv
import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path

import torch

import mmcoa
from mmcoa.datasets import Dataset, openmoji_names
from mmcoa.runtime import tune_allocator, usual_allocator


def pooled(samples):
    """A `Dataset` of about so many test pictures of the fifteen OpenMoji data sets, with the classes of all of them.

    Some hundred classes, where one data set has 21 to 50: a harder task, in which attacks differ more.
    """
    parts = [mmcoa.load_dataset(name, samples=max(1, samples // len(openmoji_names()))) for name in openmoji_names()]
    names = [name for part in parts for name in part.class_names]
    prompts = [prompt for part in parts for prompt in part.prompts]
    first = [sum(len(part.class_names) for part in parts[:i]) for i in range(len(parts))]
    labels = torch.cat([part.labels + start for part, start in zip(parts, first, strict=True)])
    images = torch.cat([part.images[:] for part in parts])
    return Dataset("openmoji, 15 data sets pooled", "test", images, labels, names, prompts, torch.arange(len(labels)))


def race(ours, baseline, repeats, baseline_repeats=None, device="cpu"):
    """Run two functions without arguments in turn: (shortest seconds of ours, of the baseline, result of ours, of theirs).

    In turn, so that a machine that gets slower or busier hurts both. `baseline_repeats` may be smaller: it takes minutes. The
    baseline runs with the memory allocator as a process has it that does not tune it.
    """
    if baseline_repeats is None:
        baseline_repeats = repeats
    times, results = ([], []), [None, None]
    for turn in range(max(repeats, baseline_repeats)):
        for side, (function, count) in enumerate(((ours, repeats), (baseline, baseline_repeats))):
            if turn < count:
                results[side] = None  # the last result must not make this run slower
                seconds, results[side] = timed(function, device) if side == 0 else usual(function, device)
                times[side].append(seconds)
    return min(times[0]), min(times[1]), *results


def usual(function, device="cpu"):
    """`timed` with the allocator's usual settings."""
    usual_allocator()
    try:
        return timed(function, device)
    finally:
        tune_allocator()


def timed(function, device="cpu"):
    """(seconds, result) of one call; on a GPU until its last kernel has ended."""
    synchronize(device)
    began = time.perf_counter()
    result = function()
    synchronize(device)
    return time.perf_counter() - began, result


def synchronize(device):
    """Wait until a GPU has done what it was told."""
    if str(device).startswith("cuda"):
        torch.cuda.synchronize()


UNITS = {"amx_bf16": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}  # flags of the kernel, the widest first


def hardware(device="cpu"):
    """`AMD EPYC, AVX-512, 2 cores, 2 threads`, or the name of the GPU.

    The widest units for vectors or matrices (AMX) are named: processors that call themselves alike differ twofold by them.
    """
    if str(device).startswith("cuda"):
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else ""
    if found := re.search(r"model name\s*:\s*(.+)", text):
        name = found[1].strip()
    name += next((f", {label}" for flag, label in UNITS.items() if flag in text), "")
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def slug(text):
    """`AMD EPYC, 2 cores` -> `amd-epyc-2-cores`, for file names."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def version(distribution):
    """Installed version of a distribution; `-` where it is not installed."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "-"


def versions(*distributions):
    """`python 3.11.7, torch 2.15.0, ...`."""
    named = [f"{name} {version(name)}" for name in ("torch", "open_clip_torch", *distributions)]
    return ", ".join([f"python {platform.python_version()}", *named])


def write_csv(path, rows, columns, key=None):
    """Write dicts as a CSV, whole or not at all. With `key` columns, rows of an older file that this run did not make stay."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = []
    if key and path.is_file():
        with path.open(newline="", encoding="utf8") as file:
            fresh = {tuple(str(row[name]) for name in key) for row in rows}
            kept = [row for row in csv.DictReader(file) if tuple(row.get(name) for name in key) not in fresh]
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="", encoding="utf8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept + list(rows))
    temporary.replace(path)


def print_table(rows, columns):
    """Plain aligned columns."""
    cells = [[str(row[name]) for name in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in [columns, *cells]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def short(number):
    """Three significant digits without an exponent: 0.0123, 4.56, 789, 12300 -> `12300`."""
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"


def line(what, setting, ours, baseline, unit, target, ratio=None):
    """One row; `ratio` is baseline / ours unless given."""
    if ratio is None and baseline is not None:
        ratio = baseline / ours
    values = {
        name: "" if value is None else short(value)
        for name, value in (("ours", ours), ("baseline", baseline), ("ratio", ratio))
    }
    row = {"what": what, "setting": setting, **values, "unit": unit, "target": target}
    print(
        f"{what}: {values['ours']} {unit}, baseline {values['baseline'] or '-'}, "
        f"ratio {values['ratio'] or '-'} (target {target or '-'})",
        flush=True,
    )
    return row


def require(same, what):
    """Stop where both sides did not compute the same thing: a ratio of different things means nothing."""
    if not same:
        raise SystemExit(f"not the same result: {what}; the speed is not reported")

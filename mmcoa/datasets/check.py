"""Is a data set ready? All that can be known about the files of a record, each as one finding, before hours are spent on them.

findings = check(find("cifar10"), root)
print(verdict(findings))                           # cifar10: ready (train 50,000, test 10,000 pictures)
"""

import importlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from mmcoa.datasets.order import split_by_path
from mmcoa.datasets.overlaps import overlaps_of
from mmcoa.datasets.own_words import chosen_prompts
from mmcoa.datasets.pictures import THREADS, sample_hash
from mmcoa.datasets.place import locate
from mmcoa.datasets.reading import check_classes, remedy
from mmcoa.datasets.records import class_list
from mmcoa.datasets.transforms import to_rgb
from mmcoa.errors import UserError
from mmcoa.prompts import duplicate_prompts

LOOKED_AT = 200  # pictures of a split that are decoded, unless all are


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    ok: None where nothing is expected of it. mend: what to do where it is wrong. split: empty where it concerns all of them.
    """

    what: str
    found: object
    expected: object = ""
    ok: bool | None = None
    mend: str = ""
    split: str = ""


def check(record, root=None, full=False, classnames=None, templates=None):
    """[Finding, ...] about the files of a record; what readers complain of is a finding too.

    root: folder of the data sets; default $MMCOA_DATA. full: decode every picture, not `LOOKED_AT` of each split.
    classnames, templates: files of the user's own, as `load_dataset` takes them.
    """
    findings = [Finding("data set", record.name)]
    try:
        reader, folder = locate(record, root)
    except UserError as error:
        return [*findings, _refused("folder", error, record)]
    where = "embedded" if folder is None else f"{folder} ({reader} layout)"
    findings.append(Finding("folder", where, ok=True))
    names = None
    if not record.splits:
        findings.append(Finding("splits", "none", "one at least", False, "a split is a folder with nshards.txt in it"))
    for split in record.splits:
        found, classes = _split(record, split, reader, folder, full)
        findings += found
        names = names or classes
        findings += [
            Finding("pictures that are in training of", f"{one.pictures:,} {one.other}", split=split)
            for one in overlaps_of(record.name, split)
        ]
    return findings + _prompts(record, names, classnames, templates)


def is_ready(findings):
    """Whether nothing is wrong."""
    return all(finding.ok is not False for finding in findings)


def verdict(findings):
    """One line: ready, with its pictures; or the first thing that is wrong, and what mends it."""
    name = findings[0].found
    for finding in findings:
        if finding.ok is False:
            what = f"{finding.split}: {finding.what}" if finding.split else finding.what
            expected = f", expected {_text(finding.expected)}" if finding.expected != "" else ""
            return f"{name}: NOT ready: {what}: {_text(finding.found)}{expected}{f'; {finding.mend}' if finding.mend else ''}"
    counts = [
        f"{finding.split} {finding.found:,}" for finding in findings if finding.what == "pictures" and finding.ok is not None
    ]
    absent = [finding.split for finding in findings if finding.what == "split" and finding.ok is None]
    missing = f"; not here: {', '.join(absent)}" if absent else ""
    return f"{name}: ready ({', '.join(counts)} pictures{missing})"


def _text(value):
    return f"{value:,}" if isinstance(value, int) else str(value)


def _mend(record):
    """The command that brings the files anew."""
    if record.download or record.hub:
        return f"mmcoa data get {record.name} --again"
    return record.manual or "copy the files again"


def _refused(what, error, record, split=""):
    """A reader's complaint, which says itself how to mend it, as a finding."""
    message, _, advice = str(error).rpartition("; ")
    return Finding(what, message or advice, ok=False, mend=advice if message else _mend(record), split=split)


def _split(record, split, reader, folder, full):
    """([Finding, ...] of one split, [class name] or None)."""
    official = record.splits[split] is not None or record.total is None
    module = importlib.import_module(f"mmcoa.datasets.{reader}")
    if split not in (record.proper_split, record.reference_split) and _is_absent(record, split, module, folder):
        return [Finding("split", "not there", split=split)], None
    try:
        source = module.read(record, split if official else "all", folder)
    except UserError as error:
        return [_refused("split", error, record, split)], None
    except Exception as error:  # whatever a damaged file leads a parser to
        return [Finding("split", f"unreadable: {type(error).__name__}: {error}", "", False, _mend(record), split)], None
    names, findings = _classes(record, source, split)
    expected = record.splits[split] if official else record.total
    if not official:
        findings.append(_count(record, len(source), expected, split, "pictures of all splits"))
        source = source.part(split_by_path(source.keys, split))
        expected = None
    findings.append(_count(record, len(source), expected, split))
    if not len(source):
        return findings, names
    findings += _labels(record, source, len(names) if names else record.classes, split)
    return findings + _pictures(record, source, split, full), names


def _is_absent(record, split, module, folder):
    """Whether a layout with a folder for each split lacks one: who only evaluates needs no training pictures."""
    if hasattr(module, "available_splits"):
        return split not in module.available_splits(folder)
    home = record.options.get("folders", {}).get(split)
    return home is not None and not (folder / home).is_dir()


def _count(record, found, expected, split, what="pictures"):
    ok = found > 0 if expected is None else found == expected
    return Finding(what, found, "" if expected is None else expected, ok, _mend(record), split)


def _classes(record, source, split):
    """([class name] or None, findings about the class list)."""
    known = class_list(record.names) if record.names else None
    names = [name for _, name in known] if known else source.classes
    count = len(names or ())
    findings = [Finding("classes", count, record.classes, count == record.classes, _mend(record), split)]
    if known and source.classes is not None and count == record.classes:
        try:
            check_classes(record, source, known, names)
            findings.append(Finding("class list", "as in the record", ok=True, split=split))
        except UserError as error:
            findings.append(Finding("class list", str(error).removesuffix(remedy(record)), "", False, _mend(record), split))
    return names, findings


def _labels(record, source, classes, split):
    low, high = int(source.labels.min()), int(source.labels.max())
    inside = low >= 0 and high < classes
    findings = [Finding("labels", f"{low} to {high}", f"within 0..{classes - 1}", inside, _mend(record), split)]
    if inside:
        counts = torch.bincount(source.labels, minlength=classes)
        few, many, none = int(counts.min()), int(counts.max()), int((counts == 0).sum())
        text = f"{few:,} each" if few == many else f"{few:,} to {many:,}{f', {none} classes without' if none else ''}"
        findings.append(Finding("pictures by class", text, split=split))
    return findings


def _pictures(record, source, split, full):
    """Findings that need decoded pictures."""
    try:
        found, known = sample_hash(source), record.sample.get(split)
        findings = [
            Finding("hash of the first pictures", found, known or "", found == known if known else None, _mend(record), split)
        ]
    except Exception as error:
        findings = [Finding("hash of the first pictures", f"unreadable ({_reason(error)})", "", False, _mend(record), split)]
    if source.pixels is not None:
        sides, looked, lost = Counter({tuple(source.pixels.shape[2:]): len(source)}), len(source), []
    else:
        count = len(source) if full else min(LOOKED_AT, len(source))
        places = np.random.default_rng(0).permutation(len(source))[:count]
        sides, looked, lost = _decode(source, sorted(places.tolist()))
    found = f"{len(lost)} of {looked:,}{': ' + ', '.join(lost[:3]) if lost else ''}"
    findings.append(
        Finding("unreadable pictures", found, "none", not lost, f"{_mend(record)}, or use --skip-unreadable", split)
    )
    if sides:
        findings.append(_sizes(record, sides, split))
    return findings


def _decode(source, places):
    """(Counter of (height, width), how many were looked at, [key of an unreadable one])."""

    def look(place):
        try:
            return np.asarray(to_rgb(source.decode(place))).shape[:2]
        except Exception:  # decoders raise whatever they like
            return None

    with ThreadPoolExecutor(THREADS) as pool:
        shapes = list(pool.map(look, places))
    lost = [source.keys[place] for place, shape in zip(places, shapes, strict=True) if shape is None]
    return Counter(shape for shape in shapes if shape is not None), len(places), lost


def _sizes(record, sides, split):
    """The shorter side counts: transforms bring it to the record's size, which must change nothing."""
    shorter = sorted({min(shape) for shape in sides})
    found = f"{shorter[0]}" if len(shorter) == 1 else f"{shorter[0]} to {shorter[-1]}"
    if len(sides) == 1:
        height, width = next(iter(sides))
        found = f"{width} x {height}"
    expected = record.size if record.size is not None else ""
    return Finding(
        "shorter side in pixels", found, expected, shorter == [record.size] if record.size else None, _mend(record), split
    )


def _prompts(record, names, classnames=None, templates=None):
    """Findings about the prompts that an evaluation takes; shared ones are told, not condemned: some rules have them."""
    if names is None:
        return []
    classes = [code for code, _ in class_list(record.names)] if record.names else names
    try:
        sets, _ = chosen_prompts(record, classes, names, "reference", None, classnames, templates)
        prompts = sets[0]
    except UserError as error:
        return [_refused("prompts", error, record)]
    shared = duplicate_prompts(prompts)
    findings = [Finding("prompts", len(prompts), record.classes, len(prompts) == record.classes, "correct the record")]
    if len(sets) > 1:
        findings.append(Finding("templates, an ensemble", len(sets)))
    return [*findings, Finding("prompts of more than one class", f"{len(shared)}{': ' + '; '.join(shared) if shared else ''}")]


def _reason(error):
    return str(error) or type(error).__name__

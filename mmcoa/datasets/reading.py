"""From a name to the samples of a split, complete and in the record's order, or an error. Imports torch only to read."""

import importlib
from pathlib import Path

from mmcoa.datasets.place import locate
from mmcoa.datasets.records import class_list, find_record, is_path
from mmcoa.errors import UserError, unknown
from mmcoa.prompts import clean_name


def find(name):
    """The record of a data set's name, or one made for `wds:FOLDER`, `wds:URL` and for a path (by_path.py)."""
    if name.startswith("wds:"):
        return _module("webdataset").folder_record(name.removeprefix("wds:"))
    if not is_path(name):
        return find_record(name)
    if any(Path(name).glob("*/nshards.txt")):
        return _module("webdataset").folder_record(name)
    return _module("by_path").record_of(name)


def _module(reader):
    """A reader, by name."""
    return importlib.import_module(f"mmcoa.datasets.{reader}")


def check_split(record, split):
    """`UserError` where a data set has no such split."""
    if split not in record.splits:
        raise unknown("split", split, record.splits)


def load_source(record, split, root=None, skip_unreadable=False):
    """(`Source` of one split, [class name]), complete: `UserError` where samples or classes are not those of the record.

    skip_unreadable: a damaged picture among the first, by which the record knows its data, is no error.
    """
    check_split(record, split)
    from mmcoa.datasets.order import split_by_path

    reader, folder = locate(record, root)
    official = record.splits[split] is not None or record.total is None
    source = _module(reader).read(record, split if official else "all", folder)
    known = class_list(record.names) if record.names else None
    names = [name for _, name in known] if known else source.classes
    expected = record.splits[split] if official else record.total
    check_classes(record, source, known, names)
    mend = remedy(record)
    if expected is not None and len(source) != expected:
        what = f"split '{split}'" if official else "pictures"
        raise UserError(
            f"{record.name}: {len(source):,} samples in {source.folder}, {what} of the record has {expected:,}{mend}"
        )
    if not official:
        source = source.part(split_by_path(source.keys, split))
    if not len(source):
        raise UserError(f"{record.name}: no sample of split '{split}' in {source.folder}{mend}")
    if split in record.sample:
        from mmcoa.datasets.pictures import UnreadablePicture, sample_hash

        try:
            found = sample_hash(source)
        except UnreadablePicture as error:
            if not skip_unreadable:
                raise UserError(f"{error}{mend}") from error
            found = record.sample[split]
        if found != record.sample[split]:
            raise UserError(f"{record.name}: other pictures in {source.folder} than the record's, or in another order{mend}")
    low, high = int(source.labels.min()), int(source.labels.max())
    if low < 0 or high >= len(names):
        raise UserError(
            f"{record.name}: labels {low} to {high} in {source.folder}, outside 0..{len(names) - 1}, "
            f"the range of its classes{mend}"
        )
    return source, names


def remedy(record):
    """How to find out more, at the end of a message."""
    return "" if record.name.startswith("wds:") or record.reader == "by_path" else f"; see: mmcoa data check {record.name}"


def check_classes(record, source, known, names):
    """`UserError` where the classes of the data are not those of the record, in its order.

    A WebDataset copy may spell them otherwise, mostly as CLIP does; half of them must be found in their places.
    """
    if len(names) != record.classes:
        raise UserError(
            f"{record.name}: {len(names)} classes in {source.folder}, the record has {record.classes}{remedy(record)}"
        )
    if not known or source.classes is None:
        return
    there, codes = list(source.classes), [code for code, _ in known]
    if source.copy:
        pretty = (record.openclip and record.openclip.class_names()) or names
        spellings = zip(there, names, pretty, strict=False)
        alike = sum(clean_name(one) in (clean_name(name), clean_name(other)) for one, name, other in spellings)
        wrong = len(there) != len(names) or alike < len(names) / 2
    else:
        wrong = there != codes
    if wrong:
        differ = sorted(set(there) ^ set(codes))[:3] if not source.copy else []
        raise UserError(
            f"{record.name}: classes in {source.folder} are not those of the record: "
            f"{', '.join(differ) or 'their order'}{remedy(record)}"
        )

"""Reader of data sets made of another one's classes: a test set of classes that the other one splits finer."""

from dataclasses import replace

import torch

from mmcoa.errors import UserError


def read(record, split, folder):
    """The same split of the data set `options.of`, with the labels of `options.classes`: {new class: [class of the other one]}.

    Samples of classes that none names are left out; a new class may have no sample. ids: a text file in the other one's folder
    with an id for each of its classes, where `classes` names those instead (two classes can share a name, no two an id).
    """
    from mmcoa.datasets.reading import find_record, load_source

    options = record.options
    source, names = load_source(find_record(options["of"]), split, folder)
    if "ids" in options:
        names = _ids(record, source.folder / options["ids"], len(names))
    to = torch.full((len(names),), -1)
    for label, merged in enumerate(options["classes"].values()):
        for name in merged:
            places = [i for i, other in enumerate(names) if other == name]
            if len(places) != 1 or to[places[0]] >= 0:
                what = f"is named {len(places)} times there" if len(places) != 1 else "is named twice in the record"
                raise UserError(f"{record.name}: class '{name}' of {options['of']} {what}; correct the record's `classes`")
            to[places[0]] = label
    labels = to[source.labels]
    index = (labels >= 0).nonzero().flatten()
    return replace(source.part(index), labels=labels[index], classes=list(options["classes"]))


def _ids(record, path, count):
    """An id for each of `count` classes, a line each."""
    try:
        ids = path.read_text(encoding="utf8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{record.name}: {path} is missing or no text; copy the folder again") from error
    if len(ids) != count:
        raise UserError(f"{record.name}: {path} has {len(ids)} ids for {count} classes; copy the folder again")
    return ids

"""Whose pictures may be shown: a published page needs a licence that allows it."""

from mmcoa.errors import UserError

# Beginning of a data set's name, or the whole of it -> who made the pictures, under which licence.
SHOWABLE = {
    "openmoji/": "Emoji glyphs: OpenMoji, the open-source emoji and icon project (openmoji.org), CC BY-SA 4.0",
    "photos/caltech101": "Photographs: Li, Andreeto, Ranzato and Perona, Caltech-101, 2022, CC BY 4.0",
}
PEOPLE = (
    "faces",
    "faces easy",
)  # classes of Caltech-101 that show people who can be recognised: allowed, but nobody has to be shown


def attribution(dataset):
    """Who made the pictures of a data set. Raises `UserError` where they may not be shown."""
    if not may_show(dataset):
        allowed = ", ".join(name + "*" * name.endswith("/") for name in SHOWABLE)
        raise UserError(
            f"pictures of '{dataset}' may not be shown: their licence does not allow it, or is not known; those of "
            f"{allowed} may"
        )
    return next(text for name, text in SHOWABLE.items() if matches(dataset, name))


def may_show(dataset):
    return any(matches(dataset, name) for name in SHOWABLE)


def matches(dataset, name):
    """Names that end with a slash stand for all data sets below; others for themselves alone."""
    return dataset.startswith(name) if name.endswith("/") else dataset == name


def shows_people(class_name):
    return class_name.lower().replace("_", " ") in PEOPLE

"""Numbers as the text of a page says them, which know the value that they were made of.

percent(61.31)         # "61.3 %"
points(-0.42)          # "−0.4"
interval(58.2, 64.1)   # "58.2–64.1"
"""

GAP = "\u00a0"  # a space at which no line breaks


class Said(str):
    """A text of the numbers `value`."""

    def __new__(cls, text, *values):
        made = super().__new__(cls, text)
        made.value = plain(values[0]) if len(values) == 1 else [plain(value) for value in values]
        return made


def percent(value):
    """`61.3 %`"""
    return Said(f"{written(float(value))}{GAP}%", value)


def points(value):
    """`+3.2`, `−0.4`; what rounds to nothing has no sign."""
    text = written(float(value))
    return Said(text if value < 0 or text == "0.0" else f"+{text}", value)


def interval(low, high, signed=False):
    """`58.2–64.1`; signed, for gains: `−0.4 to +3.2`."""
    ends = [points(end) if signed else written(float(end)) for end in (low, high)]
    return Said((f"{GAP}to{GAP}" if signed else "–").join(ends), low, high)


def written(value):
    """A number as the text has it, with a true minus sign; anything else as text."""
    value = plain(value)
    if isinstance(value, float):
        return "0.0" if abs(value) < 0.05 else f"{value:.1f}".replace("-", "−")
    return f"{value:,}".replace("-", "−") if type(value) is int else str(value)


def plain(value):
    """A number of numpy as one of Python."""
    return value.item() if hasattr(value, "item") else value

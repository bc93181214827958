"""Numbers as the text of a page says them, which know the value that they were made of.

percent(61.31)         # "61.3 %"
points(-0.42)          # "−0.4"
"""

GAP = "\u00a0"  # a space at which no line breaks


class Said(str):
    """A text of the number `value`."""

    def __new__(cls, text, value):
        made = super().__new__(cls, text)
        made.value = plain(value)
        return made


def percent(value):
    """`61.3 %`"""
    return Said(f"{written(float(value))}{GAP}%", value)


def points(value):
    """`+3.2`, `−0.4`; what rounds to nothing has no sign."""
    text = written(float(value))
    return Said(text if value < 0 or text == "0.0" else f"+{text}", value)


def written(value):
    """A number as the text has it, with a true minus sign; anything else as text."""
    value = plain(value)
    if isinstance(value, float):
        return "0.0" if abs(value) < 0.05 else f"{value:.1f}".replace("-", "−")
    return f"{value:,}".replace("-", "−") if type(value) is int else str(value)


def plain(value):
    """A number of numpy as one of Python."""
    return value.item() if hasattr(value, "item") else value

"""Values of settings: what type and range one has, and what a text means. Knows no setting itself and imports no torch."""

import math
from dataclasses import dataclass
from fractions import Fraction

from mmcoa.errors import UserError, unknown

WORDS = {True: ("true", "yes", "on", "1"), False: ("false", "no", "off", "0")}
NOTHING = ("none", "null", "")


@dataclass(frozen=True)
class Kind:
    """What a setting may be.

    type: int, float, str, bool, or tuple: numbers, as many as `length`.
    optional: None is allowed, and means what the setting says of it.
    least, above, below: a number (each of a tuple) is at least, or more, or less than this.
    choices: of a string, where it is one of a few.
    """

    type: type
    optional: bool = False
    least: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple = ()
    length: int | None = None

    def check(self, name, value):
        """The value in its type; `UserError` that names the setting otherwise. A number may be written as `2/255` or `1e-4`."""
        if value is None:
            if not self.optional:
                raise UserError(f"{name} needs a value: {self.said()}")
            return None
        if self.type is tuple:
            if not isinstance(value, list | tuple) or len(value) != (self.length or len(value)):
                raise UserError(f"{name} must be {self.said()}, got {value!r}")
            return tuple(self._number(name, each, float) for each in value)
        if self.type in (int, float):
            return self._number(name, value, self.type)
        if not isinstance(value, self.type):
            raise UserError(f"{name} must be {self.said()}, got {value!r}")
        if self.choices and value not in self.choices:
            raise unknown(name, value, self.choices)
        return value

    def parse(self, name, text):
        """What a text such as `0.2`, `true`, `none` or `0.9,0.98` means here; raises `UserError` like `check`."""
        text = text.strip()
        if self.optional and text.lower() in NOTHING:
            return None
        if self.type is bool:
            for value, words in WORDS.items():
                if text.lower() in words:
                    return value
            raise UserError(f"{name} must be {self.said()}, got {text!r}")
        if self.type is int and text.removeprefix("-").isdecimal():
            return self.check(name, int(text))
        return self.check(name, text.split(",") if self.type is tuple else text)

    def said(self):
        """The kind in words: `a whole number`."""
        if self.type is tuple:
            return f"{self.length or 'some'} numbers, such as 0.9,0.98"
        return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}[self.type]

    def _number(self, name, value, kind):
        try:
            if isinstance(value, bool) or (kind is int and not isinstance(value, int)):
                raise ValueError
            number = _float(value) if kind is float else value
            if not math.isfinite(number):
                raise ValueError
        except (ValueError, ZeroDivisionError, TypeError, OverflowError) as error:
            raise UserError(f"{name} must be {self.said()}, got {value!r}") from error
        if self.least is not None and number < self.least:
            raise UserError(f"{name} must be at least {self.least}, got {number}")
        if self.above is not None and number <= self.above:
            raise UserError(f"{name} must be more than {self.above}, got {number}")
        if self.below is not None and number >= self.below:
            raise UserError(f"{name} must be less than {self.below}, got {number}")
        return number


def _float(value):
    """2, 0.5, `1e-4` or `2/255` -> float."""
    over, slash, under = str(value).replace(" ", "").partition("/")
    return float(Fraction(over) / (Fraction(under) if slash else 1))

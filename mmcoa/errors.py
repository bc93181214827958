"""Errors a user can mend: the command line prints their text as one line and exits with code 2."""

import difflib


class UserError(Exception):
    """Something the caller said or supplied is wrong; the message says what, and how to mend it."""


def unknown(kind, name, valid):
    """`UserError` that names the valid names nearest to `name`."""
    valid = sorted(valid)
    near = difflib.get_close_matches(str(name), valid, n=4, cutoff=0.4)
    hint = f"nearest: {', '.join(near)}" if near else f"one of: {', '.join(valid[:20])}"
    return UserError(f"unknown {kind} '{name}'; {hint}")

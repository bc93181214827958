"""Candidate source `characters`: every single edit of a word's letters, whatever it spells (the family of LEAF and Charmer).

One letter left out, two neighbours swapped, one letter replaced or put in, letters a to z. A word of n letters has some
53 n of them; none is looked up anywhere, so that the source needs no data.
"""

import functools
from string import ascii_lowercase

from mmcoa.errors import UserError


@functools.lru_cache(maxsize=4096)
def single_edits(word):
    """All strings that are one edit away from a lower-case word, a list without the word itself, empty or double strings.

    The order is that of the places in the word; at each: left out, replaced, swapped with the next, put in before it.
    """
    found = []
    for i in range(len(word) + 1):
        before, rest = word[:i], word[i:]
        if rest:
            found.append(before + rest[1:])
            found += [before + letter + rest[1:] for letter in ascii_lowercase]
        if len(rest) > 1:
            found.append(before + rest[1] + rest[0] + rest[2:])
        found += [before + letter + rest for letter in ascii_lowercase]
    return [edit for edit in dict.fromkeys(found) if edit not in ("", word)]


def open_source(argument, prompts):
    """See `mmcoa.attacks.candidates.MODULES`."""
    if argument:
        raise UserError(f"candidate source 'characters:{argument}': characters takes nothing behind the colon")
    return lambda word, prompt, position: single_edits(word)

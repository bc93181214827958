"""Candidate source `characters`: every single edit of a word's letters, whatever it spells (the family of LEAF and Charmer).

One letter left out, two neighbours swapped, one letter replaced or put in, letters a to z. A word of n letters has some
53 n of them; none is looked up anywhere, so that the source needs no data.

`characters:nonword` leaves out each edit that is a word again, the constraint of LEAF (Rocamora et al., 2025): "bat" for "cat"
is another label, not a typing error. A word is what the package's table holds or CLIP's tokenizer has as one whole token: over
30,000 in all, the same wherever it runs. Rare words are missing, and CLIP's tokens are no dictionary: names and shreds such
as "ct" count too.
"""

import functools
from string import ascii_lowercase

from mmcoa.attacks.candidates import caption_table
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
    if not argument:
        return lambda word, prompt, position: single_edits(word)
    if argument != "nonword":
        raise UserError(f"candidate source 'characters:{argument}': characters takes nothing behind the colon but nonword")
    known = vocabulary()
    return lambda word, prompt, position: [edit for edit in single_edits(word) if edit not in known]


@functools.cache
def vocabulary():
    """Words, lower case: of the package's table, and whole tokens of letters a to z of CLIP's tokenizer."""
    from open_clip.tokenizer import SimpleTokenizer  # seconds, and `characters` alone needs none

    tokens = (token.removesuffix("</w>") for token in SimpleTokenizer().encoder if token.endswith("</w>"))
    table = (word for entry in caption_table().items() for word in (entry[0], *entry[1]))
    return frozenset(word for word in (*tokens, *table) if word.isascii() and word.isalpha())

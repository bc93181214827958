"""Words of a prompt: where they are and which of them an attacker may change.

A prompt is split at spaces. Each word keeps what surrounds its letters (`"food."` -> core `food`, suffix `.`), so that a
substitution leaves punctuation alone and a stop word is recognised whatever its case (traps X1, X2).
"""

import re
from dataclasses import dataclass

from mmcoa.errors import UserError
from mmcoa.prompts import clean_name

STOP_WORDS = frozenset(
    [
        "a",
        "about",
        "above",
        "after",
        "again",
        "all",
        "am",
        "an",
        "and",
        "any",
        "are",
        "as",
        "at",
        "be",
        "because",
        "been",
        "before",
        "being",
        "below",
        "between",
        "both",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "doing",
        "down",
        "during",
        "each",
        "few",
        "for",
        "from",
        "further",
        "had",
        "has",
        "have",
        "having",
        "he",
        "her",
        "here",
        "hers",
        "him",
        "his",
        "how",
        "i",
        "if",
        "in",
        "into",
        "is",
        "it",
        "its",
        "just",
        "me",
        "more",
        "most",
        "my",
        "no",
        "nor",
        "not",
        "now",
        "of",
        "off",
        "on",
        "once",
        "only",
        "or",
        "other",
        "our",
        "out",
        "over",
        "own",
        "same",
        "she",
        "should",
        "so",
        "some",
        "such",
        "than",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "these",
        "they",
        "this",
        "those",
        "through",
        "to",
        "too",
        "under",
        "until",
        "up",
        "us",
        "very",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "while",
        "who",
        "whom",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
    ]
)
_WORD = re.compile(r"(?P<prefix>\W*)(?P<core>\w(?:.*\w)?)?(?P<suffix>\W*)$", re.S)


@dataclass(frozen=True)
class Word:
    """One space-separated word: `prefix + core + suffix` is the text as it stands."""

    prefix: str
    core: str
    suffix: str

    @property
    def is_content(self):
        """True where an attacker may substitute: letters only, at least two, and no stop word."""
        return len(self.core) > 1 and self.core.isalpha() and self.core.lower() not in STOP_WORDS

    def replaced(self, core):
        """The text with another core; a capital first letter stays one."""
        return self.prefix + (core.capitalize() if self.core[0].isupper() else core) + self.suffix


def split_words(prompt):
    """Prompt -> list of `Word`, one per space-separated word."""
    return [Word(*(part or "" for part in _WORD.match(text).group("prefix", "core", "suffix"))) for text in prompt.split()]


def substitute(prompt, position, core):
    """The prompt with the core of its word at `position` (counted in words, from 0) replaced."""
    return substitute_all(prompt, {position: core})


def substitute_all(prompt, cores):
    """The prompt with several words replaced: {position: new core}."""
    texts = prompt.split()
    for position, core in cores.items():
        texts[position] = split_words(texts[position])[0].replaced(core)
    return " ".join(texts)


def content_positions(prompts):
    """Per prompt, the positions of the words that an attacker may change."""
    return [[i for i, word in enumerate(split_words(prompt)) if word.is_content] for prompt in prompts]


def class_name_positions(prompts, class_names=None):
    """Per prompt, the positions of content words that belong to the class name.

    A name is looked for as `clean_name` spells it. Where it stands twice ("a photo of a photo"), it is the one that begins
    where the prompts of different classes part; where it does not stand in its prompt (a rule of the data set spelled it
    otherwise) or no names are given, it is the part between what all prompts have in common at both ends.
    Raises `UserError` where that is nothing.
    """
    pieces = [_pieces(prompt) for prompt in prompts]
    spelled = [[piece for piece, _ in found] for found in pieces]
    before = _common(spelled)
    after = _common([found[before:][::-1] for found in spelled])
    positions = []
    for index, (prompt, allowed) in enumerate(zip(prompts, content_positions(prompts), strict=True)):
        name = [piece for piece, _ in _pieces(class_names[index])] if class_names is not None else []
        starts = [i for i in range(len(spelled[index])) if name and spelled[index][i : i + len(name)] == name]
        begin = max((i for i in starts if i <= before), default=min(starts, default=None))
        end = len(spelled[index]) - after if begin is None else begin + len(name)
        places = {place for _, place in pieces[index][before if begin is None else begin : end]}
        if not places:
            raise UserError(f"cannot tell the class name in prompt '{prompt}'; let all content words be attackable")
        positions.append([place for place in allowed if place in places])
    return positions


def _pieces(text):
    """[(lower-case word as `clean_name` spells it, position in the text)]; a word of the text may be several."""
    parts = [(part, i) for i, word in enumerate(text.split()) for part in clean_name(word).split()]
    found = [(split_words(part)[0].core, i) for part, i in parts]
    return [(core, i) for core, i in found if core]


def _common(lists):
    """How many first elements all lists have in common."""
    count = 0
    for column in zip(*lists, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count

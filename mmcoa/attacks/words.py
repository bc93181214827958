"""Words of a prompt: where they are and which of them an attacker may change.

A prompt is split at spaces. Each word keeps what surrounds its letters (`"food."` -> core `food`, suffix `.`), so that a
substitution leaves punctuation alone and a stop word is recognised whatever its case (traps X1, X2).
"""

import re
from dataclasses import dataclass

STOP_WORDS = frozenset(
    ["a", "about", "above", "after", "again", "all", "am", "an", "and", "any", "are", "as", "at", "be", "because", "been", "before", "being", "below", "between", "both", "but", "by", "can", "could", "did", "do", "does", "doing", "down", "during", "each", "few", "for", "from", "further", "had", "has", "have", "having", "he", "her", "here", "hers", "him", "his", "how", "i", "if", "in", "into", "is", "it", "its", "just", "me", "more", "most", "my", "no", "nor", "not", "now", "of", "off", "on", "once", "only", "or", "other", "our", "out", "over", "own", "same", "she", "should", "so", "some", "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "those", "through", "to", "too", "under", "until", "up", "us", "very", "was", "we", "were", "what", "when", "where", "which", "while", "who", "whom", "why", "will", "with", "would", "you", "your"]
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
    texts = prompt.split()
    texts[position] = split_words(texts[position])[0].replaced(core)
    return " ".join(texts)

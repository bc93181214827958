"""`lite-clip`: an ImageNet image tower and a sentence encoder from the package index, joined without a picture."""

from importlib.util import find_spec

NAME = "lite-clip"
VERSION = 2  # raise when the same recipe gives other weights
MINILM = "all_minilm_l6_v2"  # module of the package that carries the sentence encoder


def has_minilm():
    """Whether the sentence encoder's package is installed."""
    return find_spec(MINILM) is not None


def similarity_encoder(level, asked=None):
    """`minilm` or `own`: what measures the similarity of prompts at a level of the text threat, unless one was `asked` for."""
    return asked or ("minilm" if level == "meaning" and has_minilm() else "own")

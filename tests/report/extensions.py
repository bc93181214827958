"""The book's Sphinx extensions as modules."""

import importlib.util
from pathlib import Path

BOOK = Path(__file__).parents[2] / "book"


def load(name):
    """One of book/_ext as a module."""
    spec = importlib.util.spec_from_file_location(name, BOOK / "_ext" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

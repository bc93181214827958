"""Pages of the book that are not results: the Python interface, made of docstrings, and the glossary."""

import inspect
import re
from html import unescape
from pathlib import Path

import pytest

import mmcoa
from mmcoa import defenses
from mmcoa.attacks.catalog import ATTACKS

BOOK = Path(__file__).parents[2] / "book"
PAGES = [*BOOK.glob("*.md")]


@pytest.fixture(scope="module")
def pages(published):
    """Folder of the published pages."""
    return published / "_build" / "html"


def words(html):
    """The article's words, without markup, one space between them."""
    article = html.split("<article")[1].split("</article")[0]
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", "", article)))


def plain(text):
    """Letters and digits alone: quotes, dashes and dots are set otherwise on a page."""
    return re.sub(r"\W+", "", text)


@pytest.mark.slow
def test_every_public_name_is_on_the_page_with_what_it_is(pages):
    html = (pages / "api.html").read_text(encoding="utf8")
    text = plain(words(html))
    for name in mmcoa.__all__:
        assert f'id="mmcoa.{name}"' in html, name
        first = inspect.getdoc(getattr(mmcoa, name)).splitlines()[0]
        assert plain(re.sub(r" \(trap \w+\)", "", first)) in text, name
    for name in ("mmcoa.attacks.catalog.find", "mmcoa.defenses.load", "mmcoa.study.profiles.load_profile"):
        assert f'id="{name}"' in html
    assert "trap" not in words(html) and " at 0x" not in html


@pytest.mark.slow
def test_arguments_and_fields_reach_the_page(pages):
    text = words((pages / "api.html").read_text(encoding="utf8"))
    assert "text_budget: int = 1# words a prompt" in text and "ids: Tensor# int64 [N]" in text
    assert re.search(r"attacks \(.*?\) – names of mmcoa\.attacks\.catalog\.", text) and "Parameters:" in text
    assert "optimizer=make_optimizer" in text  # as written, no address
    assert "Type: " not in text, "napoleon takes what stands before a colon in a `#:` comment for the field's type"


@pytest.mark.slow
def test_attacks_and_defences_are_listed(pages):
    text = words((pages / "api.html").read_text(encoding="utf8"))
    for attack in ATTACKS.values():
        assert plain(attack.name + attack.summary + attack.source) in plain(text), attack.name
    for name in defenses.names():
        assert plain(name + defenses.describe(name)) in plain(text), name


def terms():
    """Terms of the glossary, in the order of the file."""
    text = (BOOK / "glossary.md").read_text(encoding="utf8")
    return re.findall(r"^(\S.*)\n  \S", text.split(":sorted:")[1], flags=re.M)


def test_each_term_is_defined_once():
    lower = [term.lower() for term in terms()]
    assert len(lower) == len(set(lower)) > 45
    wanted = ("epsilon", "cell", "profile", "record", "mmcoa", "robust accuracy", "wilson interval", "positives", "self-check")
    assert set(wanted) <= set(lower)


@pytest.mark.slow
def test_every_term_that_a_page_uses_exists(pages):
    known, used = set(terms()), 0
    for page in PAGES:
        for said in re.findall(r"\{term\}`([^`]+)`", page.read_text(encoding="utf8")):
            target = re.sub(r"\s+", " ", said.split("<")[-1].rstrip(">"))
            assert target in known, f"{page.name}: {said}"
            used += page.name != "glossary.md"
    assert used >= 5
    html = (pages / "glossary.html").read_text(encoding="utf8")
    assert html.count('id="term-') == len(known)

"""Sources of books: which pages a small one has, how a copy follows them, and what the contents name."""

import re
from pathlib import Path

import yaml

from mmcoa.report import sources

ROOT = Path(__file__).parents[2]


def test_a_small_book_has_the_pages_that_need_no_results(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SOURCES", tmp_path)
    texts = {
        "a": "{ref}`fig-x` and {doc}`b`",
        "b": "(fig-x)=\n# B",
        "c": "{doc}`d`",
        "d": "![x](figures/x.svg)",
        "e": "{term}`x`",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.md").write_text(text)
    assert list(sources.without_results([*texts, "gone"])) == ["a", "b"]


def test_a_copy_follows_the_sources_and_keeps_what_was_made(tmp_path):
    sources.copy({Path("_config.yml"): b"1", Path("a.md"): b"1", Path("_ext/x.py"): b"1"}, tmp_path)
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "rows.csv").write_text("made")
    before = (tmp_path / "_config.yml").stat().st_mtime_ns
    sources.copy({Path("_config.yml"): b"1", Path("_ext/x.py"): b"2"}, tmp_path)
    assert (tmp_path / "_config.yml").stat().st_mtime_ns == before and (tmp_path / "_ext" / "x.py").read_bytes() == b"2"
    assert not (tmp_path / "a.md").exists() and (tmp_path / "tables" / "rows.csv").is_file()


def test_every_page_of_the_contents_is_there_and_what_it_cites():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf8"))
    pages = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    assert len(pages) == len(set(pages))
    known = set(re.findall(r"@\w+\{(\w+),", (ROOT / "book" / "references.bib").read_text(encoding="utf8")))
    for page in [*pages, "study"]:
        for keys in re.findall(r"\{cite:\w\}`([^`]+)`", (ROOT / "book" / f"{page}.md").read_text(encoding="utf8")):
            assert set(keys.split(",")) <= known, page

"""Sources of books: which pages a small one has, and how a copy follows them."""

from pathlib import Path

from mmcoa.report import sources


def test_a_small_book_has_the_pages_that_need_no_results(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "SOURCES", tmp_path)
    texts = {"a": "{ref}`fig-x` and {doc}`b`", "b": "(fig-x)=\n# B", "c": "{doc}`d`", "d": "![x](figures/x.svg)"}
    for name, text in (texts := texts | {"e": "{term}`x`"}).items():
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

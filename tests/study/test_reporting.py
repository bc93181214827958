"""The report as the last cell of a study: built after all others, again when what it shows or is made by has changed."""

from pathlib import Path

import pytest

from mmcoa.study import reporting
from mmcoa.study.cell import run_spec
from mmcoa.study.plan import make_plan, write_specs
from mmcoa.study.runner import run


@pytest.fixture
def finished(write_profile):
    """A profile whose cells are done."""
    path = write_profile(models=[{"defense": "none"}], evaluate__datasets=["openmoji/birds"], evaluate__attacks=["clean"])
    plan = make_plan(path)
    write_specs(plan)
    for process in plan.pending:
        run_spec(plan.spec(process))
    return path


def test_a_report_is_current_until_something_it_depends_on_changes(finished, write_profile, monkeypatch):
    page = Path("book/_build/html/index.html")
    page.parent.mkdir(parents=True)
    Path("results/mini/gallery").mkdir()
    Path("book/index.md").write_text("# Page")
    built = []

    def build_book(profile, results):
        built.append((profile, results))
        page.write_text("built")
        return page

    monkeypatch.setattr("mmcoa.report.build.build_book", build_book)
    assert not reporting.is_current(make_plan(finished))
    assert reporting.build(finished) == str(page) and built == [(finished, Path("results"))]
    assert reporting.is_current(make_plan(finished))
    for change in (
        lambda: Path("book/index.md").write_text("# Another page"),
        lambda: Path("notebooks/report_mine.ipynb").write_text("{}"),
        lambda: Path("results/mini/gallery/gallery.json").write_text("{}"),
        lambda: write_profile(models=[{"defense": "none"}], evaluate__datasets=["openmoji/tools"], evaluate__attacks=["clean"]),
        page.unlink,
    ):
        reporting.build(finished)
        assert reporting.is_current(make_plan(finished))
        change()
        assert not reporting.is_current(make_plan(finished))


def test_a_report_that_fails_says_why_and_leaves_the_cells_done(finished):
    lines = []
    assert (
        run(finished, report=True, dry_run=True, echo=lines.append) == 0 and lines[-1] == "  report: to build, after all cells"
    )
    assert run(finished, report=True, echo=lines.append) == 1
    said = [line for line in lines if line.startswith("failed: report: ")]
    assert len(said) == 1 and "no book/_config.yml" in said[0]
    assert "  retry:    mmcoa run mini.yaml --report" in lines and not make_plan(finished).pending
    assert run(finished, echo=lines.append) == 0  # without the report nothing is to do

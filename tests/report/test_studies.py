"""Pages of a second study: what is rewritten, and what the table of contents lists."""

from pathlib import Path

import pytest
import yaml

from mmcoa.report import build, studies
from mmcoa.report.studies import Part

PHOTOS, FIRST = Part("photos", "photos", "photos", "photographs"), Part("openmoji", "openmoji", "", "emoji")
NAMES = {"tab-impact", "fig-impact"}


def photos(text):
    return studies.rewritten(text, PHOTOS, NAMES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            ":::{csv-table} x\n:file: tables/a.csv\n:name: tab-impact\n:::",
            ":::{csv-table} x\n:file: photos/tables/a.csv\n:name: photos-tab-impact\n:::",
        ),
        (":::{figure} figures/a.svg\n:name: fig-impact", ":::{figure} photos/figures/a.svg\n:name: photos-fig-impact"),
        (
            "{download}`a <tables/a.csv>` and {numref}`tab-impact`",
            "{download}`a <photos/tables/a.csv>` and {numref}`photos-tab-impact`",
        ),
        ("{numref}`tab-attacks` of another page", "{numref}`tab-attacks` of another page"),
        ("{doc}`report_impact`, {doc}`so <report_claims>`", "{doc}`photos_impact`, {doc}`so <photos_claims>`"),
        ("{doc}`report_strength`, {doc}`threat`", "{doc}`report_strength`, {doc}`threat`"),
        (
            "{glue:text}`report_impact.ipynb::n:s` {glue:text}`n_all`",
            "{glue:text}`photos_impact.ipynb::n:s` {glue:text}`n_all`",
        ),
        ("the folder `results/photos` and its tables/rows", "the folder `results/photos` and its tables/rows"),
    ],
)
def test_links_labels_and_paths_of_a_second_study(text, expected):
    assert photos(text) == expected
    assert studies.rewritten(text, FIRST, NAMES) == text


def test_a_link_to_a_page_that_the_study_lacks_goes_to_the_first():
    assert studies.rewritten("{doc}`report_claims`", PHOTOS, NAMES, pages=["report_impact"]) == "{doc}`report_claims`"


def test_titles_say_which_study():
    assert studies.titled("# Claims\n\n# not this", PHOTOS) == "# Claims (photographs)\n\n# not this"
    assert studies.titled("# Claims\n", Part("quick", "quick")) == "# Claims\n"


def test_links_of_the_first_page_go_to_all_studies():
    text = "See {doc}`report_impact` and {doc}`threat`."
    assert studies.linked(text, [FIRST, PHOTOS]) == "See {doc}`report_impact` and {doc}`photos_impact` and {doc}`threat`."
    assert studies.linked(text, [FIRST]) == text


def test_contents_list_what_there_is():
    template = yaml.safe_load((Path(__file__).parents[2] / "book" / "_toc_template.yml").read_text())
    there = {"question", "report_impact", "report_claims", "photos_impact", "references"}
    toc = studies.contents(template, [FIRST, PHOTOS], there.__contains__)
    listed = {part["caption"]: [chapter["file"] for chapter in part["chapters"]] for part in toc["parts"]}
    assert listed == {
        "The study": ["question"],
        "Part 1: emoji": ["report_impact", "report_claims"],
        "Part 2: photographs": ["photos_impact"],
        "Use it": ["references"],
    }
    assert [part["caption"] for part in studies.contents(template, [FIRST], there.__contains__)["parts"]] == [
        "The study",
        "Results",
        "Use it",
    ]


def test_parts_of_the_published_book(tmp_path):
    from mmcoa.errors import UserError

    def names(named, published=True):
        return [
            (part.name, part.prefix, part.title) for part in build.parts_of({name: name for name in named}, tmp_path, published)
        ]

    assert names(["openmoji"]) == [("openmoji", "", "")]
    assert names(["photos", "openmoji"]) == [("openmoji", "", "emoji"), ("photos", "photos", "photographs")]
    with pytest.raises(UserError, match="no pages of the study 'openmoji' yet; build both: mmcoa book openmoji photos"):
        names(["photos"])
    (tmp_path / "report_impact.ipynb").write_text("{}")
    assert [name for name, *_ in names(["photos"])] == ["openmoji", "photos"]  # the pages of the other are kept
    (tmp_path / "photos_impact.ipynb").write_text("{}")
    assert [name for name, *_ in names(["openmoji"])] == ["openmoji", "photos"]
    assert names(["quick"], published=False) == [("quick", "", "")]

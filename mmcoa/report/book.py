"""What the cells of a page call: the study that the book is about, and files and numbers for the text around the cells.

    main = study()                               # Results of the book's study; study("openmoji") of another
    table("impact", shown, numbers)              # tables/impact.csv, tables/impact_numbers.csv
    figure("impact", drawn)                      # figures/impact.svg
    say("impact", image=61.3, gain=points(3.2))  # {glue:text}`impact_image` is 61.3, {glue:text}`impact_gain` is +3.2

A page runs in the folder of its book, and files go there. What `say` gives to the text of a page lies in
_build/numbers/PAGE.json too, as {name: {"value": what was computed, "text": what the page says}}.
"""

import functools
import os
from pathlib import Path

from mmcoa.errors import UserError
from mmcoa.report import results
from mmcoa.report.said import percent, plain, points, written
from mmcoa.store.files import write_json

__all__ = ["figure", "percent", "points", "say", "study", "table"]

STUDY, RESULTS = "MMCOA_STUDY", "MMCOA_RESULTS"  # environment: which study a book is about; folder of all results
MAIN = "main"  # study of the published book
TABLE = ":::{{csv-table}} {caption}\n:file: tables/{name}.csv\n:header-rows: 1\n:class: results\n:name: tab-{name}\n:::"

load, said = functools.cache(results.load), {}


def study(name=None):
    """The `Results` of a study; without a name of the one that the book is about."""
    return load(name or os.environ.get(STUDY, MAIN), results_folder())


def results_folder(start="."):
    """Folder of all results: $MMCOA_RESULTS, else the nearest folder results/ in `start` or above it."""
    here = Path(start).resolve()
    found = [Path(os.environ[RESULTS])] if RESULTS in os.environ else [path / "results" for path in (here, *here.parents)]
    for folder in found:
        if folder.is_dir():
            return folder
    raise UserError(f"no folder {found[0]}; say where results are: export {RESULTS}=FOLDER")


def table(name, shown, numbers=None, caption=None):
    """Write tables/NAME.csv, which `csv-table` shows, and NAME_numbers.csv, which the page then offers as its data.

    caption: shows the table where the cell stands, or says that there is none, where a page cannot know what a study has.
    """
    Path("tables").mkdir(exist_ok=True)
    shown.to_csv(f"tables/{name}.csv", index=False)
    if numbers is not None:
        numbers.to_csv(f"tables/{name}_numbers.csv", index=False)
    if caption is not None:
        from IPython.display import Markdown, display

        display(Markdown(TABLE.format(name=name, caption=caption) if len(shown) else "This study has none."))


def figure(name, drawn):
    """Write a matplotlib figure as figures/NAME.svg, for the directive `figure`."""
    from mmcoa.report import style

    style.save(drawn, f"figures/{name}.svg")


def say(page, **values):
    """Values for {glue:text}`PAGE_NAME` in a page. A text stays as it is, a number becomes `61.3` or `1,234`."""
    from myst_nb import glue

    own = said.setdefault(page, {})
    for name, value in values.items():
        own[name] = {"value": getattr(value, "value", plain(value)), "text": written(value)}
        glue(f"{page}_{name}", own[name]["text"], display=False)
    write_json(f"_build/numbers/{page}.json", own, indent=1)

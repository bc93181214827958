"""All result rows of a study as one table to search and filter in the browser, offline: the page "Explorer"."""

import re

import pandas as pd

from mmcoa.report.names import attack_label, dataset_label, method_label
from mmcoa.threat import format_epsilon

LEVELS = {"any": "any word", "synonym": "synonym", "meaning": "meaning kept"}
CSS = """
.dt-container { font-size: 0.78rem; font-variant-numeric: tabular-nums; color: inherit; }
.dt-container table.dataTable { color: inherit; }
.dt-container :is(input, select, option) { background: var(--pst-color-background); color: var(--pst-color-text-base); }
.dt-container table input { width: 100%; min-width: 3.6rem; font: inherit; }
.dt-container td:last-child { white-space: nowrap; }
html .bd-content div.cell_output .text_html { background: none !important; border: 0; padding: 0; margin: 0; color: inherit; }
.dt-container .dt-paging .dt-paging-button:not(.disabled) { color: var(--pst-color-text-base) !important; }
"""


def rows(study):
    """One row a model, data set, attack and point of a sweep, as text but for accuracy and n."""
    parts = [study, *(part for values in study.sweeps.values() for part in values.values())]
    frame = pd.concat([part.rows for part in parts], ignore_index=True)
    frame = frame.reindex(columns=[*frame.columns, *{"text_threat", "words"} - set(frame.columns)])
    low, high = (frame[name].map("{:.1f}".format) for name in ("ci_low", "ci_high"))
    return pd.DataFrame(
        {
            "model": [model_label(row) for row in frame.itertuples()],
            "role": frame.role,
            "data set": frame.dataset.map(dataset_label),
            "attack": frame.attack.map(attack_label),
            "level": [level(row) for row in frame.itertuples()],
            "epsilon": [format_epsilon(value) if value > 0 else "" for value in frame.epsilon],
            "evaluation": [" ".join(filter(None, pair)) or "main" for pair in zip(frame.sweep, frame.sweep_value, strict=True)],
            "accuracy": frame.accuracy.round(1),
            "n": frame.n,
            "interval": low + "–" + high,
        }
    )


def model_label(row):
    """`MMCoA`, `MMCoA, seed 1`: the seed where it is not the first."""
    seed = re.search(r"-seed([1-9]\d*)$", row.model)
    return method_label(row.method) + (f", seed {seed[1]}" if seed else "")


def level(row):
    """Which words a text attack may take; empty for an attack on pictures alone."""
    if not isinstance(row.text_threat, str):
        return ""
    return LEVELS.get(row.text_threat, row.text_threat) + (", seen" if row.words == "seen" else "")


def show(frame):
    """The table where the cell stands, with all that it needs: no page of another host is asked."""
    import itables

    itables.init_notebook_mode(connected=False)
    itables.show(
        frame,
        connected=False,
        maxBytes=0,
        showIndex=False,
        classes="display compact explorer",
        style="width:100%",
        css=CSS,
        column_filters="header",
        pageLength=25,
        lengthMenu=[25, 100, 1000],
        layout={"topStart": "search", "topEnd": "info", "bottomStart": "pageLength", "bottomEnd": "paging"},
    )

"""Every method under every attack, on a data set that the reader chooses: the interactive chart of the page "Explorer"."""

import json

from mmcoa.report import statistics, style, tables, tasks
from mmcoa.report.names import MACRO, METHODS, attack_label, dataset_label, method_label, ordered, ordered_attacks

SCRIPT = "_static/plotly.min.js"  # book/_ext/finish.py puts it there
SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "P": "cross", "D": "diamond", "X": "x"}
FAINT = "rgba(128, 128, 128, 0.35)"
CSS = """<style>
.js-plotly-plot .infolayer text, .js-plotly-plot .xtick text, .js-plotly-plot .ytick text {
  fill: var(--pst-color-text-base) !important; }
</style>"""
SELECT = '<p><label>Data set <select id="chart-set">{}</select></label></p>'
CHOOSE = """const sets = %s, chosen = document.getElementById("chart-set");
chosen.addEventListener("change", () => Plotly.restyle("chart", sets[chosen.selectedIndex]));"""


def levels(study):
    """{`macro mean`, or a data set's label: frame of method, attack, value (percent), low, high (95 %), n}, the mean first.

    The mean is that of the report's tables, over the unseen sets, with its interval; Wilson's interval for one data set.
    """
    rows = tables.per_set(study.rows).rename(columns={"accuracy": "value"})
    parts = {dataset_label(name): part for name, part in rows.groupby("dataset", sort=False)}
    mean = statistics.levels(study, tasks.macro_sets(study), study.attacks)
    return ({MACRO: mean} if len(mean) else {}) | parts


def draw(study, found):
    """A Plotly figure of the first of `levels`: one row a method, one mark an attack with its 95 % interval."""
    import plotly.graph_objects as go

    methods, attacks = ordered(study.methods, METHODS), ordered_attacks(study.attacks)
    drawn = go.Figure()
    for attack, first in zip(attacks, marks(next(iter(found.values())), methods, attacks), strict=True):
        color, marker = style.ATTACKS.get(attack, style.OTHER)
        look = {"color": color, "symbol": SYMBOLS.get(marker, "star"), "size": 9}
        said = "%{y}, " + attack_label(attack) + ": %{x:.1f} % (%{customdata})<extra></extra>"
        error = {"type": "data", "symmetric": False, "thickness": 1, "width": 0}
        error |= {"array": first.pop("error_x.array"), "arrayminus": first.pop("error_x.arrayminus")}
        name, labels = attack_label(attack), [method_label(each) for each in methods]
        drawn.add_scatter(y=labels, mode="markers", name=name, marker=look, hovertemplate=said, error_x=error, **first)
    drawn.update_layout(
        xaxis={"title": "accuracy (%)", "range": [-2, 102], "gridcolor": FAINT, "zeroline": False, "fixedrange": True},
        yaxis={"autorange": "reversed", "gridcolor": FAINT, "fixedrange": True, "automargin": True},
        legend={"orientation": "h", "y": -0.18},
        height=150 + 30 * len(methods),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        font={"color": style.GREY},
    )
    return drawn


def marks(frame, methods, attacks):
    """[{field of an attack's trace: its values, one a method}, ...]; None where there is no evaluation."""
    indexed, each = frame.set_index(["method", "attack"]), []
    for attack in attacks:
        rows = [indexed.loc[(method, attack)] if (method, attack) in indexed.index else None for method in methods]
        high = [None if row is None else row.high - row.value for row in rows]
        low = [None if row is None else row.value - row.low for row in rows]
        said = ["" if row is None else f"{row.low:.1f} to {row.high:.1f}, n = {row.n:,}" for row in rows]
        values = {"x": [None if row is None else row.value for row in rows], "customdata": said}
        each.append(values | {"error_x.array": high, "error_x.arrayminus": low})
    return each


def show(study):
    """The chart where the cell stands; its script is a file of the site."""
    from IPython.display import HTML, display

    found = levels(study)
    config = {"displayModeBar": False, "responsive": True}
    html = draw(study, found).to_html(
        full_html=False, include_plotlyjs=SCRIPT, config=config, div_id="chart", post_script=CHOOSE % choices(study, found)
    )
    display(HTML(CSS + SELECT.format("".join(f"<option>{name}</option>" for name in found)) + html))


def choices(study, found):
    """What Plotly.restyle takes for each data set, as JSON."""
    methods, attacks = ordered(study.methods, METHODS), ordered_attacks(study.attacks)
    each = [marks(frame, methods, attacks) for frame in found.values()]
    return json.dumps([{key: [one[key] for one in made] for key in made[0]} for made in each])

"""A second base model: the same data, defences and attacks, side by side with the first."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mmcoa.errors import UserError
from mmcoa.evaluation.statistics import macro_interval
from mmcoa.report import claim_report, claims, style, tables, tasks
from mmcoa.report.names import METHODS, attack_label, listed, method_label, ordered, ordered_attacks
from mmcoa.report.strength_facts import span
from mmcoa.report.tables import difference, signed_interval
from mmcoa.store import packed

CLAIMS = ("C1", "C2", "C4")  # which out of distribution alone decides


def there(variant, folder="results"):
    """Whether a second study is named and has results."""
    return variant is not None and packed.read_cells(Path(folder) / variant) is not None


def shared(first, second):
    """Both studies out of distribution, with the methods, data sets and attacks that they share: (first, second).

    Raises `UserError` where they share none.
    """
    parts = [tasks.out_of_distribution(study) for study in (first, second)]
    methods, sets, attacks = (
        [name for name in own(parts[0]) if name in own(parts[1])] for own in (methods_of, sets_of, attacks_of)
    )
    if "none" not in methods or not sets or not attacks:
        raise UserError(
            f"the studies '{first.name}' and '{second.name}' share no undefended model, data set or attack to compare"
        )
    return tuple(with_attacks(tasks.only(part, methods, sets), attacks) for part in parts)


def methods_of(study):
    return ordered(study.methods, METHODS)


def sets_of(study):
    return list(study.rows.dataset.unique())


def attacks_of(study):
    return ordered_attacks(study.attacks)


def with_attacks(study, attacks):
    """The `Results` of some attacks."""
    return tasks.of_rows(study, study.rows[study.rows.attack.isin(attacks)])


def names_of(pair):
    """Names of the two base models, with the profile where they have the same."""
    models = [study.rows.base_model.iloc[0] for study in pair]
    return (
        models
        if len(set(models)) == len(models)
        else [f"{model} ({study.name})" for model, study in zip(models, pair, strict=True)]
    )


def accuracy_table(pair):
    """One row a method and base model: macro accuracy under each attack, with intervals."""
    frames = [(model, tables.macro(study)) for model, study in zip(names_of(pair), pair, strict=True)]
    rows = []
    for method in ordered(pair[0].methods, METHODS):
        for model, frame in frames:
            part = frame[frame.method == method]
            row = {
                "method": method_label(method),
                "base model": model,
                "seeds": "–" if method == "none" else str(part.seeds.iloc[0]),
                "n": str(part.n.iloc[0]),
            }
            rows.append(row | {attack_label(r.attack): tables.number(r.accuracy, r.low, r.high) for r in part.itertuples()})
    return pd.DataFrame(rows)


def gains(pair):
    """Points gained on the undefended model: columns method, attack, what (both base models' names, `difference`), points,
    low, high, n.

    The difference is the second's gain minus the first's on the same pictures.
    """
    rows = []
    for method in ordered(set(pair[0].methods) - {"none"}, METHODS):
        for attack in ordered_attacks(pair[0].attacks):
            gained = [gain(study, other, method, attack) for study, other in (pair, pair[::-1])]
            for what, sets in (*zip(names_of(pair), gained, strict=True), ("difference", difference(*gained[::-1]))):
                points, low, high = macro_interval(sets)
                n = sum(len(label) for _, label in sets)
                rows.append(dict(method=method, attack=attack, what=what, points=points, low=low, high=high, n=n))
    return pd.DataFrame(rows)


def gain(study, other, method, attack):
    """Per data set (defended minus undefended, label) on the pictures that the other study has as well."""
    ours, base = (tables.correct_by_sample(study, name, attack, like=other) for name in (method, "none"))
    return difference(ours, base)


def gains_table(frame):
    """`gains` to print."""
    rows = []
    for (method, what), part in frame.groupby(["method", "what"], sort=False):
        row = {"method": method_label(method), "points gained by": what, "n": str(part.n.iloc[0])}
        rows.append(row | {attack_label(r.attack): signed_interval(r.points, r.low, r.high) for r in part.itertuples()})
    return pd.DataFrame(rows)


def claims_table(pair, resamples=claims.RESAMPLES):
    """Verdict and smallest deciding effect of CLAIMS on each of the two, with the methods that they share."""
    judged = [{each.claim.key: each for each in claims.judge(study, resamples=resamples)} for study in pair]
    rows = []
    for key in CLAIMS:
        row = {"": key, "claim": judged[0][key].claim.statement}
        for model, found in zip(names_of(pair), judged, strict=True):
            row |= {f"verdict, {model}": found[key].words, f"smallest effect, {model}": claim_report.weakest_text(found[key])}
        rows.append(row)
    return pd.DataFrame(rows)


def figure(pair):
    """One panel an attack, one row a method, one marker a base model, with intervals."""
    style.use()
    frames, looks = [tables.macro(study) for study in pair], ((style.BLUE, "s"), (style.ORANGE, "^"))
    attacks, names = ordered_attacks(pair[0].attacks), ordered(pair[0].methods, METHODS)[::-1]
    rows, columns = style.grid(len(attacks))
    figure, panels = plt.subplots(
        rows, columns, figsize=(style.WIDTH, 0.6 + rows * (0.5 + 0.34 * len(names))), sharex=True, sharey=True, squeeze=False
    )
    for axes, attack in zip(panels.flat, attacks, strict=False):
        for model, frame, (color, marker), offset in zip(names_of(pair), frames, looks, (0.14, -0.14), strict=True):
            part = frame[frame.attack == attack].set_index("method").loc[names]
            errors = np.clip([part.accuracy - part.low, part.high - part.accuracy], 0, None)
            look = {"fmt": marker, "color": color, "ms": 5.5, "elinewidth": 1.1, "mec": "white", "mew": 0.5}
            axes.errorbar(part.accuracy, np.arange(len(names)) + offset, xerr=errors, label=model, **look)
        axes.set(title=attack_label(attack), xlim=(0, 101), ylim=(-0.6, len(names) - 0.4), xticks=[0, 50, 100])
        axes.grid(axis="y", visible=False)
    panels[0, 0].set_yticks(range(len(names)), [method_label(name) for name in names])
    style.finish(panels, len(attacks))
    figure.legend(*panels[0, 0].get_legend_handles_labels(), ncols=2, loc="lower center", bbox_to_anchor=(0.5, 0.98))
    figure.supxlabel("macro accuracy (%)", size=8.5)
    figure.tight_layout(w_pad=0.6, h_pad=0.8)
    return figure


def facts(pair, frame):
    """What captions and prose say: {key: text}; `frame`: `gains`."""
    apart = frame[(frame.what == "difference") & ((frame.low.round(1) > 0) | (frame.high.round(1) < 0))]
    (first, second), seeds = names_of(pair), [span(study.training.groupby("method").seed.nunique()) for study in pair]
    return {
        "variant_models": listed((first, second)),
        "variant_first": first,
        "variant_second": second,
        "variant_profile": pair[1].name,
        "variant_sets": str(pair[0].rows.dataset.nunique()),
        "variant_n": f"{frame.n.max():,}",
        "variant_each": listed(
            f"{(study.outcomes.method == 'none').sum():,} ({model})" for study, model in zip(pair, (first, second), strict=True)
        ),
        "variant_rates": listed(f"{rates_of(study)} ({model})" for study, model in zip(pair, (first, second), strict=True)),
        "variant_defences": listed(method_label(name) for name in ordered(set(pair[0].methods) - {"none"}, METHODS)),
        "variant_seeds": listed(f"{count} ({model})" for count, model in zip(seeds, (first, second), strict=True)),
        "variant_apart": "; ".join(
            f"{method_label(r.method)} under {attack_label(r.attack)}, {signed_interval(r.points, r.low, r.high)}"
            for r in apart.itertuples()
        )
        or "none",
        "variant_of": f"{len(apart)} of {int((frame.what == 'difference').sum())}",
    }


def rates_of(study):
    """Learning rates of a study's fine-tuned models, in words; a model whose profile states none has that of its base model."""
    stated = study.training.lr
    own = ["the base model's own"] if stated.isna().any() else []
    return listed([f"{rate:g}" for rate in sorted(stated.dropna().unique())] + own)

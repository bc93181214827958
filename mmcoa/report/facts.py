"""Numbers and phrases for the report's prose, as {key: text}, so that no page has a number typed by hand.

In a notebook: `facts.glue(facts.of_study(study))`; on a page: {glue:text}`key`.
"""

from mmcoa.errors import UserError
from mmcoa.report.holes import MISSING, shown
from mmcoa.report.names import ATTACKS, METHODS, attack_label, dataset_label, listed, method_label, ordered
from mmcoa.report.results import threat_of
from mmcoa.report.tables import all_rows, by_dataset, macro, number, require, signed_interval
from mmcoa.threat import format_epsilon


def glue(facts):
    """Hand facts to the book, without showing them in the notebook. No line breaks before a percent sign."""
    from myst_nb import glue as paste  # an extra: the library itself does not need it

    for key, text in facts.items():
        paste(key, text.replace(" %", "\u00a0%"), display=False)


def of_study(study):
    """What every caption says: profile, n, data sets, model, threat model."""
    require(study, ["none"], ["clean", "image", "text", "sequential"])
    rows = study.rows
    both = rows[rows.attack == "sequential"].iloc[0]
    threat = threat_of(both)
    sizes = rows.n.unique()
    trained = [dataset_label(name) for name in rows.trained_on.unique() if name]
    return {
        "profile": study.profile,
        "base_model": both.base_model,
        "datasets": str(rows.dataset.nunique()),
        "models": str(rows.model_id.nunique()),
        "n_each": str(sizes[0]) if len(sizes) == 1 else f"{sizes.min()} to {sizes.max()}",
        "n_all": f"{rows.groupby('dataset').n.first().sum():,}",
        "split": both.split,
        "epsilon": format_epsilon(both.epsilon),
        "threat": threat.describe().replace("l_inf", "ℓ∞").replace("l_2", "ℓ2"),
        "trained_on": ", ".join(trained) or "nothing",
        "attacks": ", ".join(attack_label(name) for name in ordered(study.attacks, ATTACKS)),
        "notes": "; ".join(study.notes) or "nothing",
        "minutes": f"{all_rows(study).drop_duplicates('cell').cell_seconds.sum() / 60:.1f}",
        "device": ", ".join(sorted(rows.device.unique())),
        "commits": listed(all_rows(study).made_with.unique()),
    }


def of_impact(study):
    """The undefended model: macro means and extremes."""
    means = macro(study).set_index(["method", "attack"]).loc["none"]
    facts = {f"macro_{name}": with_percent(number(r.accuracy, r.low, r.high)) for name, r in means.iterrows()}
    facts |= {f"short_{name}": percent(r.accuracy) for name, r in means.iterrows()}
    frame = by_dataset(study)
    wide = frame[frame.method == "none"].pivot(index="dataset", columns="attack", values="accuracy").dropna()
    for attack in ("image", "text"):
        fall = wide.clean - wide[attack]
        for which, name in (("most", fall.idxmax()), ("least", fall.idxmin())):
            facts[f"{which}_{attack}"] = f"{dataset_label(name)} ({wide.clean[name]:.0f} to {wide[attack][name]:.0f} %)"
    return facts


def percent(accuracy):
    """`61 %`, or MISSING."""
    return with_percent(shown(accuracy, ".0f"))


def with_percent(text):
    """The text with ` %` behind it, unless it is MISSING."""
    return text if text == MISSING else f"{text} %"


def of_finetuning(study):
    """Per attack the best method, and what clean accuracy each method pays. Raises `UserError` where nothing is trained."""
    if study.training.empty:
        raise UserError(f"profile '{study.profile}' trains nothing: there is no fine-tuning to report")
    means = macro(study).pivot(index="method", columns="attack", values="accuracy")
    trained = [name for name in ordered(study.methods, METHODS) if name != "none"]
    clauses = []
    for attack in ordered(study.attacks, ATTACKS):
        if attack == "clean":
            continue
        there, before = means.loc[trained, attack].dropna(), percent(means.loc["none", attack])
        best = f"{method_label(there.idxmax())}, {percent(there.max())}" if len(there) else MISSING
        clauses.append(f"{attack_label(attack)}: {best} (undefended {before})")
    clean = [f"{method_label(name)} {percent(means.loc[name, 'clean'])}" for name in trained]
    return {
        "best": "; ".join(clauses),
        "clean_price": ", ".join(clean),
        "clean_before": percent(means.loc["none", "clean"]),
        "best_gain": best_gains(study),
        "seeds": str(study.outcomes[study.outcomes.method != "none"].groupby("method").model_id.nunique().max()),
    }


def best_gains(study):
    """Per attack the method that gains most on the undefended model, with its paired interval."""
    gains, clauses = macro(study, "none"), []
    for attack, part in gains[gains.method != "none"].groupby("attack", sort=False):
        there = part.dropna(subset="accuracy")
        best = there.loc[there.accuracy.idxmax()] if len(there) else None
        said = (
            MISSING if best is None else f"{method_label(best.method)}, {signed_interval(best.accuracy, best.low, best.high)}"
        )
        clauses.append(f"{attack_label(attack)}: {said}")
    return "; ".join(clauses)

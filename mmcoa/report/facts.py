"""Numbers and phrases for the report's prose, as {key: text}, so that no page has a number typed by hand.

In a notebook: `facts.glue(facts.of_study(study))`; on a page: {glue:text}`key`.
"""

from mmcoa.errors import UserError
from mmcoa.report.names import METHODS, attack_label, dataset_label, listed, method_label, ordered, ordered_attacks, typeset
from mmcoa.report.tables import all_rows, by_dataset, macro, number, require, signed_interval
from mmcoa.threat import format_epsilon


def glue(facts):
    """Hand facts to the book, typeset, without showing them in the notebook. No line breaks before a percent sign."""
    from myst_nb import glue as paste  # an extra: the library itself does not need it

    for key, text in facts.items():
        paste(key, typeset(text).replace(" %", "\u00a0%"), display=False)


def of_study(study):
    """What every caption says: profile, n, data sets, model, threat model."""
    require(study, ["none"], ["clean", "image", "text", "sequential"])
    rows = study.rows
    both = rows[rows.attack == "sequential"].iloc[0]
    sizes = rows.n.unique()
    trained = [dataset_label(name) for name in rows.trained_on.unique() if name]
    return {
        "profile": study.name,
        "base_model": both.base_model,
        "datasets": str(rows.dataset.nunique()),
        "models": str(rows.model.nunique()),
        "n_each": str(sizes[0]) if len(sizes) == 1 else f"{sizes.min()} to {sizes.max()}",
        "n_all": f"{rows.groupby('dataset').n.first().sum():,}",
        "split": both.split,
        "epsilon": format_epsilon(both.epsilon),
        "threat": both.threat_text,
        "trained_on": ", ".join(trained) or "nothing",
        "attacks": ", ".join(attack_label(name) for name in ordered_attacks(study.attacks)),
        "notes": "; ".join(study.notes) or "nothing",
        "minutes": f"{all_rows(study).drop_duplicates('cell').cell_seconds.sum() / 60:.1f}",
        "device": ", ".join(sorted(rows.device.unique())),
        "commits": commits(all_rows(study).commit),
    }


def of_impact(study):
    """The undefended model: macro means and extremes."""
    means = macro(study).set_index(["method", "attack"]).loc["none"]
    facts = {f"macro_{name}": f"{number(r.accuracy, r.low, r.high)} %" for name, r in means.iterrows()}
    facts |= {f"short_{name}": percent(r.accuracy) for name, r in means.iterrows()}
    frame = by_dataset(study)
    wide = frame[frame.method == "none"].pivot(index="dataset", columns="attack", values="accuracy").dropna()
    for attack in ("image", "text"):
        fall = wide.clean - wide[attack]
        for which, name in (("most", fall.idxmax()), ("least", fall.idxmin())):
            facts[f"{which}_{attack}"] = f"{dataset_label(name)} ({wide.clean[name]:.0f} to {wide[attack][name]:.0f} %)"
    return facts


def percent(accuracy):
    """`61 %`."""
    return f"{accuracy:.0f} %"


def commits(column):
    """`a1b2c3d and e4f5a6b` of a column of commits."""
    return listed(dict.fromkeys(text[:7] for text in column if isinstance(text, str) and text)) or "unknown"


def of_finetuning(study):
    """Per attack the best method, and what clean accuracy each method pays. Raises `UserError` where nothing is trained."""
    if study.training.empty:
        raise UserError(f"study '{study.name}' trains nothing: there is no fine-tuning to report")
    means = macro(study).pivot(index="method", columns="attack", values="accuracy")
    trained = [name for name in ordered(study.methods, METHODS) if name != "none"]
    clauses = []
    for attack in ordered_attacks(study.attacks):
        if attack == "clean":
            continue
        there, before = means.loc[trained, attack], percent(means.loc["none", attack])
        best = f"{method_label(there.idxmax())}, {percent(there.max())}"
        clauses.append(f"{attack_label(attack)}: {best} (undefended {before})")
    clean = [f"{method_label(name)} {percent(means.loc[name, 'clean'])}" for name in trained]
    return {
        "best": "; ".join(clauses),
        "clean_price": ", ".join(clean),
        "clean_before": percent(means.loc["none", "clean"]),
        "best_gain": best_gains(study),
        "seeds": str(study.outcomes[study.outcomes.method != "none"].groupby("method").model.nunique().max()),
    }


def best_gains(study):
    """Per attack the method that gains most on the undefended model, with its paired interval."""
    gains, clauses = macro(study, "none"), []
    for attack, part in gains[gains.method != "none"].groupby("attack", sort=False):
        best = part.loc[part.accuracy.idxmax()]
        gain = signed_interval(best.accuracy, best.low, best.high)
        clauses.append(f"{attack_label(attack)}: {method_label(best.method)}, {gain}")
    return "; ".join(clauses)

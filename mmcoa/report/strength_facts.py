"""Phrases about how strong the attacks are, as facts.py has them about the main evaluation."""

from mmcoa.report import comparisons, strength, sweeps
from mmcoa.report.names import attack_label, method_label, typeset
from mmcoa.report.tables import signed


def of_strength(study, results="results"):
    """Verdicts of the self-checks, of the independent comparisons, and of the gaps between attacks; those that there are."""
    return {**of_checks(study), **of_comparisons(results), **of_gaps(study), **of_speed(results)}


def of_checks(study):
    frame = strength.checks(study)
    if frame.empty:
        return {}
    failed = frame[~frame.passed.astype(bool)]
    total, models = f"{len(frame)} checks", counted(frame.model.nunique(), "model")
    if failed.empty:
        says = f"all {total} pass ({models})"
    else:
        verb = "does" if len(failed) == 1 else "do"
        worst = failed.groupby(["attack", "verdict"]).model.nunique()
        reasons = [
            f"{attack_label(attack)}, {verdict} ({counted(count, 'model')})" for (attack, verdict), count in worst.items()
        ]
        says = f"{len(failed)} of {total} ({models}) {verb} not pass: {'; '.join(reasons)}"
    return {"checks_says": says, "checks_n": span(frame.n)}


def counted(number, noun):
    """`1 model`, `3 models`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def span(values):
    """`200`, or `180 to 200`."""
    low, high = values.min(), values.max()
    return f"{low}" if low == high else f"{low} to {high}"


def of_comparisons(results):
    facts, frame = {}, comparisons.robust(results)
    if len(frame):
        agree = frame.agrees.map(comparisons.agrees)
        worst = frame.loc[frame.difference_points.idxmax()]
        against = f"{attack_label(worst.attack)}, {typeset(worst.norm)}, {worst.implementation}"
        facts["strength_agree"] = f"{int(agree.sum())} of {len(frame)}"
        facts["strength_worst"] = f"{signed(worst.difference_points)} points ({against})"
    prompts = comparisons.same_prompts(results)
    if len(prompts):
        total, differing = int(prompts.prompts.sum()), int(prompts.differing.sum())
        facts["prompts_same"] = f"{int(prompts.identical.sum()):,} of {total:,}"
        facts["prompts_differing"] = (
            f"{differing:,} {'differs' if differing == 1 else 'differ'}" if differing else "none differs"
        )
    return facts


def of_gaps(study):
    facts = {}
    if "attacks" in study.sweeps:
        frame = strength.gaps(study)
        if len(frame):
            facts["square_alone"] = square_alone(frame)
            facts |= {"gaps_says": gap_sentences(frame), "gaps_threat": sweeps.threat_text(study, "attacks")}
    if "source" in study.sweeps:
        frame = strength.text_gaps(study)
        if len(frame):
            facts |= {"text_gaps_says": gap_sentences(frame), "text_gaps_threat": sweeps.threat_text(study, "source")}
    return facts


def square_alone(frame):
    """How many pictures the black box breaks that all gradient attacks leave, in words."""
    own = frame[(frame["first"] == strength.UNION) & (frame["second"] == attack_label("square"))]
    if own.empty:
        return "no measured number of"
    most = own.loc[own.only_second.idxmax()]
    if most.only_second == 0:
        return f"none of {most.n:,.0f}"
    return f"at most {most.only_second:.0f} of {most.n:,.0f} ({method_label(most.method)})"


def gap_sentences(frame):
    """`auto against PGD: 1.2 to 3.4 points more; ...`: the range over the models, one clause a pair."""
    clauses = []
    for (first, second), own in frame.groupby(["first", "second"], sort=False):
        low, high = (round(float(value), 1) for value in (own.gap.min(), own.gap.max()))
        if low == high:
            how = f"{abs(low):.1f} points {'fewer' if low < 0 else 'more'}" if low else "the same"
        elif high <= 0:
            how = f"{-high:.1f} to {-low:.1f} points fewer"
        elif low >= 0:
            how = f"{low:.1f} to {high:.1f} points more"
        else:
            how = f"between {-low:.1f} points fewer and {high:.1f} points more"
        clauses.append(f"{first} against {second}, {how}")
    return "; ".join(clauses)


def of_speed(results):
    frame = comparisons.speed(results)
    if frame.empty:
        return {}
    facts = {f"speed_{key}": "; ".join(dict.fromkeys(frame[key].astype(str))) for key in ("versions", "hardware")}
    met = [comparisons.target_met(ratio, target) for ratio, target in zip(frame.ratio, frame.target, strict=True)]
    judged = [one for one in met if one is not None]
    return facts | {"speed_met": f"{sum(judged)} of {len(judged)}"}

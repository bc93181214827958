"""Phrases about ablations and faults, as facts.py has them about the main evaluation."""

from mmcoa.report.ablation_tables import by_variant, macro, seeds_text
from mmcoa.report.ablations import GROUPS, REFERENCE, faults, said
from mmcoa.report.facts import commits
from mmcoa.report.names import attack_label, dataset_label, listed
from mmcoa.report.strength_facts import counted
from mmcoa.report.sweeps import described
from mmcoa.report.tables import signed_interval
from mmcoa.training.faults import FAULTS


def of_ablations(found):
    """What captions and prose of both pages say of `ablations.load`."""
    settings, sizes = found.settings[REFERENCE], found.rows.groupby("dataset").n.max()
    missing = [title for group, (title, settings_of) in GROUPS.items() if settings_of and group not in found.groups]
    lacking = [name.replace("_", " ") for name in FAULTS if name not in faults(found).values()]
    own = found.outcomes[found.outcomes.method == REFERENCE]
    facts = {
        "sets": counted(len(sizes), "data set"),
        "n": f"{sizes.sum():,}",
        "threat": described(found, REFERENCE),
        "trained_on": dataset_label(settings["dataset"]),
        "base_model": listed(found.rows.base_model.unique()),
        "training": training_text(settings),
        "seeds": seeds_text(sorted(own.train_seed.unique())),
        "spread": seed_spread(found, own),
        "missing": listed(missing) or "none",
        "faults_missing": listed(lacking) or "none",
        "unfinished": listed(found.unfinished) or "none",
        "commits": commits(found.made.commit),
        "machines": listed(dict.fromkeys(f"{r.device}, {counted(r.threads, 'thread')}" for r in found.made.itertuples()), "or"),
    }
    return {f"ablations_{key}": text for key, text in facts.items()}


def training_text(settings):
    """The reference's training in words, as far as its record states it."""
    counts = [
        f"{settings[key]} {noun}" for key, noun in (("steps", "steps"), ("batch_size", "pictures a step")) if key in settings
    ]
    named = ("inner_steps", "epsilon", "lambda_image", "lambda_text", "trains", "positives")
    return ", ".join([*counts, *(said(key, settings[key]) for key in named if key in settings)])


def seed_spread(found, own):
    """By how much the reference's seeds differ among themselves: a scale for all differences."""
    if own.train_seed.nunique() < 2:
        return "unknown, as there is only one"
    spreads = []
    for attack in found.attacks:
        values = [macro(part, attack) for _, part in own.groupby("train_seed")]
        spreads.append(f"{attack_label(attack)} {max(values) - min(values):.1f}")
    return f"{listed(spreads)} points from the lowest to the highest"


def of_groups(frames):
    """`GROUP_says` of each group's effects {group: frame}."""
    return {f"{group}_says": verdicts(frame) for group, frame in frames.items()}


def of_faults(frame):
    """What prose says of `ablations.fault_effects`."""
    return {"faults_says": verdicts(frame), "faults_covered": f"{int(frame.covers.sum())} of {len(frame)}"}


def verdicts(frame):
    """Each variant: the attacks for which the interval leaves zero out, and those for which it covers zero."""
    clauses = []
    for part in by_variant(frame):
        shown, hidden = part[~part.covers], part[part.covers]
        clause = listed(f"{attack_label(r.attack)} {signed_interval(r.points, r.low, r.high)}" for r in shown.itertuples())
        if shown.empty:
            clause = "every interval covers zero"
        elif hidden.empty:
            clause += "; no interval covers zero"
        else:
            clause += f"; the interval covers zero for {listed(map(attack_label, hidden.attack))}"
        clauses.append(f"{part.label.iloc[0]}: {clause}")
    return ". ".join(clauses)

"""What the claims page and `mmcoa claims` show of `claims.judge`: tables as text, a forest plot, and phrases for prose."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mmcoa.report import claim_pairs, style, tasks, training_facts
from mmcoa.report.claim_pairs import IN, MATCHED, OUT, UNDEFENDED
from mmcoa.report.claim_tests import (
    ALPHA,
    DECIDES,
    INCONCLUSIVE,
    MARGIN,
    MIN_SEEDS,
    NO_VERDICT,
    NOT_JUDGED,
    NOT_SUPPORTED,
    RESAMPLES,
    SECOND,
    SHOWN,
    SUPPORTED,
)
from mmcoa.report.claims import SUFFIX, is_smoke, judge
from mmcoa.report.names import METHODS, dataset_label, listed, method_label, ordered
from mmcoa.report.results import load
from mmcoa.report.tables import signed_interval

DASH = "–"
ANOTHER_WAY = ", the other way"  # of an effect whose whole interval is below zero


def look(study, resamples=RESAMPLES):
    """Everything about a study's claims: `judged` (list of `claims.Judged`), `found` (`claim_pairs.Found`), `changed`.

    changed: claims whose verdict is another one where only the undefended model needs three times chance.
    """
    found, judged = claim_pairs.find(study), judge(study, resamples=resamples)
    others = judge(study, "undefended", resamples) if found.excluded else judged
    changed = [(a.claim.key, b.words) for a, b in zip(judged, others, strict=True) if a.verdict != b.verdict]
    return SimpleNamespace(judged=judged, found=found, changed=changed, smoke=is_smoke(found))


def verdict_table(judged):
    """One row a claim: statement, verdict, how many deciding parts are supported, and the one with the smallest effect."""
    rows = []
    for each in judged:
        row = {"": each.claim.key, "claim": each.claim.statement, "verdict": each.words}
        row["parts supported"] = supported_text(each)
        row["smallest effect (points)"] = weakest_text(each)
        rows.append(row)
    return pd.DataFrame(rows)


def weakest_text(judged):
    """The deciding part with the smallest effect: `+1.2 (+0.3 to +2.2): text`."""
    weakest = judged.weakest
    return f"{signed_interval(weakest.points, weakest.low, weakest.high)}: {weakest.name}" if weakest else DASH


def supported_text(judged):
    """`2 of 4`; parts that have no verdict are named."""
    parts = judged.deciding
    text = f"{sum(part.verdict == SUPPORTED for part in parts)} of {len(parts)}"
    without = [
        f"{sum(part.verdict == word for part in parts)} {word}"
        for word in (NOT_JUDGED, NO_VERDICT)
        if any(part.verdict == word for part in parts)
    ]
    return f"{text} ({', '.join(without)})" if without else text


def parts_table(judged):
    """One row a part of one claim, as text."""
    rows = []
    for part in judged.parts:
        row = {"part": part.name, "role": part.role, "effect (points)": DASH, "p": DASH, "p, Holm": DASH}
        row |= {"n": DASH, "data sets": DASH, "seeds": DASH, "accuracies (%)": DASH, "verdict": part_words(part)}
        if part.measured:
            row["effect (points)"] = signed_interval(part.points, part.low, part.high)
            row["n"], row["data sets"] = f"{part.n:,}", sets_text(part)
            row["seeds"] = DASH if part.seeds is None else str(part.seeds)
            row["accuracies (%)"] = ", ".join(f"{what} {value:.1f}" for what, value in part.levels.items())
        if not np.isnan(part.p):
            row["p"], row["p, Holm"] = p_text(part.p), p_text(part.p_holm)
        rows.append(row)
    return pd.DataFrame(rows)


def short(table):
    """`parts_table` as wide as a page."""
    return table.drop(columns=["p"]).rename(columns={"p, Holm": "p"})


def all_parts(judged):
    """The parts of all claims, one table."""
    return pd.concat([parts_table(each).assign(claim=each.claim.key) for each in judged]).set_index("claim").reset_index()


def sets_text(part):
    """`15, 12 above 0`."""
    return str(part.sets) if part.higher is None else f"{part.sets}, {part.higher} above 0"


def p_text(p):
    return f"{p:.4f}" if p < 0.001 else f"{p:.3f}"


def part_words(part):
    """A part's verdict; in brackets where it has no say in the claim's."""
    if part.role == SHOWN and part.measured:
        return DASH
    text = verdict_words(part) + (f": {part.why}" if part.why else "")
    return f"({text})" if part.role == SECOND else text


def verdict_words(part):
    """A part's verdict, and whether the effect points against the claim."""
    return part.verdict + (ANOTHER_WAY if part.verdict == NOT_SUPPORTED and round(part.high, 1) < 0 else "")


def says(judged):
    """Which deciding parts have which verdict, then the second ones, then those without one: `Supported: text +33.4 (...)`."""
    clauses = []
    for role, front in ((DECIDES, ""), (SECOND, "beside the claim, ")):
        parts = [part for part in judged.parts if part.role == role and part.measured]
        for words in dict.fromkeys(verdict_words(part) for part in parts):
            own = listed(
                f"{part.name}, {signed_interval(part.points, part.low, part.high)}"
                for part in parts
                if verdict_words(part) == words
            )
            clauses.append(f"{front}{words}: {own}")
    for why in dict.fromkeys(part.why for part in judged.parts if part.verdict == NOT_JUDGED):
        own = [part.name for part in judged.parts if part.verdict == NOT_JUDGED and part.why == why]
        clauses.append(f"{NOT_JUDGED} ({why}): {listed(own)}")
    text = "; ".join(clauses)
    return text[:1].upper() + text[1:]


def of_claims(seen, study, results="results"):
    """Phrases for the page, by glue key."""
    facts = {
        "claims_summary": summary(seen, study),
        "claims_margin": f"{MARGIN:.0f} point",
        "claims_alpha": f"{ALPHA}",
        "claims_resamples": f"{RESAMPLES:,}",
        "claims_min_seeds": str(MIN_SEEDS),
        "claims_tests": str(sum(not np.isnan(part.p) for each in seen.judged for part in each.parts)),
        "claims_floor": p_text(2 / (RESAMPLES + 1)),
        "claims_pairs": pairs_text(seen),
        "claims_changed": listed(f"{key} becomes {words}" for key, words in seen.changed) or "no verdict changes",
        "claims_lr": training_facts.lr_says(tasks.everywhere(study), results),
    }
    for each in seen.judged:
        key = each.claim.key.lower()
        facts |= {f"{key}_statement": each.claim.statement, f"{key}_test": each.claim.test, f"{key}_mind": each.claim.mind}
        facts |= {f"{key}_verdict": each.words, f"{key}_says": says(each)}
    return facts


def summary(seen, study):
    """The verdicts in a sentence, or that a smoke run has none."""
    if seen.smoke:
        return (
            f"The study {study.name} is a smoke run: it has fewer than {MIN_SEEDS} training seeds and few pictures, so this "
            "page gives no verdicts. Its effects and intervals show what the page looks like, and nothing about the claims"
        )
    words = (SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE, NO_VERDICT, NOT_JUDGED)
    groups = {word: [each.claim.key for each in seen.judged if each.verdict == word] for word in words}
    text = "; ".join(f"{word}: {listed(keys)}" for word, keys in groups.items() if keys)
    return text[:1].upper() + text[1:]


def pairs_text(seen):
    """`132 of 135`."""
    return f"{seen.found.count - len(seen.found.excluded)} of {seen.found.count}"


def entering_table(found):
    """One row a data set of a task: chance, and each method's clean accuracy, in brackets where it is too near chance to
    enter."""
    names = ordered({name for name, _ in found.pairs} - {MATCHED}, METHODS)
    rows = []
    for task in (OUT, IN):
        pairs = {name: found.pairs.get((name, task), {}) for name in names}
        judged = [name for name in names if pairs[name] and name != UNDEFENDED] or [UNDEFENDED] * (task == OUT)
        for dataset in dict.fromkeys(dataset for name in judged for dataset in pairs[name]):
            own = {name: pairs[name].get(dataset) for name in names}
            chance = next(pair.chance for pair in own.values() if pair)
            row = {
                "data set": f"{dataset_label(dataset)}{', in distribution' if task == IN else ''}",
                "chance": f"{chance:.0f}",
            }
            rows.append(row | {method_label(name): clean_text(pair) for name, pair in own.items()})
    return pd.DataFrame(rows)


def clean_text(pair):
    """`66`, `(14)` of a pair that does not enter; a dash for none."""
    if pair is None:
        return DASH
    return f"{pair.clean:.0f}" if pair.enters else f"({pair.clean:.0f})"


def forest(judged):
    """Forest plot of one claim: effects with intervals, the margin as a band, the claimed direction to the right.

    Full markers decide; hollow ones stand beside the claim. Parts without results have no row.
    """
    style.use()
    parts = [part for part in judged.parts if part.measured][::-1]
    figure, axes = plt.subplots(figsize=(style.WIDTH, 0.9 + 0.3 * max(1, len(parts))))
    for y, part in enumerate(parts):
        color, marker = style.ATTACKS.get(part.attack, style.OTHER)
        errors = np.clip([[part.points - part.low], [part.high - part.points]], 0, None)
        fill = color if part.role == DECIDES else "white"
        axes.errorbar([part.points], [y], xerr=errors, fmt=marker, color=color, ms=6, elinewidth=1.2, mec=color, mfc=fill)
    axes.axvspan(-MARGIN, MARGIN, color="#e9e9e9", zorder=0)
    axes.axvline(0, color=style.GREY, ls=(0, (4, 3)), lw=0.9, zorder=1)
    axes.set_yticks(range(len(parts)), [part.name for part in parts])
    axes.set(ylim=(-0.6, max(1, len(parts)) - 0.4), xlabel="effect (points of macro accuracy); to the right: as claimed")
    axes.grid(axis="y", visible=False)
    if not parts:
        axes.text(0, 0, "nothing to show: no part could be measured", ha="center", va="center")
    figure.tight_layout()
    return figure


def command(study, results="results"):
    """What `mmcoa claims STUDY` prints: (columns and rows of the verdicts, those of the parts, lines below)."""
    study = load(study, results)
    seen = look(study)
    verdicts = verdict_table(seen.judged)
    parts = all_parts(seen.judged).drop(columns=["accuracies (%)"])
    lines = [
        f"{summary(seen, study)}."
        if seen.smoke
        else f"verdicts{SUFFIX}: of the direction of an effect, as the paper's own numbers were not at hand",
        f"effect: points of macro accuracy, positive as claimed, with 95 % bootstrap intervals (classes, data sets and seeds "
        f"drawn, {RESAMPLES:,} resamples)",
        f"supported: interval above +{MARGIN:.0f} and p (Holm) < {ALPHA}; not supported: interval below +{MARGIN:.0f}; n: "
        f"pictures",
        f"{pairs_text(seen)} pairs of method and data set enter, having a clean accuracy of at least three times chance; the "
        f"others: {claim_pairs.excluded_text(seen.found)}",
    ]
    tables = [
        (list(frame.columns), frame.map(lambda text: text.replace("\u00a0", " ")).to_numpy().tolist())
        for frame in (verdicts, parts)
    ]
    return (*tables, lines)

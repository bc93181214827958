"""Claims on made-up outcomes whose effects are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mmcoa.cli.main import app
from mmcoa.errors import UserError
from mmcoa.report import claim_pairs, claim_report, claims
from mmcoa.report.claim_tests import (
    DECIDES,
    INCONCLUSIVE,
    NO_VERDICT,
    NOT_JUDGED,
    NOT_SUPPORTED,
    RESAMPLES,
    SUPPORTED,
    Ask,
    Contrast,
    Part,
    adjusted,
    bootstrap,
    combined,
    measure,
    p_value,
    verdict_of,
)
from mmcoa.report.results import Results

ATTACKS = ("clean", "image", "text", "independent", "sequential")
LEVELS = {  # percent right under each attack
    "none": (90, 60, 30, 20, 10),
    "clean": (90, 60, 30, 20, 10),
    "tecoa": (90, 70, 30, 20, 10),
    "image_only": (90, 70, 30, 20, 10),
    "mmcoa": (80, 80, 50, 40, 30),
}
SETS = tuple(f"set{i}" for i in range(6))
B = 2000  # resamples: fewer than the page's, for speed
CLASSES, SIZE = 10, 10  # pictures of a class: an accuracy of 10 k % is k pictures right in each class


def model(model, method, dataset, levels, task="out_of_distribution", classes=CLASSES, defense=None):
    """(row, outcomes) of one model on one data set; picture j of a class survives an attack if its level is above 10 j."""
    label, luck = np.repeat(np.arange(CLASSES), SIZE), np.tile(np.arange(SIZE) * 10, CLASSES)
    frame = pd.DataFrame(
        {"model": model, "method": method, "dataset": dataset, "sample_id": np.arange(len(label)), "label": label}
    )
    for attack, level in zip(ATTACKS, levels, strict=True):
        frame[f"{attack}_correct"] = luck < level
    defense = defense or method
    row = {"model": model, "method": method, "defense": defense, "dataset": dataset, "classes": classes}
    return row | {"task": "zero_shot" if defense == "none" else task}, frame


def study_of(levels=LEVELS, seeds=(0, 1, 2), more=(), drop=(), shots=None):
    """The `Results` of methods {name: levels, or data set -> levels}; more: extra `model` arguments with `model` NAME-seedS."""
    made = []
    for method, given in levels.items():
        of = given if callable(given) else lambda dataset, given=given: given
        for name in [method] if method == "none" else [f"{method}-seed{seed}" for seed in seeds]:
            made += [model(name, method, dataset, of(dataset)) for dataset in SETS]
    made += [model(**each) for each in more]
    rows = pd.DataFrame([row | {"attack": attack} for row, _ in made for attack in ATTACKS if attack not in drop])
    outcomes = pd.concat([frame for _, frame in made], ignore_index=True).drop(columns=[f"{attack}_correct" for attack in drop])
    trained = rows[rows.defense != "none"].drop_duplicates("model")
    training = trained[["model", "method", "dataset"]].assign(seed=[int(name[-1]) for name in trained.model], lr=np.nan)
    training["shots"] = [(shots or {}).get(method, np.nan) for method in training.method]
    none = pd.DataFrame()
    return Results("synthetic", rows, outcomes, none, none, training.reset_index(drop=True), none, none)


def parts_of(study, key, **options):
    (found,) = [each for each in claims.judge(study, resamples=B, **options) if each.claim.key == key]
    return found, {part.name: part for part in found.parts}


def words(study):
    return {each.claim.key: each.verdict for each in claims.judge(study, resamples=B)}


IN_SETS = [
    dict(
        model=f"{method}-in-on-{dataset}-seed{seed}",
        method=f"{method}-in",
        dataset=dataset,
        levels=levels,
        task="in_distribution",
        defense=method,
    )
    for method, levels in (("mmcoa", (85, 80, 50, 40, 30)), ("tecoa", (90, 70, 30, 20, 10)))
    for dataset in SETS[:2]
    for seed in (0, 1, 2)
]


def test_known_effects_are_found_and_supported():
    study = study_of(more=IN_SETS)
    judged, parts = parts_of(study, "C1")
    assert judged.words == "supported (direction)"
    assert parts["independent, beyond the stronger single attack"].points == pytest.approx(10)
    assert parts["sequential, beyond the stronger single attack"].points == pytest.approx(20)
    _, parts = parts_of(study, "C2")
    # defended: 90 - 30 = 60 lost to the text attack, undefended the same: 60 - 60 / 2
    assert parts["text, drop beyond half of undefended's"].points == pytest.approx(30)
    _, parts = parts_of(study, "C3")
    assert [round(parts[f"{attack}, out of distribution"].points) for attack in ATTACKS[1:]] == [20, 20, 20, 20]
    assert parts["image, in distribution"].sets == 2 and parts["image, in distribution"].n == 200
    judged, parts = parts_of(study, "C4")
    assert judged.verdict == SUPPORTED and parts["image, against TeCoA"].points == pytest.approx(10)
    judged, parts = parts_of(study, "C5")
    assert parts["MMCoA"].points == pytest.approx(10) and parts["all defences, out of distribution"].points == pytest.approx(
        10 / 3
    )
    # TeCoA and MMCoA lose 5 on average out of distribution; in distribution 0 and 0 (nine pictures of ten: 85 is as 90)
    assert parts["out of minus in distribution"].points == pytest.approx(5)
    assert words(study) == dict.fromkeys(("C1", "C2", "C3", "C4", "C5"), SUPPORTED)


def test_a_negative_result_is_said():
    levels = LEVELS | {"mmcoa": (90, 50, 30, 20, 10)}
    judged, parts = parts_of(study_of(levels), "C4")
    assert judged.words == "not supported (direction)"
    assert parts["image, against image only"].points == pytest.approx(-20)
    assert claim_report.part_words(parts["image, against image only"]) == "not supported, the other way"
    assert claim_report.part_words(parts["text, against image only"]) == "not supported"
    assert claim_report.part_words(parts["text, against TeCoA"]) == "(not supported)"
    assert claim_report.says(judged).startswith(
        "Not supported, the other way: image, against image only, −20.0 (−20.0\u00a0to\u00a0−20.0)"
    )


def test_an_effect_that_data_sets_disagree_on_is_inconclusive():
    better, worse = (90, 90, 50, 40, 30), (90, 50, 30, 20, 10)
    levels = LEVELS | {"mmcoa": lambda dataset: better if dataset in SETS[:4] else worse}
    judged, parts = parts_of(study_of(levels, more=IN_SETS), "C4")
    part = parts["image, against image only"]
    assert (part.verdict, part.higher, part.sets) == (INCONCLUSIVE, 4, 6) and part.low < 1 < part.high
    assert judged.verdict == INCONCLUSIVE


def test_most_data_sets():
    part = Part("image", "image", DECIDES, points=5, low=2, high=9, p_holm=0.01, sets=6, higher=3)
    assert verdict_of(part) == SUPPORTED
    assert verdict_of(replace(part, most=True)) == INCONCLUSIVE
    assert verdict_of(replace(part, most=True, higher=4)) == SUPPORTED


@pytest.mark.parametrize(
    ("low", "high", "p", "verdict"),
    [
        (1.2, 9, 0.04, SUPPORTED),
        (1.04, 9, 0.04, INCONCLUSIVE),  # printed as 1.0, which is the margin
        (1.2, 9, 0.06, INCONCLUSIVE),
        (0.2, 0.9, 0.04, NOT_SUPPORTED),
        (-9, -5, 0.01, NOT_SUPPORTED),
        (-1, 1.1, 1.0, INCONCLUSIVE),
    ],
)
def test_margin(low, high, p, verdict):
    assert verdict_of(Part("", "image", DECIDES, low=low, high=high, p_holm=p, sets=1)) == verdict


@pytest.mark.parametrize(
    ("verdicts", "claim"),
    [
        ([SUPPORTED, SUPPORTED], SUPPORTED),
        ([SUPPORTED, NOT_SUPPORTED, INCONCLUSIVE], NOT_SUPPORTED),
        ([SUPPORTED, INCONCLUSIVE], INCONCLUSIVE),
        ([SUPPORTED, NOT_JUDGED], INCONCLUSIVE),
        ([NOT_SUPPORTED, NOT_JUDGED], NOT_SUPPORTED),
        ([NOT_JUDGED, NOT_JUDGED], NOT_JUDGED),
        ([NO_VERDICT, NOT_JUDGED], NO_VERDICT),
    ],
)
def test_a_claim_follows_from_its_deciding_parts(verdicts, claim):
    parts = [Part("", "image", DECIDES, verdict=verdict) for verdict in verdicts]
    assert combined([*parts, Part("", "image", "second", verdict=NOT_SUPPORTED)]) == claim


def test_holm():
    p = [0.01, 0.04, 0.03, 0.005]
    parts = [Part(str(value), "image", DECIDES, verdict="", low=2, high=3, sets=1, p=value) for value in p]
    untested = Part("", "image", DECIDES, verdict=NO_VERDICT)
    found = adjusted([*parts, untested])
    # in order 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1, none below the one before it
    assert [part.p_holm for part in found[:4]] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert [part.verdict for part in found] == [SUPPORTED, INCONCLUSIVE, INCONCLUSIVE, SUPPORTED, NO_VERDICT]
    assert np.isnan(found[4].p_holm)


def test_p_value():
    assert p_value(np.array([1.0] * 98 + [-1.0])) == pytest.approx(2 * 2 / 100)
    assert p_value(np.zeros(99)) == 1
    assert p_value(np.full(1999, 3.0)) == pytest.approx(0.001)
    assert p_value(np.full(1999, -3.0)) == pytest.approx(0.001)


def by_loops(sets, less, resamples, seed):
    """The same resamples, one seed, class and data set at a time."""
    items = [*sets, *less]
    rng, seeds = np.random.default_rng(seed), len(items[0][1])
    chosen = rng.integers(seeds, size=(resamples, seeds))
    draws = [rng.integers(len(set(label)), size=(resamples, len(set(label)))) for *_, label in items]
    own = np.random.default_rng([seed, 1])
    picks = [own.integers(len(side), size=(len(side), resamples)) for side in (sets, less) if side]
    estimates = []
    for r in range(resamples):
        total = 0
        for sign, first, pick in zip((1, -1), (0, len(sets)), picks, strict=False):
            means = []
            for d in pick[:, r]:
                _, difference, label = items[first + d]
                names = sorted(set(label))
                values = [
                    difference[s][i]
                    for s in chosen[r]
                    for c in draws[first + d][r]
                    for i in range(len(label))
                    if label[i] == names[c]
                ]
                means.append(sum(values) / len(values))
            total += sign * sum(means) / len(means)
        estimates.append(100 * total)
    return estimates


@pytest.mark.parametrize("with_less", [False, True])
def test_bootstrap_equals_a_plain_loop(with_less):
    rng = np.random.default_rng(1)
    made = [
        (name, rng.integers(-1, 2, (3, n)), rng.integers(0, c, n)) for name, n, c in (("a", 13, 4), ("b", 9, 2), ("c", 7, 3))
    ]
    sets, less = (made[:2], made[2:]) if with_less else (made, [])
    effect, estimates = bootstrap(Contrast(sets, {}, (0, 1, 2), less), resamples=40, seed=5)
    assert estimates == pytest.approx(by_loops(sets, less, 40, 5))
    means = [difference.mean() for _, difference, _ in made]
    assert effect == pytest.approx(100 * (np.mean(means[:2]) - means[2] if with_less else np.mean(means)))
    part = measure(Ask("", "image", DECIDES, lambda: Contrast(sets, {}, (0, 1, 2), less)), resamples=40, seed=5)
    assert (part.low, part.high) == pytest.approx(tuple(np.quantile(by_loops(sets, less, 40, 5), [0.025, 0.975])))


def test_data_sets_that_disagree_widen_the_interval():
    label = np.repeat(np.arange(5), 4)
    same = Contrast([(name, np.full((1, 20), 0.1), label) for name in "abcd"], {}, None)
    apart = Contrast(
        [(name, np.full((1, 20), value), label) for name, value in zip("abcd", (0, 0, 0.2, 0.2), strict=True)], {}, None
    )
    assert np.ptp(bootstrap(same)[1]) == pytest.approx(0)
    assert bootstrap(apart)[0] == pytest.approx(10) and np.ptp(bootstrap(apart)[1]) > 10


def test_union_by_hand():
    """Four pictures; survivors of the image attack 1, 2, 3, of the text attack 2, 3, 4: of both 2, 3; of the independent
    attack 2."""
    study = study_of({"none": LEVELS["none"]})
    first = study.outcomes[study.outcomes.dataset == "set0"].head(4).assign(label=[0, 0, 1, 1], clean_correct=True)
    first = first.assign(
        image_correct=[1, 1, 1, 0], text_correct=[0, 1, 1, 1], independent_correct=[0, 1, 0, 0], sequential_correct=[1, 1, 1, 0]
    )
    study = replace(
        study,
        outcomes=first.astype({f"{attack}_correct": bool for attack in ATTACKS}),
        rows=study.rows[study.rows.dataset == "set0"],
    )
    _, parts = parts_of(study, "C1")
    assert parts["independent, beyond the union"].points == 25
    assert parts["independent, beyond the union"].levels == {"union": 50, "independent": 25}
    assert parts["sequential, beyond the union"].points == -25
    assert parts["independent, beyond the stronger single attack"].points == 50  # 75 of either attack alone, 25 of both
    assert parts["sequential, beyond the stronger single attack"].points == 0


def test_the_stronger_single_attack_is_chosen_on_each_data_set():
    levels = {"none": lambda dataset: (90, 20, 30, 10, 10) if dataset == "set0" else (90, 60, 30, 10, 10)}
    _, parts = parts_of(study_of(levels), "C1")
    assert parts["independent, beyond the stronger single attack"].points == pytest.approx((10 + 5 * 20) / 6)


def test_a_pair_near_chance_does_not_enter():
    low = (20, 0, 0, 0, 0)  # below three times chance of ten classes
    levels = LEVELS | {"mmcoa": lambda dataset: low if dataset == "set0" else LEVELS["mmcoa"]}
    study = study_of(levels, more=IN_SETS)
    _, parts = parts_of(study, "C3")
    part = parts["image, out of distribution"]
    assert (part.sets, part.n, part.points) == (5, 500, pytest.approx(20))
    assert parts_of(study, "C1")[1]["independent, beyond the stronger single attack"].sets == 6
    found = claim_pairs.find(study)
    assert claim_pairs.excluded_text(found) == "MMCoA on set0"
    table = claim_report.entering_table(found).set_index("data set")
    assert list(table.MMCoA) == ["(20)"] + ["80"] * 5 + ["90"] * 2
    assert table.loc["set0", ["chance", "undefended"]].tolist() == ["10", "90"]
    assert table["image only"].iloc[-2:].tolist() == [claim_report.DASH] * 2 and table.index[-1].endswith(", in distribution")
    seen = claim_report.look(study, B)
    assert claim_report.pairs_text(seen) == "33 of 34"  # 5 methods on 6 sets, and two in distribution on two
    _, parts = parts_of(study, "C5")  # what a defence ruins is what C5 is about
    assert parts["MMCoA"].sets == 6 and parts["MMCoA"].points == pytest.approx((5 * 10 + 70) / 6)
    _, parts = parts_of(study, "C3", chance_rule="undefended")
    assert parts["image, out of distribution"].points == pytest.approx((5 * 20 - 60) / 6)


def test_exactly_three_times_chance_enters():
    study = study_of(LEVELS | {"none": (30, 20, 20, 10, 10)})
    assert not claim_pairs.find(study).excluded


def test_an_undefended_model_near_chance_everywhere_leaves_nothing_to_judge():
    judged, parts = parts_of(study_of(LEVELS | {"none": (20, 10, 10, 0, 0)}), "C1")
    assert judged.words == NOT_JUDGED
    assert {part.why for part in parts.values()} == {"no data set with clean accuracy of at least three times chance"}


def test_what_a_study_lacks_is_said():
    levels = {name: LEVELS[name] for name in ("none", "tecoa", "mmcoa")}
    judged, parts = parts_of(study_of(levels, drop=("independent",)), "C4")
    assert judged.words == NOT_JUDGED
    assert claim_report.part_words(parts["image, against image only"]) == "not judged: no model image only"
    assert claim_report.part_words(parts["independent, against TeCoA"]) == "(not judged: no attack independent)"
    judged, parts = parts_of(study_of(levels), "C3")
    assert parts["image, in distribution"].why == "no model MMCoA fine-tuned on a data set that it is judged on"
    assert judged.verdict == INCONCLUSIVE  # supported where it could be judged
    assert (
        "not judged (no model MMCoA fine-tuned on a data set that it is judged on): image, in distribution"
        in claim_report.says(judged)
    )
    assert words(study_of({"none": LEVELS["none"]})) | {"C1": SUPPORTED} == dict.fromkeys(
        ("C1", "C2", "C3", "C4", "C5"), NOT_JUDGED
    ) | {"C1": SUPPORTED}


def test_few_seeds_give_no_verdict():
    seen = claim_report.look(study_of(seeds=(0,)), B)
    assert seen.smoke and {each.words for each in seen.judged} == {NO_VERDICT}
    assert all(np.isnan(part.p) and not np.isnan(part.points) for each in seen.judged for part in each.parts if part.measured)
    assert claim_report.summary(seen, study_of(seeds=(0,))).startswith("The study synthetic is a smoke run")
    more = [
        dict(model=f"fare-seed{seed}", method="fare", dataset=name, levels=LEVELS["tecoa"]) for name in SETS for seed in (0, 1)
    ]
    judged, parts = parts_of(study_of(more=more), "C2")  # a mean over methods has the seeds that all of them have
    assert parts["text, drop beyond half of undefended's"].why == "2 training seeds, 3 are needed"
    assert judged.words == NO_VERDICT
    assert parts_of(study_of(more=more), "C4")[0].verdict == SUPPORTED


def test_names_of_their_own_do_not_enter():
    """Another base and few-shot models: neither headline nor in distribution."""
    other = dict(levels=(90, 0, 0, 0, 0), defense="mmcoa")
    more = [
        dict(model=f"mmcoa-caltech-seed{seed}", method="mmcoa-caltech", dataset=name, **other)
        for name in SETS
        for seed in (0, 1, 2)
    ]
    few = [
        dict(model=f"mmcoa-1shot-on-set0-seed{seed}", method="mmcoa-1shot", dataset="set0", task="in_distribution", **other)
        for seed in (0, 1, 2)
    ]
    study = study_of(more=more + few, shots={"mmcoa-1shot": 1})
    _, parts = parts_of(study, "C3")
    assert parts["image, out of distribution"].points == pytest.approx(20)
    assert parts["image, in distribution"].verdict == NOT_JUDGED


def test_seeds_are_paired():
    """The mean over seeds of MMCoA against the same seeds of image only."""
    study = study_of()
    study = replace(
        study,
        outcomes=study.outcomes[study.outcomes.model != "image_only-seed0"],
        rows=study.rows[study.rows.model != "image_only-seed0"],
    )
    _, parts = parts_of(study, "C4")
    assert parts["image, against image only"].seeds == 2 and parts["image, against image only"].verdict == NO_VERDICT
    assert parts["image, against TeCoA"].seeds == 3


def test_tables_figure_and_phrases():
    study = study_of(more=IN_SETS)
    seen = claim_report.look(study, B)
    table = claim_report.verdict_table(seen.judged)
    assert list(table[""]) == ["C1", "C2", "C3", "C4", "C5"] and set(table.verdict) == {"supported (direction)"}
    assert (
        table["smallest effect (points)"][0]
        == "+10.0 (+10.0\u00a0to\u00a0+10.0): independent, beyond the stronger single attack"
    )
    parts = claim_report.parts_table(seen.judged[2])
    assert list(parts.seeds.unique()) == ["3"] and parts["data sets"][0] == "6, 6 above 0"
    assert parts["accuracies (%)"][0] == "MMCoA 80.0, undefended 60.0"
    facts = claim_report.of_claims(seen, study)
    assert facts["claims_summary"] == "Supported: C1, C2, C3, C4 and C5"
    assert facts["claims_tests"] == str(sum(not np.isnan(part.p) for each in seen.judged for part in each.parts))
    assert all("`" not in text for text in facts.values())
    for each in seen.judged:
        axes = claim_report.forest(each).axes[0]
        assert len(axes.get_yticklabels()) == sum(part.measured for part in each.parts)


def test_command(folder, tmp_path, monkeypatch):
    """Two seeds at most: the command prints effects and no verdicts."""
    monkeypatch.chdir(folder.parent)
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["claims", "plain"])
    assert shown.exit_code == 0, shown.output
    assert "smoke run" in shown.output and "no model image only" in shown.output
    assert "(direction)" not in shown.output
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no results: .*mmcoa run plain"):
        claim_report.command("plain")


def test_the_smallest_p_value_survives_the_adjustment():
    """The smallest p that the bootstrap can show has to stay below 0.05 after Holm over all tests that the page may have."""
    seen = claim_report.look(study_of(LEVELS | {"leaf": LEVELS["mmcoa"]}, more=IN_SETS), B)
    tests = sum(not np.isnan(part.p) for each in seen.judged for part in each.parts)
    assert tests == sum(part.role != "shown" for each in seen.judged for part in each.parts)
    assert 2 / (B + 1) * tests < 0.05 and RESAMPLES >= B

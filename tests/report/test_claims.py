"""Claims on made-up outcomes whose effects are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mmcoa.cli.main import app
from mmcoa.report import claims, questions, statistics
from mmcoa.report.results import Results

ATTACKS = ("clean", "image", "text", "independent", "sequential")
LEVELS = {  # percent right under each attack
    "none": (90, 10, 30, 0, 0),
    "clean": (90, 10, 30, 0, 0),
    "tecoa": (90, 40, 30, 20, 10),
    "image_only": (90, 40, 30, 20, 10),
    "mmcoa": (80, 50, 50, 40, 30),
}
INSIDE = {"tecoa-in": LEVELS["tecoa"], "mmcoa-in": (90, 50, 50, 40, 30)}
SETS = tuple(f"set{i}" for i in range(8))
LABEL = np.repeat(np.arange(10), 10)  # 10 classes of 10 pictures
LUCK = np.tile(np.arange(10) * 10, 10)  # a picture survives an attack whose level is above this: levels are exact accuracies


def study_of(levels=LEVELS, attacks=ATTACKS, sweeps=None):
    """`Results` of methods {name: levels, or data set -> levels}; those with `-in` are trained on the first two sets."""
    rows, frames = [], []
    for method, given in levels.items():
        inside, defence = method.endswith("-in"), method.removesuffix("-in")
        for name in SETS[:2] if inside else SETS:
            own = given(name) if callable(given) else given
            about = {"model": method, "method": method, "dataset": name}
            row = about | {"defense": defence, "classes": 10, "accuracy": 90.0}
            row |= {"base_model": "made-up", "trained_on": name if inside else "base"}
            task = "zero_shot" if method == "none" else "in_distribution" if inside else "out_of_distribution"
            rows += [row | {"task": task, "attack": attack} for attack in attacks]
            right = {f"{attack}_correct": level > LUCK for attack, level in zip(attacks, own, strict=True)}
            frames.append(pd.DataFrame(about | {"sample_id": range(100), "label": LABEL} | right))
    none = pd.DataFrame()
    return Results("made", pd.DataFrame(rows), pd.concat(frames, ignore_index=True), none, none, none, none, none, sweeps or {})


def values(bed, key):
    own = bed.parts[bed.parts.claim == key]
    return dict(zip(own.part, own.value, strict=True))


def test_known_effects_are_found_and_supported():
    study = study_of(LEVELS | INSIDE)
    inside, bed = claims.beds(study)
    assert bed.sets == SETS[2:] and inside.sets == SETS[:2] and bed.within is inside and bed.control == "holds"
    asked = ("independent, beyond the stronger single attack", *(f"{one}, beyond the union of both" for one in claims.BOTH))
    assert values(bed, "C1") == pytest.approx(dict.fromkeys(asked, 10))
    found = values(bed, "C2")  # text takes 60 from TeCoA, as from the undefended model
    assert found["TeCoA, damage beyond half"] == pytest.approx(30) and found["TeCoA, gain under text"] == 0
    assert values(bed, "C3") == pytest.approx({"image": 40, "text": 20, "independent": 40, "sequential": 30})
    assert values(bed, "C4") == pytest.approx({"image": 10, "text": 20, "independent": 20, "sequential": 20})
    found = values(bed, "C5")
    assert found["all defences, mean"] == pytest.approx(10 / 3)
    assert found["out of minus in distribution"] == pytest.approx(5)  # TeCoA loses 0, MMCoA 10; inside neither
    assert {bed.word(key) for key in claims.CLAIMS} == {"supported"}
    assert bed.parts[bed.parts.part == "image"].accuracy.iloc[1] == "image only 40.0 (44.4); MMCoA 50.0 (62.5)"


def test_without_the_control_nothing_is_judged():
    (bed,) = claims.beds(study_of(LEVELS | {"none": (90, 30, 30, 10, 10)}))
    assert {bed.word(key) for key in claims.CLAIMS} == {"not judged here: the control fails"}
    assert values(bed, "C3")["image"] == pytest.approx(20), "effects are shown all the same"
    (bed,) = claims.beds(study_of({name: own for name, own in LEVELS.items() if name != "tecoa"}))
    assert bed.word("C3") == "not judged here: the control was not made"


def test_verdicts():
    for levels, claim, word in (
        ({"mmcoa": (80, 30, 20, 10, 0)}, "C4", "contradicted"),
        ({"mmcoa": (80, 30, 50, 40, 30)}, "C4", "mixed"),
        ({"mmcoa": (80, 40, 50, 40, 30)}, "C4", "undecided"),  # as good under the image attack
        ({"mmcoa": lambda name: (80, 90, 50, 40, 30) if int(name[3]) % 2 else (80, 0, 50, 40, 30)}, "C4", "undecided"),
        ({"none": (90, 10, 30, 10, 0)}, "C1", "undecided"),  # sequential, which starts from the text attack, does not decide
    ):
        (bed,) = claims.beds(study_of(LEVELS | levels))
        assert bed.word(claim) == word
    assert values(bed, "C1")["sequential, beyond the union of both"] == pytest.approx(10)


def test_p_values_are_adjusted_over_all_parts_of_a_bed_and_variants_do_not_count(rich):
    inside, out = claims.beds(rich)
    assert list(out.methods.values()) == ["none", "tecoa", "image_only", "mmcoa"] and len(out.sets) == 1
    assert set(inside.methods.values()) <= {"none", "tecoa", "tecoa-in", "mmcoa", "mmcoa-in", "image_only", "image_only-in"}
    for bed in (inside, out):
        own = bed.parts[bed.parts.p.notna()]
        assert own.holm.tolist() == statistics.holm(own.p).tolist() and len(own) > 10
        assert (own.sign[own.holm >= claims.ALPHA] == 0).all()


def test_what_a_study_lacks_is_left_out_and_named(plain):
    found = claims.beds(plain)
    said = claims.left_out(found)
    assert "C1 (independent)" in said and "C4 (image, text, independent and sequential)" in said
    assert found[-1].word("C4") == "not measured" and claims.parts(found, "C4")[0].to_numpy().tolist() == [["not measured"]]
    assert claims.beds(study_of({"tecoa": LEVELS["tecoa"]})) == []
    assert claims.controls([])[0].shape == (1, 1) and len(claims.verdicts([])[0]) == 5


def answers(study, asks):
    return {what: statistics.known(found) for what, found in asks(study)}


def test_words_of_training_and_others():
    seen, other = study_of({"none": [20], "mmcoa": [60]}, ["text"]), study_of({"none": [30], "mmcoa": [50]}, ["text"])
    found = answers(study_of(sweeps={"seen": {"": seen}, "meaning": {"any": other}}), questions.seen_words)
    assert found["MMCoA, words of its training"].value == pytest.approx(40)
    assert found["MMCoA, difference"].value == pytest.approx(20) and found["text only, difference"] is None
    assert answers(study_of(), questions.seen_words) == answers(study_of(), questions.meaning) == {}


def test_share_of_the_damage():
    def part(level):
        return study_of({"none": lambda name: [level - 10 * (int(name[3]) % 2)]}, ["text"])

    found = answers(study_of(sweeps={"meaning": {"any": part(20), "meaning": part(70)}}), questions.meaning)
    assert found["any, damage"].value == pytest.approx(75) and found["meaning, damage"].value == pytest.approx(25)
    share = found["meaning, share of the damage of any (%)"]
    assert share.value == pytest.approx(100 / 3) and share.low > 20 and share.high < 50 and share.half > 1
    twice = answers(study_of(sweeps={"meaning": {"any": part(20), "same": part(20)}}), questions.meaning)
    assert twice["same, share of the damage of any (%)"].half < 0.5, "the parts move together"


def test_a_defence_at_test_time_is_compared_on_the_same_pictures():
    names = ("clean", "image", "image@transfer", "image@adaptive")
    part = study_of({"none": (80, 10, 60, 20)}, names)
    part = replace(part, rows=part.rows.assign(defense_at_test="ttc", masked=part.rows.attack == "image@adaptive"))
    found = {what: one.value for what, one in answers(study_of(sweeps={"ttc": {"": part}}), questions.switched_on).items()}
    lead = "undefended with ttc: "
    assert found == pytest.approx({f"{lead}clean": -10, f"{lead}image, worst": 0, f"{lead}image, transfer": 50})


def test_the_command_prints_it(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    printed = CliRunner().invoke(app, ["claims", "rich"]).output
    assert "not judged here" in printed and "rich, out of" in printed and "Holm" in printed

import dataclasses
import re

import pandas as pd
import pytest

from mmcoa.errors import UserError
from mmcoa.report import ablation_facts, ablation_tables, ablations, paired, sections, style
from mmcoa.store import packed
from mmcoa.training.faults import FAULTS

from . import synthetic


@pytest.fixture(scope="module")
def found(folder):
    return ablations.load(folder)


@pytest.fixture(scope="module")
def faults(found):
    return ablations.fault_effects(found)


def test_load(found):
    assert next(iter(found.settings)) == "mmcoa" and set(found.settings) == {entry.name for entry in synthetic.VARIANTS}
    assert found.attacks == ["clean", "image", "text", "sequential"] and found.unfinished == ()
    assert len(found.outcomes) == 3 * 24 * sum(len(entry.seeds) for entry in synthetic.VARIANTS)
    assert found.settings["mmcoa"]["lambda_image"] == 0.5 and "seed" not in found.settings["mmcoa"]


def test_groups_are_read_from_what_is_changed(found):
    assert found.groups == ["lambda", "epsilon", "inner", "trained", "positives", "other"]
    members = {group: list(ablations.variants(found, group)) for group in found.groups}
    assert members["lambda"] == ["mmcoa-lambda25", "mmcoa-lambda75"] and members["other"] == ["mmcoa-lr"]
    assert members["positives"] == ["index-positives"]  # a fault, and a choice
    assert (
        ablations.changes(found, "mmcoa-eps4") == {"epsilon": pytest.approx(4 / 255)}
        and ablations.changes(found, "mmcoa") == {}
    )


def test_a_default_that_is_spelled_out_is_no_change(found):
    settings = found.settings | {"same": {**found.settings["mmcoa"], "positives": "class", "trains": "both"}}
    assert ablations.changes(dataclasses.replace(found, settings=settings), "same") == {}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"lambda_image": 0.25, "lambda_text": 0.75}, "λ image 0.25, λ text 0.75"),
        ({"inner_steps": 1}, "1 inner step"),
        ({"inner_steps": 10, "lr": 0.001}, "10 inner steps, lr 0.001"),
        ({"last_blocks": 1}, "last block of each tower"),
        ({"trains": "image"}, "image tower alone"),
        ({"lora_rank": 8}, "LoRA of rank 8"),
        ({"epsilon": 4 / 255}, "epsilon 4/255"),
    ],
)
def test_label(changed, words):
    assert ablations.label(changed) == words


def test_group_table_is_paired_with_the_reference(found):
    frame = ablations.group_effects(found, "inner")
    table = ablation_tables.group_table(found, "inner", frame).set_index("variant")
    assert list(table.index) == ["1 inner step (reference)", "3 inner steps"]
    assert table.loc["1 inner step (reference)", ["seeds", "n", "Δ clean"]].tolist() == ["0, 1, 2", "72", "–"]
    own, reference = (found.rows[found.rows.model == name] for name in ("mmcoa-inner3-seed1", "mmcoa-seed1"))
    image = own[own.attack == "image"].accuracy.mean()
    points = image - reference[reference.attack == "image"].accuracy.mean()  # the seed that both have
    row = frame[frame.attack == "image"].iloc[0]
    assert (row.accuracy, row.points, row.seeds) == (pytest.approx(image), pytest.approx(points), (1,))
    assert table.loc["3 inner steps", "image"] == f"{image:.1f}" and table.loc["3 inner steps", "Δ image"].startswith("−")


def test_effects_are_those_of_the_outcomes(found):
    frame = ablations.group_effects(found, "epsilon")
    parts = [found.outcomes[found.outcomes.method == name] for name in ("mmcoa-eps4", "mmcoa")]
    expected = paired.effect(*parts, "text")
    row = frame[frame.attack == "text"].iloc[0]
    assert (row.points, row.low, row.high) == (expected["points"], expected["low"], expected["high"])


def test_reference_row_of_other_settings(found):
    table = ablation_tables.group_table(found, "other", ablations.group_effects(found, "other"))
    assert list(table.variant) == ["(reference)", "lr 0.001"]


def test_faults_table(found, faults):
    table = ablation_tables.faults_table(found, faults).set_index("fault")
    assert list(table.index) == ["none (reference)", "gradient leak", "index positives", "all faults"]
    assert table.loc["gradient leak", "seeds"] == "0, 1, 2" and table.loc["all faults", "seeds"] == "0, 1"
    what = ablation_tables.meanings(found, faults).set_index("fault")["what it is"]
    assert list(what.index) == list(table.index)[1:]
    assert what["index positives"] == "pictures of one class are each other's negatives"
    assert not any(re.search(r"\([A-Z]\d", text) for text in what)


def test_an_interval_that_is_printed_with_zero_covers_it(found, monkeypatch):
    effect = {"seeds": (0,), "n": 9, "accuracy": 50.0, "points": 4.5, "low": 0.04, "high": 9.0}
    monkeypatch.setattr(ablations.paired, "effect", lambda *arguments, **options: effect)
    assert ablations.fault_effects(found).covers.all()


def test_a_fault_beside_another_change_says_so(found):
    settings = found.settings | {"gradient-leak": {**found.settings["gradient-leak"], "inner_steps": 10}}
    frame = ablations.fault_effects(dataclasses.replace(found, settings=settings))
    assert frame.label.iloc[0] == "gradient leak, 10 inner steps"


def test_verdicts():
    row = {"variant": "a", "label": "a", "seeds": (0,), "points": -2.0, "low": -3.0, "high": -1.0, "covers": False}
    frame = pd.DataFrame([row | {"attack": "clean"}, row | {"attack": "image", "high": 1.0, "covers": True}])
    shown = "a: clean −2.0 (−3.0\u00a0to\u00a0−1.0)"
    assert ablation_facts.verdicts(frame) == f"{shown}; the interval covers zero for image"
    assert ablation_facts.verdicts(frame[:1]) == f"{shown}; no interval covers zero"
    assert ablation_facts.verdicts(frame[1:]) == "a: every interval covers zero"
    assert ablation_facts.of_faults(frame)["faults_covered"] == "1 of 2"


def test_facts_are_texts(found, faults):
    frames = {group: ablations.group_effects(found, group) for group in found.groups}
    texts = ablation_facts.of_ablations(found) | ablation_facts.of_groups(frames) | ablation_facts.of_faults(faults)
    assert all(isinstance(text, str) and text for text in texts.values())
    assert texts["ablations_missing"] == "none" and texts["ablations_n"] == "72" and texts["ablations_seeds"] == "0, 1, 2"
    assert texts["ablations_threat"].startswith("ℓ∞ ball of 2/255") and texts["ablations_commits"] == "0123456"
    assert "λ image 0.5" in texts["ablations_training"] and texts["ablations_trained_on"] == "all other emoji"
    assert texts["ablations_spread"].startswith("clean ") and "lambda_says" in texts
    assert "coupled decay" in texts["ablations_faults_missing"]


def test_forest(faults, tmp_path):
    first, second = (style.save(ablation_tables.forest(faults), tmp_path / f"{name}.svg").read_bytes() for name in "ab")
    assert first == second and len(first) > 5000


def test_what_there_is_to_show(found, folder, plain, tmp_path):
    groups = {f"ablation-{name}" for name in ablations.GROUPS}
    assert ablations.keys(folder) == {
        "ablations",
        "all-ablations",
        "faults",
        "ablation-lambda-curve",
        *groups,
    }  # not every fault is there
    assert ablations.keys(folder) <= sections.available(plain, folder)
    assert ablations.keys(tmp_path) == set()
    with pytest.raises(UserError, match="no results in .*run: mmcoa run ablations"):
        ablations.load(tmp_path)


def test_the_curve_over_lambda_has_the_reference_and_what_changes_the_weights_alone(found, folder, tmp_path):
    curve = ablations.lambda_curve(found)
    assert list(curve[curve.attack == "text"][["variant", "x", "seeds"]].itertuples(index=False, name=None)) == [
        ("mmcoa-lambda25", 0.25, 1), ("mmcoa", 0.5, 3), ("mmcoa-lambda75", 0.75, 1),
    ]  # fmt: skip
    own = found.outcomes[found.outcomes.method == "mmcoa"]
    row = curve[(curve.variant == "mmcoa") & (curve.attack == "text")].iloc[0]
    assert row.accuracy == pytest.approx(ablation_tables.macro(own, "text")) and row.low < row.accuracy < row.high
    assert style.save(ablation_tables.lambda_figure(curve), tmp_path / "a.svg").stat().st_size > 5000


def written(folder, entries, **changed):
    """Packed ablations of some entries; changed: tables in place of those made."""
    made = synthetic.study(entries, sweeps=(), trained="openmoji/others", samples=12)
    packed.write(folder / "ablations", dataclasses.replace(made, **{name: how(made) for name, how in changed.items()}))
    return folder


def test_some_of_it(tmp_path):
    faults = [synthetic.Entry(name.replace("_", "-"), "mmcoa", (0,), settings={"fault": name}) for name in FAULTS]
    synthetic_ones = written(tmp_path, [synthetic.VARIANTS[0], *faults])
    assert ablations.keys(synthetic_ones) == {"ablations", "ablation-positives", "faults", "all-faults"}
    missing = ablation_facts.of_ablations(ablations.load(tmp_path))["ablations_missing"]
    assert missing.startswith("weights of the two terms, epsilon") and "positives" not in missing


def test_an_unfinished_model_is_left_out(tmp_path):
    def without(made):
        return made.rows[(made.rows.model != "mmcoa-eps4-seed0") | (made.rows.dataset != "openmoji/tools")]

    found = ablations.load(written(tmp_path, synthetic.VARIANTS, rows=without))
    assert found.unfinished == ("mmcoa-eps4-seed0",) and "epsilon" not in found.groups
    assert "all-ablations" not in ablations.keys(tmp_path)
    assert ablation_facts.of_ablations(found)["ablations_unfinished"] == "mmcoa-eps4-seed0"

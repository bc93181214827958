"""Profiles: what a mistake in the file says, on one line."""

import re
from dataclasses import fields

import pytest
import yaml

from mmcoa.errors import UserError
from mmcoa.study.profiles import load_profile, model_ids, shipped_profiles, train_settings
from mmcoa.study.settings import THREAT_FIELDS
from mmcoa.threat import ThreatModel, parse_epsilon

GOOD = """\
name: mine
base_model: openmoji-clip
train: {dataset: openmoji/birds, steps: 3, epsilon: 2/255}
models:
  - {defense: none}
  - {defense: tecoa, seeds: [0, 1], steps: 5}
evaluate:
  datasets: [openmoji/birds, openmoji/tools]
  attacks: [clean, image]
  samples: 4
"""


def load(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return load_profile(path)


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_are_valid_and_say_what_they_are(name):
    profile = load_profile(name)
    assert profile.name == name
    fewer = {"ablations": 5, "ablations-photos": 6, "emoji-at-test": 5, "in-distribution": 5, "paper": 17, "paper-small": 9}
    fewer |= dict.fromkeys(("learning-rates", "learning-rates-photos"), 0)
    assert len(profile.evaluate.datasets) == fewer.get(name, 15)
    assert shipped_profiles()[name].read_text().startswith(f"# {name}: ")


def test_a_model_overrides_shared_settings(tmp_path):
    profile = load(tmp_path, GOOD)
    assert [name for entry in profile.models for name in model_ids(profile, entry)] == ["none", "tecoa-seed0", "tecoa-seed1"]
    settings = train_settings(profile, profile.models[1])
    assert settings["steps"] == 5 and settings["dataset"] == "openmoji/birds" and settings["lr"] is None


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("samples: 4", "sampels: 4", 10, "unknown key 'sampels'; nearest: samples"),
        ("base_model:", "base_modle:", 1, "key 'base_model' is missing"),
        ("steps: 3", "lerning_rate: 3", 3, "unknown key 'lerning_rate'"),
        ("seeds: [0, 1]", "seed: [0, 1]", 6, "unknown key 'seed'; nearest: seeds"),
        ("samples: 4", "samples: many", 10, "samples: must be a whole number, got 'many'"),
        ("samples: 4", "samples: yes", 10, "samples: must be a whole number, got True"),
        ("samples: 4", "samples: 0", 10, "samples: input should be greater than or equal to 1, got 0"),
        ("seeds: [0, 1]", "seeds: 0", 6, "seeds: input should be a valid list, got 0"),
        ("seeds: [0, 1]", "seeds: []", 6, "seeds: list should have at least 1 item"),
        ("epsilon: 2/255", "epsilon: 8", 3, "epsilon must lie in (0, 1]"),
        ("epsilon: 2/255", "epsilon: big", 3, "epsilon 'big' is not a number such as 2/255"),
        ("[clean, image]", "[clean, imgae]", 9, "unknown attack 'imgae'; nearest: image"),
        ("[clean, image]", "[clean, clean]", 9, "attacks: 'clean' is listed twice"),
        ("openmoji/tools", "openmoji/birds", 8, "datasets: 'openmoji/birds' is listed twice"),
        ("openmoji/tools", "openmoji/tols", 8, "unknown data set 'openmoji/tols'; nearest: openmoji/tools"),
        ("defense: tecoa", "defense: tecao", 6, "unknown defence 'tecao'; nearest: tecoa"),
        ("openmoji-clip", "openmoji-clp", 2, "unknown model 'openmoji-clp'; nearest: openmoji-clip"),
        ("{defense: none}", "{defense: none, steps: 3}", 5, "defence 'none' is not trained, so it takes no 'steps'"),
        ("{defense: none}", "{defense: tecoa}", 6, "two models are called 'tecoa-seed0'"),
        ("dataset: openmoji/birds, ", "", 6, "neither `train` nor the model names a dataset"),
        ("dataset: openmoji/birds, ", "dataset: openmoji/birds, split: tset, ", 3, "has no split 'tset'"),
        ("samples: 4", "samples: 4\n  split: tset", 11, "'openmoji/birds' has no split 'tset'"),
        ("name: mine", "name: quick", None, "belongs to a shipped profile"),
        ("name: mine", "name: a/b", 1, "name: string should match pattern"),
        ("samples: 4", "samples: 4\n  samples: 5", 11, "key 'samples' is given twice"),
        ("samples: 4", "samples: [4", 11, "not valid YAML"),
        ("samples: 4", "samples: 4\n  steps: 1.5\n  seed: -1", 11, "got 1.5; line 12: "),
        ("samples: 4", "samples: 4\n  epsilon: 2", 11, "epsilon must lie in (0, 1], in pixel units of [0,1]; got 2"),
        ("samples: 4", "samples: 4\n  norm: l3", 11, "norm: unknown norm 'l3'; nearest: l2"),
        ("samples: 4", "samples: 4\n  queries: 0", 11, "queries must be at least 1, got 0"),
        ("samples: 4", "samples: 4\n  targets: -1", 11, "targets must be 0 (untargeted) or more, got -1"),
        ("samples: 4", "samples: 4\n  text_budget: 2.0", 11, "text_budget: must be a whole number, got 2.0"),
        ("samples: 4", "samples: 4\n  min_similarity: 2", 11, "min_similarity is a cosine, in [-1, 1]; got 2"),
        ("samples: 4", "samples: 4\n  text_score: margn", 11, "unknown text score 'margn'; nearest: margin"),
        ("samples: 4", "samples: 4\n  attackable: all", 11, "unknown attackable 'all'"),
        (
            "samples: 4",
            "samples: 4\n  preset: refrence",
            11,
            "preset: input should be 'protocol' or 'reference', got 'refrence'",
        ),
        ("samples: 4", "samples: 4\n  precision: fp16", 11, "precision: input should be 'fp32', 'bf16' or 'auto', got 'fp16'"),
        (
            "samples: 4",
            "samples: 4\n  check_dataset: openmoji/brids",
            11,
            "unknown data set 'openmoji/brids'; nearest: openmoji/birds",
        ),
        (
            "samples: 4",
            "samples: 4\n  check_samples: 201",
            11,
            "check_samples: input should be less than or equal to 200, got 201",
        ),
        ("samples: 4", "samples: 4\n  candidate_source: wordnets", 11, "unknown candidate source 'wordnets'; nearest: wordnet"),
        ("samples: 4", "samples: 4\n  step_size: 1/255", 11, "unknown key 'step_size'; nearest: steps"),
        ("samples: 4", "samples: 4\n  text_threat: synonyms", 11, "unknown text threat 'synonyms'; nearest: synonym"),
        ("samples: 4", "samples: 4\n  words: old", 11, "unknown words 'old'"),
        ("samples: 4", "candidate_source: mlm\n  text_threat: synonym", 11, "source 'mlm' knows none"),
        ("samples: 4", "candidate_source: mlm\n  words: seen", 11, "candidate source 'mlm' has none"),
        ("steps: 3", "steps: 3, text_threat: meanings", 3, "nearest: meaning"),
    ],
)
def test_a_mistake_is_one_line_with_file_line_and_key(tmp_path, old, new, line, says):
    assert old in GOOD
    with pytest.raises(UserError) as caught:
        load(tmp_path, GOOD.replace(old, new, 1))
    text = str(caught.value)
    assert says in text
    assert "\n" not in text
    assert text.startswith(f"{tmp_path / 'mine.yaml'}" + (f", line {line}:" if line else ""))


@pytest.mark.parametrize("text", ["", "- 1\n", "just words"])
def test_a_profile_is_a_mapping(tmp_path, text):
    with pytest.raises(UserError, match="a profile is a mapping with the keys name, base_model"):
        load(tmp_path, text)


def test_unknown_names_and_missing_files(tmp_path):
    with pytest.raises(UserError, match="unknown profile 'quik'; nearest: quick"):
        load_profile("quik")
    with pytest.raises(UserError, match=r"no profile .*absent\.yaml"):
        load_profile(tmp_path / "absent.yaml")


def test_yaml_cannot_run_code(tmp_path):
    with pytest.raises(UserError, match="not valid YAML"):
        load(tmp_path, GOOD.replace("samples: 4", "samples: !!python/object/apply:os.system ['true']"))


def test_epsilon_is_written_one_way_and_keeps_its_value(tmp_path):
    decimal = yaml.safe_dump(2 / 255).splitlines()[0]
    assert load(tmp_path, GOOD.replace("2/255", decimal)).train.epsilon == "2/255"
    half = load(tmp_path, GOOD.replace("2/255", "1/510")).train.epsilon
    assert half == "0.5/255" and parse_epsilon(half) == 0.5 / 255


def test_settings_of_an_evaluation_are_those_of_the_threat_model(tmp_path):
    settings = load(tmp_path, GOOD).evaluate.model_dump()
    threat = ThreatModel()
    assert {field.name for field in fields(ThreatModel)} - settings.keys() == {"step_size", "keep"}
    assert settings.pop("epsilon") is None  # the model's own
    assert all(settings[name] == getattr(threat, name) for name in THREAT_FIELDS if name != "epsilon")


@pytest.mark.parametrize(
    "source", ["mlm", "mlm:models/bert", "wordnet", "wordnet:data/wn", "characters", "neighbours", "mine.json"]
)
def test_candidate_sources(tmp_path, source):
    assert load(tmp_path, GOOD + f"  candidate_source: {source}\n").evaluate.candidate_source == source


def test_a_radius_beyond_one_is_for_l2_alone(tmp_path):
    assert load(tmp_path, GOOD + "  epsilon: 2\n  norm: l2\n").evaluate.epsilon == "510/255"


def test_a_profile_extends_another_and_changes_three_lines(tmp_path):
    base = load(tmp_path, GOOD)
    (tmp_path / "child.yaml").write_text("extends: mine.yaml\nname: child\nevaluate: {samples: 2}\n")
    child = load_profile(tmp_path / "child.yaml")
    assert child.name == "child" and child.evaluate.samples == 2
    assert child.evaluate.datasets == base.evaluate.datasets and child.models == base.models and child.train == base.train
    (tmp_path / "grandchild.yaml").write_text("extends: child.yaml\nname: grandchild\nmodels: [{defense: none}]\n")
    grandchild = load_profile(tmp_path / "grandchild.yaml")
    assert len(grandchild.models) == 1 and grandchild.evaluate.samples == 2  # lists are replaced, mappings are not
    (tmp_path / "quicker.yaml").write_text("extends: quick\nname: quicker\ntrain: {steps: 1}\n")
    assert load_profile(tmp_path / "quicker.yaml").train.steps == 1


@pytest.mark.parametrize(
    "text, says",
    [
        ("name: a\nextends: quik\n", "line 2: unknown profile 'quik'; nearest: quick"),
        ("extends: quick\ntrain: {steps: 1}\n", "line 1: a profile that extends another needs a name of its own"),
        ("extends: a.yaml\nname: a\n", "line 1: profiles that extend each other in a circle: a.yaml -> a.yaml"),
        ("extends: quick\nname: a\nevaluate:\n  smples: 1\n", "line 4: unknown key 'smples'; nearest: samples"),
    ],
)
def test_mistakes_in_a_profile_that_extends_another(tmp_path, text, says):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=re.escape(says)):
        load_profile(tmp_path / "a.yaml")

"""Expansion of a profile, and what changes a cell's hash."""

import json
import subprocess
import sys

import pytest

from mmcoa.attacks.catalog import ATTACKS
from mmcoa.errors import UserError
from mmcoa.study import sources
from mmcoa.study.cells import evaluate_cells, expand, train_cell
from mmcoa.study.profiles import load_profile, model_ids, shipped_profiles
from mmcoa.study.settings import CANDIDATE_SOURCES, EVALUATE_DEFAULTS
from mmcoa.training.faults import FAULTS


def hashes(profile):
    return {cell.id: cell.hash for cell in expand(profile)}


def changed(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_expansion(write_profile):
    assert list(hashes(write_profile())) == [
        *("none__openmoji-birds", "none__openmoji-tools"),
        *("train__tecoa-seed0", "tecoa-seed0__openmoji-birds", "tecoa-seed0__openmoji-tools"),
    ]


@pytest.mark.parametrize("name", shipped_profiles())
def test_shipped_profiles_expand_to_distinct_cells(name):
    profile = load_profile(name)
    sizes = {model: len(profile.evaluate.datasets) for entry in profile.models for model in model_ids(profile, entry)}
    sizes |= {model: 1 for entry in profile.models if entry.task == "in_distribution" for model in model_ids(profile, entry)}
    trained = [model for model in sizes if model != "none"]
    cells = expand(name)
    assert len({cell.id for cell in cells}) == len(cells)
    first = [cell for cell in cells if cell.kind == "pretrain"]
    assert len(first) == (profile.pretrain is not None) and cells[: len(first)] == first
    assert sum(not cell.sweep for cell in cells) == len(first) + len(trained) + sum(sizes.values())
    sweeps = {cell.sweep: cell for cell in cells if cell.sweep}
    if name == "ablations":
        faults = {cell.parameters["fault"] for cell in cells if cell.kind == "train"}
        assert not sweeps and faults == {None, *FAULTS}
        return
    if name == "photos":
        defences = {(cell.parameters["defense"], cell.parameters["dataset"]) for cell in cells if cell.kind == "train"}
        bases = ("photos/cifar10", "photos/caltech101")
        all_of_them = ("clean", "tecoa", "fare", "pmg_aft", "leaf", "image_only", "text_only", "mmcoa")
        assert not sweeps and defences == {(defence, base) for defence in all_of_them for base in bases}
        return
    if name.startswith("learning-rates"):
        assert {cell.kind for cell in cells} == {"train"} and len({cell.parameters["lr"] for cell in cells}) == 3
        return
    if name == "resnet":
        assert not sweeps and {cell.parameters["dataset"] for cell in cells if cell.kind == "train"} == {"openmoji/others"}
        return
    if name == "paper":
        tasks = {cell.parameters["dataset"] for cell in cells if cell.kind == "train"}
        assert not sweeps and tasks == {"imagenet", "cifar10", "cifar100"}
        return
    assert list(sweeps) == ["attacks", "epsilon", "steps", "restarts", "budget", "source", "words"]
    four = {"none", "tecoa-seed0", "image_only-seed0", "mmcoa-seed0"} if name == "openmoji" else {"none"}
    swept = {sweep: {cell.model for cell in cells if cell.sweep == sweep} for sweep in sweeps}
    assert swept == {sweep: four if sweep in ("attacks", "epsilon") else {"none"} for sweep in sweeps}
    within = {entry.name for entry in profile.models if entry.task == "in_distribution"}
    assert within >= ({"clean-in", "tecoa-in", "image_only-in", "mmcoa-in"} if name == "openmoji" else set())
    assert set(sweeps["attacks"].parameters["attacks"]) == ATTACKS.keys() - {"pgd"}  # `pgd` is another name of `image`


def test_a_training_parameter_changes_its_model_and_what_depends_on_it(write_profile):
    before = hashes(write_profile())
    after = hashes(write_profile(train__steps=3))
    assert changed(before, after) == {"train__tecoa-seed0", "tecoa-seed0__openmoji-birds", "tecoa-seed0__openmoji-tools"}


def test_an_evaluation_parameter_changes_no_train_cell(write_profile):
    before = hashes(write_profile())
    after = hashes(write_profile(evaluate__steps=2))
    assert changed(before, after) == before.keys() - {"train__tecoa-seed0"}


def test_self_checks_are_part_of_a_cell(write_profile):
    before = hashes(write_profile())
    with_checks = hashes(write_profile(evaluate__check_dataset="openmoji/tools"))
    assert changed(before, with_checks) == before.keys() - {"train__tecoa-seed0"}
    assert not changed(
        with_checks, hashes(write_profile(evaluate__check_dataset="openmoji/tools", evaluate__check_samples=200))
    )


def test_weights_of_the_base_model_change_everything(write_profile, project):
    before = hashes(write_profile())
    (project / "models" / "tiny" / "model.safetensors").write_bytes(b"others")
    sources.file_hash.cache_clear()
    assert changed(before, hashes(write_profile())) == before.keys()


def test_neither_device_nor_results_folder_nor_spelling_of_epsilon_is_part_of_a_cell(write_profile):
    before = hashes(write_profile())
    assert before == hashes(write_profile(device="auto", train__epsilon=2 / 255))
    assert before == {cell.id: cell.hash for cell in expand("mini.yaml", runs="elsewhere", results="there")}


def test_a_model_that_a_study_trained_counts_as_its_train_cell(tmp_path):
    (tmp_path / sources.MARKER).write_text(json.dumps({"cell": "train__x", "hash": "abc"}))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert sources.model_hash(str(tmp_path)) != "abc"  # unfinished
    (tmp_path / "mmcoa.json").write_text("{}")
    assert sources.model_hash(str(tmp_path)) == "abc"


def test_files_of_a_folder_data_set_are_inputs(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "0.tar").write_bytes(b"1")
    before = sources.dataset_hash(f"wds:{tmp_path}")
    (tmp_path / "test" / "0.tar").write_bytes(b"12")
    assert sources.dataset_hash(f"wds:{tmp_path}") != before


def test_code_without_comments_and_docstrings():
    text = '"""Doc."""\n\nx = 1  # why\n\n\ndef f():\n    """Two\n    lines."""\n    return "# no comment"\n'
    assert sources.code_of(text) == 'x = 1\ndef f():\n    return "# no comment"'


def test_code_reached_by_import():
    evaluation = sources.reached("mmcoa.evaluation.loop")
    assert {
        "mmcoa.evaluation.loop",
        "mmcoa.attacks.pgd",
        "mmcoa.attacks.text",
        "mmcoa.model.clip",
        "mmcoa.threat",
    } <= evaluation.keys()
    assert not any(name.startswith(("mmcoa.study", "mmcoa.report")) or name == "mmcoa.cli.main" for name in evaluation)
    training = sources.reached("mmcoa.training.finetune", "mmcoa.defenses.image_only")
    assert {"mmcoa.training.loop", "mmcoa.defenses.image_only", "mmcoa.defenses._losses"} <= training.keys()
    assert "mmcoa.defenses.text_only" not in training  # another defence's file changes nothing here


def test_a_candidate_source_of_its_own_code_counts_where_it_is_used():
    from mmcoa.attacks.candidates import MODULES

    assert {kind: f"mmcoa.attacks.{kind}" for kind in sources.CANDIDATE_MODULES} == MODULES
    main = {**EVALUATE_DEFAULTS, "datasets": ["openmoji/birds"], "attacks": ["text"]}
    codes = [
        evaluate_cells("none", "abc", main | {"candidate_source": source}, [])[0].inputs["code"] for source in CANDIDATE_SOURCES
    ]
    assert len(set(codes)) == 1 + len(MODULES)


def test_unknown_defence_is_a_user_error():
    settings = dict(dataset="openmoji/birds", epsilon=None, candidate_source="table:train")
    with pytest.raises(UserError, match="unknown defence 'tecao'; nearest: tecoa"):
        train_cell("x", "openmoji-clip", defense="tecao", **settings)


def test_cell_id_is_a_file_name():
    main = {**EVALUATE_DEFAULTS, "datasets": ["wds:../data/cifar 10"], "attacks": ["clean"]}
    (cell,) = evaluate_cells("none", "abc", main, [])
    assert cell.id == "none__wds-..-data-cifar-10"


def test_files_of_a_candidate_folder_are_inputs_and_names_stand_for_themselves(tmp_path):
    (tmp_path / "vocab.txt").write_text("cat")
    before = sources.candidates_hash(f"mlm:{tmp_path}")
    assert before == sources.candidates_hash(f"wordnet:{tmp_path}") == sources.candidates_hash(f"mlm:{tmp_path},whole")
    (tmp_path / "vocab.txt").write_text("dog")
    sources.file_hash.cache_clear()
    assert sources.candidates_hash(f"mlm:{tmp_path}") != before
    names = ["mlm", "mlm:owner/name", "wordnet", "wordnet:oewn:2024", "neighbours", "characters"]
    assert [sources.candidates_hash(name) for name in names] == names
    assert len({sources.candidates_hash(f"table:{half}") for half in ("train", "eval")}) == 1  # one file holds both


def test_lists_and_status_do_not_wait_for_torch():
    code = "import sys, mmcoa.study.status, mmcoa.study.runner; mmcoa.study.status.show('quick'); print(sorted({'torch', 'pandas', 'open_clip'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"

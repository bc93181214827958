"""Expansion of a profile, and what changes a cell's hash."""

import json
import subprocess
import sys

import pytest

from mmcoa import defenses, identity, versions
from mmcoa.attacks import catalog
from mmcoa.errors import UserError
from mmcoa.model import lite
from mmcoa.study.cells import Cell, evaluate_cell, evaluate_cells, train_cell
from mmcoa.study.plan import make_plan
from mmcoa.study.profiles import load_profile, model_ids, shipped_profiles
from mmcoa.study.settings import EVALUATE_DEFAULTS, TRAIN_DEFAULTS
from mmcoa.study.sweeps import Point, points
from mmcoa.training.faults import FAULTS


def hashes(profile):
    return {cell.id: cell.identity for cell in make_plan(profile).cells}


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
    cells = make_plan(name).cells
    assert len({cell.id for cell in cells}) == len(cells)
    first = [cell for cell in cells if cell.kind == "pretrain"]
    assert len(first) == (profile.pretrain is not None) and cells[: len(first)] == first
    assert sum(not cell.sweep for cell in cells) == len(first) + len(trained) + sum(sizes.values())
    judged = {cell.model for cell in cells if cell.kind == "evaluate"}
    assert judged <= set(sizes) and {cell.model for cell in cells if cell.kind == "train"} == set(trained)
    assert {cell.sweep for cell in cells if cell.sweep} == {sweep.name for sweep in profile.sweeps}


def test_the_ablations_hold_every_fault_of_the_released_code():
    faults = {cell.parameters["fault"] for cell in make_plan("ablations").cells if cell.kind == "train"}
    assert faults == {None, *FAULTS}


def test_a_training_parameter_changes_its_model_and_what_depends_on_it(write_profile):
    before = hashes(write_profile())
    after = hashes(write_profile(train__steps=3))
    assert changed(before, after) == {"train__tecoa-seed0", "tecoa-seed0__openmoji-birds", "tecoa-seed0__openmoji-tools"}


ANOTHER = {
    "epsilon": "9/255",
    "dataset": "openmoji/tools",
    "candidate_source": "table:synonyms",
    "check_dataset": "openmoji/tools",
    "defense_at_test": "ttc",
    "with_at_test": {"name": "another"},
    "templates": __file__,
    "classnames": __file__,
}


def test_every_setting_of_a_training_is_part_of_its_cell():
    plain = {**TRAIN_DEFAULTS, "defense": "mmcoa", "dataset": "openmoji/birds", "with": defenses.own_settings("mmcoa")}
    told = [plain, *({**plain, key: ANOTHER.get(key, "another")} for key in TRAIN_DEFAULTS)]
    told += [{**plain, "with": {**plain["with"], key: "another"}} for key in plain["with"]]
    identities = [train_cell("x", "x", "weights", **one).identity for one in told]
    assert len(set(identities)) == len(told) and train_cell("x", "x", "others", **plain).identity not in identities


def test_every_setting_of_an_evaluation_is_part_of_its_cell():
    plain = {**EVALUATE_DEFAULTS, "attacks": ["clean"]}
    told = [plain, {**plain, "attacks": ["clean", "image"]}]
    for key in EVALUATE_DEFAULTS:  # some count only beside another
        needed = {"defense_at_test": "ttc"} if key in ("with_at_test", "adversary", "draws") else {}
        needed |= {"min_similarity": 0.5} if key == "similarity_encoder" else {}  # which needs a floor
        told.append({**plain, **needed, key: ANOTHER.get(key, "another")})
    points = [Point("", "", ["openmoji/birds"], one) for one in told]
    cells = [evaluate_cell("x", "x", "weights", "openmoji/birds", point) for point in points]
    cells += [evaluate_cell("x", "x", "others", "openmoji/birds", points[0])]
    cells += [evaluate_cell("x", "x", "weights", "openmoji/tools", points[0])]
    cells += [evaluate_cell("x", "x", "weights", "openmoji/birds", points[0], "reference")]
    assert len({cell.identity for cell in cells}) == len(cells)


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


@pytest.mark.parametrize("setting", [{"text_threat": "synonym"}, {"words": "seen"}, {"attackable": "class_name"}])
def test_levels_are_settings_like_others_and_defaults_change_nothing(write_profile, setting):
    before = hashes(write_profile())
    ((name, value),) = setting.items()
    assert changed(before, hashes(write_profile(**{f"evaluate__{name}": value}))) == before.keys() - {"train__tecoa-seed0"}
    assert not changed(before, hashes(write_profile(**{f"evaluate__{name}": EVALUATE_DEFAULTS[name]})))


def test_what_measures_meaning_is_part_of_a_cell_unless_it_is_named(write_profile, monkeypatch):
    def both(**settings):
        found = []
        for module in ("json", "no_such_package_here"):  # installed, and not
            monkeypatch.setattr(lite, "MINILM", module)
            found.append(hashes(write_profile(**settings)))
        return changed(*found)

    assert both(evaluate__text_threat="meaning") == {"none__openmoji-birds", "none__openmoji-tools"} | {
        f"tecoa-seed0__openmoji-{name}" for name in ("birds", "tools")
    }
    assert both(train__text_threat="meaning") >= {"train__tecoa-seed0"}
    assert not both(evaluate__text_threat="meaning", evaluate__similarity_encoder="own")
    assert not both(evaluate__min_similarity=0.8)


def test_weights_of_the_base_model_change_everything(write_profile, project):
    before = hashes(write_profile())
    (project / "models" / "tiny" / "model.safetensors").write_bytes(b"others")
    assert changed(before, hashes(write_profile())) == before.keys()


def test_neither_device_nor_results_folder_nor_spelling_of_epsilon_is_part_of_a_cell(write_profile):
    before = hashes(write_profile())
    assert before == hashes(write_profile(device="auto", train__epsilon=2 / 255))
    assert before == {cell.id: cell.identity for cell in make_plan("mini.yaml", runs="elsewhere", results="there").cells}


def test_a_version_makes_the_results_of_its_part_stale_and_no_others(write_profile, monkeypatch):
    before = hashes(write_profile(evaluate__attacks=["clean", "image"]))
    evaluated = before.keys() - {"train__tecoa-seed0"}
    with monkeypatch.context() as patch:
        patch.setattr(versions, "EVALUATION", versions.EVALUATION + 1)
        assert changed(before, hashes("mini.yaml")) == evaluated
    with monkeypatch.context() as patch:
        now = catalog.versions(["clean", "image"])
        patch.setattr(catalog, "versions", lambda names: {name: version + 1 for name, version in now.items()})
        assert changed(before, hashes("mini.yaml")) == evaluated
    with monkeypatch.context() as patch:
        patch.setattr(versions, "TRAINING", versions.TRAINING + 1)
        assert changed(before, hashes("mini.yaml")) == {name for name in before if "tecoa" in name}


def test_a_setting_that_is_added_leaves_old_results_as_they_are(write_profile):
    """As after a release that has one setting more, at its default in an old profile."""
    from mmcoa.study import cells

    cell = next(cell for cell in make_plan(write_profile()).cells if cell.kind == "evaluate")
    old = {**cell.parameters}
    more, defaults = {**old, "something_new": 3}, {**EVALUATE_DEFAULTS, "resize": "openclip", "something_new": 3}
    assert cells._identity("evaluate", more, defaults, cell.inputs, cell.versions) == cell.identity
    assert cells._identity("evaluate", {**more, "something_new": 4}, defaults, cell.inputs, cell.versions) != cell.identity


def test_source_text_is_no_part_of_a_cell(write_profile, monkeypatch):
    """Nothing that makes identities opens a source file of the library, but the records of attacks and defences."""
    opened = []
    real = open

    def watching(path, *arguments, **options):
        opened.append(str(path))
        return real(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", watching)
    make_plan(write_profile())
    assert not [path for path in opened if path.endswith(".py")]


def test_a_model_that_a_study_trained_counts_as_its_train_cell(tmp_path):
    (tmp_path / identity.MARKER).write_text(json.dumps({"cell": "train__x", "identity": "abc"}))
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    assert identity.model(str(tmp_path)) != "abc"  # unfinished
    (tmp_path / "mmcoa.json").write_text("{}")
    assert identity.model(str(tmp_path)) == "abc"


def test_files_of_a_folder_data_set_are_inputs(tmp_path):
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "0.tar").write_bytes(b"1")
    before = identity.dataset(f"wds:{tmp_path}")
    (tmp_path / "test" / "0.tar").write_bytes(b"12")
    assert identity.dataset(f"wds:{tmp_path}") != before


def test_a_candidate_source_with_an_argument_is_one_that_the_library_imports_by_name():
    from mmcoa.attacks.candidates import MODULES

    assert set(identity.SOURCES) == MODULES.keys()


def test_unknown_defence_is_a_user_error():
    settings = dict(dataset="openmoji/birds", epsilon=None, candidate_source="table:train")
    with pytest.raises(UserError, match="unknown defence 'tecao'; nearest: tecoa"):
        train_cell("x", "x", "weights", defense="tecao", **settings)


def test_cell_id_is_a_file_name():
    main = {**EVALUATE_DEFAULTS, "datasets": ["wds:../data/cifar 10"], "attacks": ["clean"]}
    (cell,) = evaluate_cells("none", "none", "abc", points(main, []))
    assert cell.id == "none__wds-..-data-cifar-10"
    assert Cell(**json.loads(json.dumps(cell.asdict()))) == cell


def test_files_of_a_candidate_folder_are_inputs_and_names_stand_for_themselves(tmp_path):
    (tmp_path / "vocab.txt").write_text("cat")
    before = identity.candidates(f"mlm:{tmp_path}")
    assert before == identity.candidates(f"wordnet:{tmp_path}") == identity.candidates(f"mlm:{tmp_path},whole")
    (tmp_path / "vocab.txt").write_text("a dog")
    assert identity.candidates(f"mlm:{tmp_path}") != before
    names = ["mlm", "mlm:owner/name", "wordnet", "wordnet:oewn:2024", "neighbours", "characters"]
    assert [identity.candidates(name) for name in names] == names
    assert len({identity.candidates(f"table:{half}") for half in ("train", "eval")}) == 1  # one file holds both


def test_lists_and_status_do_not_wait_for_torch():
    code = "import sys, mmcoa.study.status, mmcoa.study.runner; mmcoa.study.status.show('quick'); "
    code += "print(sorted({'torch', 'pandas', 'open_clip'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_test_time_defence_is_part_of_an_identity_and_its_defaults_are_not():
    def identity_of(**settings):
        main = {**EVALUATE_DEFAULTS, "datasets": ["openmoji/birds"], "attacks": ["image"], **settings}
        (cell,) = evaluate_cells("none", "none", "weights", points(main, []))
        return cell.identity

    plain, defended = identity_of(), identity_of(defense_at_test="ttc")
    assert plain == identity_of(adversary="transfer", draws=2)  # without a defence these mean nothing
    assert defended == identity_of(defense_at_test="ttc", with_at_test={"steps": 2})  # its default
    changes = ({"with_at_test": {"steps": 3}}, {"adversary": "transfer"}, {"draws": 2})
    others = [identity_of(defense_at_test="ttc", **change) for change in changes]
    assert len({plain, defended, *others, identity_of(defense_at_test="dbd")}) == 6

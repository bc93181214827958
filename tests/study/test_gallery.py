"""The gallery: the rule of choice, what is computed with a tiny random model, and the command."""

import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmcoa.errors import UserError
from mmcoa.gallery import choice, compute, sheets, showable
from mmcoa.gallery.command import chosen_models, gallery, said
from mmcoa.gallery.identity import ATTACKS, SETTINGS, is_current, path_of, read
from mmcoa.gallery.showable import attribution, may_show
from mmcoa.identity import MARKER
from mmcoa.model.loading import create_model
from mmcoa.model.saving import save_checkpoint
from mmcoa.store import packed
from mmcoa.study.compute import run_spec
from mmcoa.study.pack import pack
from mmcoa.study.plan import make_plan, write_specs
from mmcoa.threat import ThreatModel

pytestmark = pytest.mark.slow

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
DATASETS = ["openmoji/birds", "openmoji/tools"]
SMALL = {"examples": 5, "pictures": 60, "steps": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_folder):
    """{id: checkpoint folder} of two random models, the second of which says that it was fine-tuned."""
    folder = tmp_path_factory.mktemp("gallery-models")
    base = save_checkpoint(create_model(tiny_folder, seed=0), folder / "tiny", {"name": "tiny", "epsilon": "2/255"})
    tuned = {
        "name": "tecoa-seed0",
        "defense": "tecoa",
        "base_model": str(base),
        "trained_on": "openmoji/others",
        "epsilon": "2/255",
    }
    return {"none": str(base), "tecoa-seed0": str(save_checkpoint(create_model(tiny_folder, seed=1), folder / "tecoa", tuned))}


@pytest.fixture(scope="module")
def made(models, tmp_path_factory):
    """(what gallery.json holds, folder of results)."""
    folder = tmp_path_factory.mktemp("results") / "mini"
    return compute.run_gallery(models, DATASETS, output=folder, **SMALL), folder


def shown(content):
    """(example, id of the model, what it makes of it), all of them."""
    return [(one, name, found) for one in content["examples"] for name, found in one["models"].items()]


def cut(content, folder, name, box):
    """A picture from its sheet, int [H, W, 3]."""
    left, top, width, height = box
    with Image.open(path_of(folder).parent / content["sheets"][name]["file"]) as sheet:
        return np.array(sheet.convert("RGB")).astype(int)[top : top + height, left : left + width]


def right(clean=True, image=True, text=True, sequential=True):
    return {"clean": clean, "image": image, "text": text, "sequential": sequential}


def test_kinds_are_exclusive():
    assert choice.kind_of(right(clean=False)) is None
    assert choice.kind_of(right()) == "none"
    assert choice.kind_of(right(sequential=False)) == "both"
    assert choice.kind_of(right(image=False)) == choice.kind_of(right(image=False, sequential=False)) == "image"
    assert choice.kind_of(right(text=False, sequential=False)) == "text"
    assert choice.kind_of(right(image=False, text=False, sequential=False)) == "each"


def test_data_sets_and_kinds_take_turns():
    every = [None, "each", "none", "image", "image", "text", "both", "none"]
    assert choice.choose({"a": every, "b": every}, 4) == [("a", 2), ("a", 3), ("b", 3), ("b", 5)]
    assert [place for _, place in choice.choose({"a": every}, 5)] == [1, 2, 3, 5, 6]  # one of each kind, the first
    assert choice.choose({"a": ["each", None], "b": [None]}, 4) == [
        ("a", 0)
    ]  # the next kind that is left, and no more than there are
    assert choice.choose(dict.fromkeys("abc", every), 2) == [("a", 2), ("b", 3)]
    assert choice.choose(dict.fromkeys("abcde", every), 15) == choice.choose(dict.fromkeys("abcde", every), 15)
    kinds = dict.fromkeys("abcde", every)
    chosen = choice.choose(kinds, 15)
    assert [sum(kinds[name][place] == kind for name, place in chosen) for kind in choice.KINDS] == [3] * 5


def test_counts(made):
    content, _ = made
    for one in content["choice"]:
        assert one["pictures"] == 60 and sum(one["kinds"].values()) == one["right"] <= 60
        assert all(one["shown"][kind] <= one["kinds"][kind] for kind in choice.KINDS)
    assert sum(sum(one["shown"].values()) for one in content["choice"]) == len(content["examples"]) > 0


def test_shown_pictures_follow_the_rule(made):
    content, _ = made
    places = {}
    for one in content["examples"]:
        outcome = {attack: found["correct"] for attack, found in one["models"]["none"]["attacks"].items()}
        assert outcome["clean"] and choice.kind_of(outcome) == one["kind"]
        places.setdefault(one["dataset"], []).append(one["place"])
    assert all(own == sorted(set(own)) and own[-1] < 60 for own in places.values())


def test_perturbations_stay_in_the_ball(made):
    content, folder = made
    for one, name, found in shown(content):
        clean = cut(content, folder, "clean", one["clean"])
        assert clean.shape == (64, 64, 3) and clean.std() > 5
        for attack in ("image", "sequential"):
            seen = found["attacks"][attack]
            assert 0.5 / 255 < seen["distance"] <= 2 / 255 + 1e-6
            delta = cut(content, folder, name, seen["picture"]) - clean
            assert 0 < np.abs(delta).max() <= 2
            amplified = cut(content, folder, name, seen["perturbation"])
            assert np.abs(amplified - (128 + 10 * delta)).max() <= 6  # 8 bits round the picture by half a level, times ten
        assert not {"picture", "distance"} & found["attacks"]["clean"].keys() | {"picture"} & found["attacks"]["text"].keys()


def test_pictures_of_several_sizes_share_a_sheet(tmp_path):
    small, large = (torch.rand(3, size, size, generator=torch.Generator().manual_seed(size)) for size in (4, 6))
    rows = [
        [sheets.pixels(small), sheets.perturbation(small, small)],
        [sheets.pixels(large), sheets.perturbation(large, large)],
    ]
    whole, boxes = sheets.sheet(rows)
    assert whole.shape == (12, 12, 3) and boxes == [[[0, 0, 4, 4], [6, 0, 4, 4]], [[0, 6, 6, 6], [6, 6, 6, 6]]]
    sheets.save(whole, tmp_path / "x.webp")
    with Image.open(tmp_path / "x.webp") as read_again:
        assert (np.array(read_again.convert("RGB")) == whole).all()  # lossless
    for row, own in zip(rows, boxes, strict=True):
        for picture, (left, top, width, height) in zip(row, own, strict=True):
            assert (whole[top : top + height, left : left + width] == picture).all()
    assert (rows[0][1] == 128).all()


def test_at_most_one_word_changes(made):
    content, _ = made
    assert any(found["edits"] for _, _, found in shown(content))
    for one, _, found in shown(content):
        before, after = found["prompt"].split(), found["adversarial_prompt"].split()
        assert one["class_name"].split()[-1].lower() in found["prompt"]
        assert len(found["edits"]) <= 1 and (found["prompt"] != found["adversarial_prompt"]) == bool(found["edits"])
        for edit in found["edits"]:
            at = edit["position"]
            assert before[:at] + before[at + 1 :] == after[:at] + after[at + len(edit["new_word"].split()) :]


def test_probabilities_are_complete_and_in_order(made):
    content, _ = made
    for one, _, found in shown(content):
        assert list(found["attacks"]) == list(ATTACKS) == content["attacks"]
        for seen in found["attacks"].values():
            values = [probability for _, probability in seen["top"]]
            assert len(values) == 5 and values == sorted(values, reverse=True)
            assert sum(values) + seen["others"] == pytest.approx(1, abs=1e-5)
            names = [name for name, _ in seen["top"]]
            rank = names.index(one["class_name"]) + 1 if one["class_name"] in names else seen["label"]["rank"]
            assert rank == seen["label"]["rank"] and (not seen["correct"] or rank == 1)
            assert rank > 5 or seen["label"]["probability"] == values[rank - 1]


def test_a_model_that_is_wrong_without_attack_is_wrong_under_every_one(made):
    content, _ = made
    wrong = [found["attacks"] for _, name, found in shown(content) if not found["attacks"]["clean"]["correct"]]
    assert wrong and not any(
        seen["correct"] for attacks in wrong for seen in attacks.values()
    )  # the second model knows nothing


def test_the_same_again_and_no_work_where_it_is_current(made, models, tmp_path, monkeypatch):
    content, folder = made
    again = compute.run_gallery(models, DATASETS, output=tmp_path / "mini", **SMALL)
    assert {**again, "provenance": 0} == {**content, "provenance": 0}  # sheets by their hashes
    assert json.loads(path_of(folder).read_text(encoding="utf8")) == content

    def started(*_, **__):
        raise RuntimeError("computed again")

    monkeypatch.setattr(compute, "load_model", started)
    assert compute.run_gallery(models, DATASETS, output=folder, **SMALL) == content
    for other in ({"steps": 3}, {"examples": 6}, {"epsilon": "1/255"}):
        with pytest.raises(RuntimeError, match="computed again"):
            compute.run_gallery(models, DATASETS, output=folder, **SMALL | other)
    with pytest.raises(RuntimeError, match="computed again"):
        compute.run_gallery({"none": models["none"]}, DATASETS, output=folder, **SMALL)


def test_a_damaged_gallery_is_not_current(made, tmp_path):
    content, folder = made
    copy = tmp_path / "mini"
    shutil.copytree(folder, copy)
    assert is_current(copy, content["identity"]) and not is_current(copy, "another")
    sheet = copy / "gallery" / content["sheets"]["none"]["file"]
    sheet.write_bytes(sheet.read_bytes()[:-1])
    assert not is_current(copy, content["identity"])
    with pytest.raises(UserError, match="not the sheet"):
        read(copy)
    path_of(copy).write_text("{")
    with pytest.raises(UserError, match=r"no readable gallery .*mmcoa gallery"):
        read(copy)


def test_fewer_models_leave_no_sheet_behind(made, models, tmp_path):
    shutil.copytree(made[1], tmp_path / "mini")
    content = compute.run_gallery({"none": models["none"]}, DATASETS, output=tmp_path / "mini", **SMALL)
    assert sorted(path.name for path in (tmp_path / "mini" / "gallery").iterdir()) == [
        "clean.webp",
        "gallery.json",
        "none.webp",
    ]
    assert [one["class_name"] for one in content["examples"]] == [one["class_name"] for one in made[0]["examples"]]


@pytest.mark.parametrize("name", ["photos/cifar10", "cifar10", "caltech101", "photos/caltech101x", "wds:openmoji/birds"])
def test_pictures_that_may_not_be_shown_are_refused(name, models, tmp_path):
    assert not may_show(name)
    with pytest.raises(UserError, match="may not be shown"):
        compute.run_gallery(models, ["openmoji/birds", name], output=tmp_path / "mini", **SMALL)
    assert not (tmp_path / "mini").exists()


def test_credits():
    assert "CC BY-SA 4.0" in attribution("openmoji/birds") and "OpenMoji" in attribution("openmoji/birds")
    assert "Perona" in attribution("photos/caltech101") and "CC BY 4.0" in attribution("photos/caltech101")


def test_mistakes(models):
    with pytest.raises(UserError, match="unknown parameter 'epsilonn'; nearest: epsilon"):
        compute.run_gallery(models, DATASETS, epsilonn="1/255")
    with pytest.raises(UserError, match="undefended"):
        compute.run_gallery({"tecoa-seed0": models["tecoa-seed0"]}, DATASETS, **SMALL)
    with pytest.raises(UserError, match="needs a model and a data set"):
        compute.run_gallery({}, DATASETS)


def test_outcomes_are_compared_with_those_of_the_study(study):
    """They are the same, but for the one that is made another here; of another threat model none is compared."""
    plan = make_plan(study)
    write_specs(plan)
    run_spec(plan.spec(next(process for process in plan.pending if process.name == "evaluate__none")))
    pack(study)
    tables = packed.read(plan.results)
    at = tables.outcomes.index[(tables.outcomes.attack == "text") & (tables.outcomes.dataset == "openmoji/birds")][3]
    sample, before = int(tables.outcomes.sample_id[at]), bool(tables.outcomes.correct[at])
    tables.outcomes.loc[at, "correct"] = not before
    packed.write(plan.results, tables)
    told = {"steps": 1, "epsilon": "2/255", "samples": 40, "pictures": 40, "examples": 5, "device": "cpu"}
    content = compute.run_gallery({"none": "models/tiny"}, DATASETS, output=plan.results, **told)
    one = {"model": "none", "dataset": "openmoji/birds", "sample_id": sample, "attack": "text"}
    differ = [{**one, "stored": not before, "here": before}]
    assert content["compared"] == {"outcomes": 2 * 3 * 40, "models": ["none"], "differ": differ}
    lines = list(said(content, plan.results))
    assert "1 of 240 outcomes differ from the study's (none)" in lines and f"sample {sample}, text: " in lines[-1]
    assert len(compute.stored_outcomes(ThreatModel(steps=1), plan.results)) == 240
    stored = compute.stored_outcomes(ThreatModel(steps=1, epsilon="1/255"), plan.results)
    assert {attack for *_, attack in stored} == {"clean", "text"}  # whose threat has no epsilon


def test_the_notebook_has_the_parameters_of_the_function():
    notebook = json.loads((NOTEBOOKS / "gallery.ipynb").read_text(encoding="utf8"))
    (cell,) = (cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    variables = {}
    exec("".join(cell["source"]), variables)
    variables.pop("__builtins__")
    named = [
        name for name in inspect.signature(compute.run_gallery).parameters if name not in ("settings", "progress", "datasets")
    ]
    assert variables.keys() == {"dataset", *named, *SETTINGS}
    assert {name for name, value in SETTINGS.items() if variables[name] != value} == set()


@pytest.fixture
def study(write_profile, project):
    """A profile whose base model is random, and the folder of results; the gallery's notebook is here too."""
    shutil.copy(NOTEBOOKS / "gallery.ipynb", project / "notebooks")
    return write_profile(evaluate__samples=40)


def test_the_command_end_to_end(study):
    lines = []
    path = gallery(study, echo=lines.append)
    assert lines[0].startswith("left out, no current checkpoint here: tecoa-seed0 (mmcoa run")
    assert any("compared with no stored outcome" in line for line in lines)
    assert path == Path("results/mini/gallery/gallery.json") and read("results/mini")["settings"]["steps"] == 1
    notebook = Path("runs/mini/notebooks/gallery.ipynb")
    assert "none, openmoji/birds: 1 of 3" in notebook.read_text(encoding="utf8")
    notebook.unlink()
    lines.clear()
    assert gallery(study, echo=lines.append) == path
    assert lines[-1] == f"gallery: {path} is up to date" and not notebook.exists()  # nothing was run


def test_only_checkpoints_of_the_current_train_cell_are_taken(study, models):
    plan = make_plan(study)

    def chosen(*wanted):
        here, missing = chosen_models(plan, wanted)
        return list(here), missing

    assert chosen() == (["none"], ["tecoa-seed0"])
    folder = Path("runs/mini/models/tecoa-seed0")
    shutil.copytree(models["tecoa-seed0"], folder)
    assert chosen() == (["none"], ["tecoa-seed0"])  # made by no study
    (train,) = (cell for cell in plan.cells if cell.kind == "train")
    (folder / MARKER).write_text(json.dumps({"cell": train.id, "identity": train.identity}))
    assert chosen() == chosen("tecoa", "none") == chosen("tecoa-seed0") == (["none", "tecoa-seed0"], [])
    (folder / MARKER).write_text(json.dumps({"cell": train.id, "identity": "older"}))
    assert chosen() == (["none"], ["tecoa-seed0"])
    with pytest.raises(UserError, match="unknown model 'teco'; nearest: tecoa-seed0"):
        chosen("teco")


def test_profiles_without_a_gallery(write_profile):
    with pytest.raises(UserError, match=r"evaluates no data set whose pictures may be shown"):
        gallery(write_profile(evaluate__datasets=["photos/cifar10"], train__dataset="openmoji/birds"))
    with pytest.raises(UserError, match="starts from the undefended model"):
        gallery(write_profile(models=[{"defense": "tecoa", "seeds": [0]}]))


def test_nobody_s_face_is_shown():
    assert all(showable.shows_people(name) for name in ("Faces", "Faces_easy", "faces easy"))
    assert not any(showable.shows_people(name) for name in ("cougar_face", "crocodile", "buddha"))

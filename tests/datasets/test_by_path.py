"""Anyone's pictures by their path: folders, lists, what Hugging Face's `datasets` saved; names and templates from files."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

import mmcoa
from mmcoa import identity
from mmcoa.datasets import find
from mmcoa.datasets.order import is_test
from mmcoa.errors import UserError

CLASSES = ("n01", "n02", "n03")


def picture(path, value, size=(16, 16)):
    """A grey picture; the value says which it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value,) * 3).save(path)


def fill(folder, count=5, classes=CLASSES, size=(16, 16)):
    """`count` pictures a class; value: 40 times the label, plus the number."""
    for label, name in enumerate(classes):
        for number in range(count):
            picture(folder / name / f"{number}.png", 40 * label + number, size)
    return folder


def labels_agree(data):
    """The pictures of `fill` say their labels."""
    return torch.equal(data.images[:, 0, 0, 0].long() // 40, data.labels)


def test_a_folder_of_classes_is_split_by_path(tmp_path):
    folder = fill(tmp_path / "mine", count=20)
    (folder / ".DS_Store").write_text("x")
    (folder / "n01" / "README.txt").write_text("x")
    parts = {split: mmcoa.load_dataset(str(folder), split) for split in ("train", "test", "all")}
    assert all(labels_agree(part) for part in parts.values()) and parts["all"].images.shape == (60, 3, 16, 16)
    assert len(parts["train"]) + len(parts["test"]) == len(parts["all"]) == 60
    assert len(parts["test"]) == sum(is_test(f"{name}/{number}.png") for name in CLASSES for number in range(20))
    assert parts["all"].name == "mine" and parts["all"].prompts[0] == "This is a photo of a n01"
    with pytest.raises(UserError, match="unknown split 'val'"):
        mmcoa.load_dataset(str(folder), "val")


def test_a_folder_with_a_level_for_the_split(tmp_path):
    fill(tmp_path / "mine" / "train", count=4)
    fill(tmp_path / "mine" / "val", count=2, classes=CLASSES[:2])
    data = mmcoa.load_dataset(str(tmp_path / "mine"), "val")
    assert len(data) == 4 and data.class_names == list(CLASSES) and labels_agree(data)
    assert list(find(str(tmp_path / "mine")).splits) == ["train", "val"]
    fill(tmp_path / "mine" / "test", count=1, classes=["images"])  # Tiny-ImageNet's test split has no labels
    with pytest.raises(UserError, match="class folders of 'test' that 'train' does not have: images"):
        mmcoa.load_dataset(str(tmp_path / "mine"), "test")


def test_sizes_are_a_property_of_the_data(tmp_path):
    """One size stays; where it varies the preset decides, whatever the seed and the split."""
    assert "crop 16" in mmcoa.load_dataset(str(fill(tmp_path / "one")), "all").transform
    folder = fill(fill(tmp_path / "two"), count=2, classes=["n04"], size=(30, 20))
    transforms = {
        mmcoa.load_dataset(str(folder), split, seed=seed).transform for split in ("train", "all") for seed in range(3)
    }
    assert transforms == {"resize 256 bilinear, crop 224"}
    assert mmcoa.load_dataset(str(folder), "all", transform="openclip", image_size=16).images.shape[-1] == 16


def test_a_list_of_paths_and_labels(tmp_path):
    fill(tmp_path / "pictures", count=2)
    rows = [f"pictures/{name}/{number}.png,{name},{'test' if number else 'train'}" for name in CLASSES for number in range(2)]
    (tmp_path / "mine.csv").write_text("\n".join(["filename,class,split", *rows]))
    data = mmcoa.load_dataset(str(tmp_path / "mine.csv"))
    assert len(data) == 3 and labels_agree(data) and data.name == "mine"
    rows = [f"pictures/{name}/{number}.png\t{label}" for label, name in enumerate(CLASSES) for number in range(2)]
    (tmp_path / "numbers.tsv").write_text("\n".join(rows))
    with pytest.raises(UserError, match="are numbers; give their names: --classnames"):
        mmcoa.load_dataset(str(tmp_path / "numbers.tsv"), "all")
    (tmp_path / "names.txt").write_text("VAN-MOVIL\nGrün\n猫\nnever shown\n")
    data = mmcoa.load_dataset(str(tmp_path / "numbers.tsv"), "all", classnames=tmp_path / "names.txt")
    assert data.class_names == ["VAN-MOVIL", "Grün", "猫", "never shown"] and labels_agree(data)
    assert data.prompts[0] == "This is a photo of a VAN-MOVIL"  # as the user gave it


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "is empty"),
        ("a,b,c\n1,2,3", "columns a, b, c; path and label are expected"),
        ("path,label\nabsent.png,x", "1 of 1 files are missing"),
        ("path,label\nabsent.png", "entry 1 has 1 fields"),
        ("path,label\n,x", "entry 1 has an empty field"),
    ],
)
def test_lists_that_are_wrong(tmp_path, text, message):
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        mmcoa.load_dataset(str(tmp_path / "mine.csv"))


def test_paths_that_are_no_data(tmp_path):
    picture(tmp_path / "flat" / "a.png", 1)
    for name, message in (
        ("flat", "move each into a folder of its class"),
        ("absent.csv", "no folder or list"),
        ("", "sub-folder"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(UserError, match=message):
            mmcoa.load_dataset(str(tmp_path / name if name else tmp_path / "empty"))


def test_class_names_from_a_file(tmp_path):
    folder = fill(tmp_path / "mine")

    def names(text):
        (tmp_path / "names.txt").write_text(text)
        return mmcoa.load_dataset(str(folder), "all", classnames=tmp_path / "names.txt").class_names

    assert names("n03 rose\nn99 elsewhere\nn01 Tench-fish\nn02 cat\n") == ["Tench-fish", "cat", "rose"]
    assert names("one\ntwo\nthree\n\n") == ["one", "two", "three"]
    assert names("N03\nn01\nn02") == ["n01", "n02", "N03"]  # by spelling, not by place
    with pytest.raises(UserError, match="line 2 is blank"):
        names("one\n\nthree")
    with pytest.raises(UserError, match="names 2 classes, the data has 3"):
        names("one\ntwo")
    (folder / "classnames.txt").write_text("one\ntwo\nthree")  # the folder's own
    data = mmcoa.load_dataset(str(folder), "all")
    assert data.class_names == ["one", "two", "three"] and data.prompt_preset == "reference, names: classnames.txt"


def test_numbered_folders_are_named_by_number(tmp_path):
    """Sorted as text, 10 comes before 2."""
    folder = fill(tmp_path / "mine", count=1, classes=[str(number) for number in range(1, 12)])
    (tmp_path / "names.txt").write_text("\n".join(f"name {number}" for number in range(1, 12)))
    data = mmcoa.load_dataset(str(folder), "all", classnames=tmp_path / "names.txt")
    assert data.class_names[:4] == ["name 1", "name 10", "name 11", "name 2"]


def test_templates_from_a_file(tmp_path):
    folder = fill(tmp_path / "mine")
    (tmp_path / "templates.txt").write_text("a photo of a {}.\na drawing of a {c}.\n")
    data = mmcoa.load_dataset(str(folder), "all", templates=tmp_path / "templates.txt")
    assert data.ensemble == (
        tuple(f"a photo of a {name}." for name in CLASSES),
        tuple(f"a drawing of a {name}." for name in CLASSES),
    )
    assert data.prompts == list(data.ensemble[0]) and data.prompt_preset == "templates: templates.txt"
    (tmp_path / "cupl.json").write_text(json.dumps({"N01": ["a", "b", "c"], "n02": ["d"], "n03": ["e", "f", "g"]}))
    with pytest.warns(UserWarning, match="1 to 3 prompts; those with fewer are repeated"):
        data = mmcoa.load_dataset(str(folder), "all", templates=tmp_path / "cupl.json")
    assert data.ensemble == (("a", "d", "e"), ("b", "d", "f"), ("c", "d", "g"))
    (tmp_path / "cupl.json").write_text(json.dumps({"n01": ["a"], "n02": ["b"]}))
    with pytest.raises(UserError, match="unknown class 'n03'"):
        mmcoa.load_dataset(str(folder), "all", templates=tmp_path / "cupl.json")
    with pytest.raises(UserError, match="not both"):
        mmcoa.load_dataset(str(folder), "all", template="{}", templates=tmp_path / "cupl.json")


def saved(folder, count, names=CLASSES, label=lambda row: row % 3):
    """What `Dataset.save_to_disk` writes, two files of it."""
    folder.mkdir(parents=True)
    files = []
    for part in range(2):
        rows = []
        for row in range(part, count, 2):
            path = folder / "picture.png"
            picture(path, 40 * (row % 3) + row // 3)
            rows.append({"image": {"bytes": path.read_bytes(), "path": "x.png"}, "label": label(row)})
            path.unlink()
        table = pa.Table.from_pylist(rows)
        files.append({"filename": f"data-0000{part}-of-00002.arrow"})
        with pa.OSFile(str(folder / files[-1]["filename"]), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    kind = {"names": list(names), "_type": "ClassLabel"} if names else {"dtype": "string", "_type": "Value"}
    (folder / "dataset_info.json").write_text(json.dumps({"features": {"image": {"_type": "Image"}, "label": kind}}))
    (folder / "state.json").write_text(json.dumps({"_data_files": files}))
    return folder


def test_what_hugging_faces_datasets_saved(tmp_path):
    data = mmcoa.load_dataset(str(saved(tmp_path / "one", 12)), "all")
    assert len(data) == 12 and labels_agree(data) and data.class_names == list(CLASSES)
    saved(tmp_path / "two" / "train", 6)
    saved(tmp_path / "two" / "test", 3, label=lambda row: -1)
    (tmp_path / "two" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert labels_agree(mmcoa.load_dataset(str(tmp_path / "two"), "train"))
    with pytest.raises(UserError, match="unknown split 'test'"):  # published without labels
        mmcoa.load_dataset(str(tmp_path / "two"), "test")
    text = mmcoa.load_dataset(str(saved(tmp_path / "text", 6, names=None, label=lambda row: CLASSES[row % 3])), "all")
    assert labels_agree(text) and text.class_names == list(CLASSES)
    (tmp_path / "one" / "data-00001-of-00002.arrow").write_bytes(b"x")
    with pytest.raises(UserError, match="cannot read the Arrow files"):
        mmcoa.load_dataset(str(tmp_path / "one"), "all")


def test_identity_follows_content(tmp_path):
    """A study computes again where a picture, a label or a name has changed, and nothing else."""
    folder = fill(tmp_path / "mine", count=2)
    seen = [identity.dataset(str(folder))]
    picture(folder / "n01" / "0.png", 99)
    seen.append(identity.dataset(str(folder)))
    (folder / "classnames.txt").write_text("a\nb\nc")
    seen.append(identity.dataset(str(folder)))
    (tmp_path / "mine.csv").write_text("path,label\nmine/n01/0.png,x\nmine/n02/0.png,y")
    seen += [identity.dataset(str(tmp_path / "mine.csv"))]
    picture(folder / "n02" / "0.png", 98)
    seen += [identity.dataset(str(tmp_path / "mine.csv"))]
    assert len(set(seen)) == 5 and identity.dataset(str(folder)) == identity.dataset(str(folder))


def test_evaluate_and_train_by_path(tiny, tiny_folder, tmp_path, monkeypatch, capsys):
    """As a user types it: his file, his folder, his names."""
    from mmcoa.cli import main as cli

    monkeypatch.chdir(tmp_path)
    torch.save(tiny.clip.state_dict(), "mine.pt")
    folder = fill(tmp_path / "pictures", count=20)
    for path in folder.rglob("*.png"):
        noise = np.random.default_rng(len(str(path))).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    (tmp_path / "names.txt").write_text("parrot\nbicycle\nhammer")
    model = ["--model", "mine.pt", "--arch", str(tiny_folder), "--device", "cpu"]
    data = ["--dataset", "pictures", "--classnames", "names.txt"]

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main([*arguments])
        return stop.value.code, capsys.readouterr()

    code, _ = run(
        "evaluate", *model, *data, "--attack", "clean", "--attack", "image", "--check-samples", "0", "--output", "r.json"
    )
    rows = json.loads((tmp_path / "r.json").read_text())
    assert code == 0 and [row["attack"] for row in rows] == ["clean", "image"]
    assert (rows[0]["model"], rows[0]["dataset"], rows[0]["classes"]) == ("mine", "pictures", 3)
    options = ["--steps", "1", "--batch-size", "4", "--held-out", "0", "--set", "warmup=0"]
    assert run("train", "--defense", "clean", *model, *data, *options, "--output", "tuned")[0] == 0
    assert json.loads((tmp_path / "tuned" / "mmcoa.json").read_text())["base_model"] == f"{tmp_path}/mine.pt@{tiny_folder}"
    code, said = run("evaluate", "--model", "openmoji-clip", "--arch", "ViT-B-32")
    assert code == 2 and "goes with a model by path" in said.err and said.err.count("\n") == 1
    code, said = run("evaluate", "--model", "openmoji-clip", "--dataset", "./absent")
    assert code == 2 and "no folder or list" in said.err and said.err.count("\n") == 1


@pytest.mark.filterwarnings("ignore:mine. 1 unreadable")
def test_a_training_reads_as_an_evaluation_does(tiny, tiny_folder, tmp_path, monkeypatch):
    """Its templates all count, step by step; own template, sizes and damaged pictures too."""
    from mmcoa.datasets.batches import ShuffledDataset
    from mmcoa.model.saving import save_checkpoint
    from mmcoa.training import finetune
    from mmcoa.training.config import TrainConfig

    monkeypatch.chdir(tmp_path)
    save_checkpoint(tiny, tmp_path / "base")
    folder = fill(fill(tmp_path / "mine", count=6), count=6, classes=["n04"], size=(20, 30))
    (folder / "n02" / "3.png").write_bytes(b"no picture")
    (folder / "templates.txt").write_text("a {}\nthe {}\none {}\n")
    seen = {}

    def train(model, source, defense, config, output, **more):
        seen.update(source=source, metadata=more["metadata"])

    monkeypatch.setattr(finetune, "train", train)
    config = TrainConfig(split="all", steps=3, batch_size=4, held_out=0)
    with pytest.raises(UserError, match="unreadable picture n02/3.png"):
        finetune.fine_tune("tecoa", "base", "mine", "out", config, device="cpu")
    for options, prompts, side in (
        ({}, ["a n01", "the n01", "one n01", "a n01"], 224),
        ({"transform": "openclip"}, ["a n01", "the n01", "one n01", "a n01"], 16),
        ({"template": "my {}"}, ["my n01"] * 4, 224),
    ):
        with pytest.warns(UserWarning, match="1 unreadable"):
            finetune.fine_tune("tecoa", "base", "mine", "out", config, device="cpu", skip_unreadable=True, **options)
        batches = [seen["source"](step) for step in range(4)]
        assert [batch.prompts[0] for batch in batches] == prompts and {batch.images.shape[-1] for batch in batches} == {side}
        assert seen["metadata"]["skipped"] == 1 and str(side) in seen["metadata"]["transform"]
        evaluated = mmcoa.load_dataset("mine", "all", skip_unreadable=True, **options, **tiny.picture_input)
        assert {tuple(one.prompts) for one in batches} == {tuple(one) for one in evaluated.prompt_sets()}
    data = mmcoa.load_dataset("mine", "all", skip_unreadable=True)
    other = mmcoa.load_dataset("mine", "all", skip_unreadable=True, template="a {}")
    assert data.prompts == other.prompts
    assert ShuffledDataset(data, 4, 0).identity() != ShuffledDataset(other, 4, 0).identity()
    with pytest.raises(UserError, match=r"prompt of \d+ tokens, more than the 32"):
        finetune.fine_tune(
            "tecoa", "base", "mine", "out", config, device="cpu", skip_unreadable=True, template="cat " * 90 + "{}"
        )


def test_commands_about_data_take_paths(tmp_path, capsys):
    """With the names and templates that an evaluation would take."""
    from mmcoa.cli import main as cli

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main(["data", *map(str, arguments)])
        return stop.value.code, capsys.readouterr()

    folder = fill(tmp_path / "mine", count=20)
    (tmp_path / "names.txt").write_text("n03 rose\nn01 Tench-fish\nn02 cat\n")
    (tmp_path / "templates.txt").write_text("a {}\nthe {}\n")
    own = ("--classnames", tmp_path / "names.txt", "--templates", tmp_path / "templates.txt")
    code, said = run("check", folder)
    assert code == 0 and said.out.strip().endswith("pictures)") and "mine: ready (" in said.out
    code, said = run("check", folder, *own)
    assert code == 0 and "templates, an ensemble" in said.out
    code, said = run("prompts", folder, *own)
    assert code == 0 and said.out.splitlines()[:3] == ["Tench-fish\ta Tench-fish", "cat\ta cat", "rose\ta rose"]
    assert "each of 2 templates" in said.out
    (tmp_path / "names.txt").write_text("one\n\nthree\n")
    code, said = run("check", folder, *own)
    assert code == 1 and "line 2 is blank" in said.out
    assert run("get", folder)[0] == 0
    (tmp_path / "empty").mkdir()
    code, said = run("check", tmp_path / "empty")
    assert code == 2 and "no sub-folder with pictures" in said.err and said.err.count("\n") == 1


def test_profiles_say_names_templates_and_reading(tmp_path):
    """Files count by content, whatever they are called; a file for each data set; a training reads as an evaluation."""
    from mmcoa.study.plan import make_plan
    from mmcoa.study.profiles import load_profile

    folder = fill(tmp_path / "pictures")
    for name in ("names.txt", "others.txt"):
        (tmp_path / name).write_text("one\ntwo\nthree\n")
    text = f"""
name: own
base_model: openmoji-clip
train: {{dataset: {folder}, steps: 2}}
models: [{{defense: none}}, {{defense: tecoa}}]
evaluate: {{datasets: [{folder}, openmoji/birds], attacks: [clean], samples: 4}}
"""

    def cells(**extra):
        changed = text
        for where, line in extra.items():
            changed = changed.replace(f"{where}: {{", f"{where}: {{{line}, ")
        (tmp_path / "own.yaml").write_text(changed)
        return {cell.id: cell.identity for cell in make_plan(tmp_path / "own.yaml", tmp_path / "r", tmp_path / "s").cells}

    plain = cells()
    one = cells(evaluate=f"classnames: {{{folder}: {tmp_path}/names.txt}}")
    changed = {key for key in plain if plain[key] != one[key]}
    assert changed == {key for key in plain if "birds" not in key and not key.startswith("train")} and len(changed) == 2
    assert cells(evaluate=f"classnames: {{{folder}: {tmp_path}/others.txt}}") == one
    (tmp_path / "others.txt").write_text("one\ntwo\nfour\n")
    assert cells(evaluate=f"classnames: {{{folder}: {tmp_path}/others.txt}}") != one
    for line in (f"templates: {tmp_path}/names.txt", "template: 'a {}'", "transform: openclip", "skip_unreadable: true"):
        assert all(value != plain[key] for key, value in cells(train=line).items() if "tecoa" in key)
        assert all(value != plain[key] for key, value in cells(evaluate=line).items() if not key.startswith("train"))
    (tmp_path / "own.yaml").write_text(text.replace("samples: 4", "samples: 4, classnames: gone.txt"))
    with pytest.raises(UserError, match="line 6: classnames: no file gone.txt"):
        load_profile(tmp_path / "own.yaml")


def test_a_profile_takes_paths(tmp_path, tiny, tiny_folder):
    from mmcoa.study.profiles import load_profile

    folder = fill(tmp_path / "pictures")
    torch.save(tiny.clip.state_dict(), tmp_path / "mine.pt")
    text = f"""
name: own
base_model: {tmp_path}/mine.pt@{tiny_folder}
models: [{{defense: none}}]
evaluate: {{datasets: [{folder}], attacks: [clean], samples: 4}}
"""
    (tmp_path / "own.yaml").write_text(text)
    assert load_profile(tmp_path / "own.yaml").evaluate.datasets == [str(folder)]
    before = identity.model(f"{tmp_path}/mine.pt@{tiny_folder}")
    assert before not in (identity.model(f"{tmp_path}/mine.pt"), identity.model(f"{tmp_path}/mine.pt@ViT-B-32"))
    torch.save({**tiny.clip.state_dict(), "logit_scale": torch.tensor(1.0)}, tmp_path / "mine.pt")
    assert identity.model(f"{tmp_path}/mine.pt@{tiny_folder}") != before
    (tmp_path / "own.yaml").write_text(text.replace(str(folder), "no-such-folder"))
    with pytest.raises(UserError, match="unknown data set 'no-such-folder'"):
        load_profile(tmp_path / "own.yaml")

"""Pictures that an evaluation saves: what they hold, and that another program comes to the same predictions."""

import json
import shutil

import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from mmcoa.errors import UserError
from mmcoa.evaluation.loop import evaluate
from mmcoa.model.loading import embedded_folder
from mmcoa.threat import ThreatModel
from tests.evaluation.test_at_test import small

ATTACKS = ["clean", "image", "text", "sequential", "multimodal"]
THREAT = ThreatModel(epsilon="1/255", steps=3)


def pictures(folder, attack):
    """All tensors of one attack, in order."""
    parts = [load_file(path) for path in sorted((folder / attack).glob("*.safetensors"))]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def test_plain_open_clip_comes_to_the_same_predictions(embedded, birds, tmp_path):
    """open_clip, safetensors and the folder, nothing of ours: of a worst case too, whose samples have several prompts."""
    rows = evaluate(embedded, birds, ATTACKS, THREAT, batch_size=17, save=tmp_path / "saved")
    about = json.loads((tmp_path / "saved" / "pictures.json").read_text())
    clip = open_clip.create_model(f"local-dir:{embedded_folder('openmoji-clip')}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{embedded_folder('openmoji-clip')}")
    mean, std = (torch.tensor(about["model"][key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    clean, found = pictures(tmp_path / "saved", "clean")["images"], {}
    with torch.no_grad():
        text = torch.stack(
            [F.normalize(clip.encode_text(tokenizer(prompts)), dim=-1) for sets in about["prompts"] for prompts in sets]
        )
        for name in ATTACKS:
            saved = found[name] = pictures(tmp_path / "saved", name)
            image = F.normalize(clip.encode_image((saved["images"] - mean) / std), dim=-1)
            predictions = torch.einsum("nd,ncd->nc", image, text[saved["prompts"]]).argmax(dim=1)
            assert predictions.tolist() == saved["predictions"].tolist() == rows.outcomes[f"{name}_prediction"].tolist()
            assert saved["labels"].tolist() == birds.labels.tolist() and saved["sample_ids"].tolist() == birds.ids.tolist()
            assert (saved["images"] - clean).abs().max() <= THREAT.epsilon * (1 + 1e-5)
    assert torch.equal(clean, birds.images.float() / 255) and torch.equal(found["text"]["images"], clean)
    assert not torch.equal((found["image"]["images"] * 255).round() / 255, found["image"]["images"])  # nothing is rounded
    assert len(found["multimodal"]["prompts"].unique()) == 2
    assert about["attacks"]["image"]["threat"]["epsilon"] == THREAT.epsilon and about["dataset"]["samples"] == len(birds)


def test_a_killed_evaluation_goes_on_saving(tiny, small_birds, tmp_path):
    attacks = ["image", "multimodal"]
    whole, folder, parts = tmp_path / "whole", tmp_path / "saved", tmp_path / "parts"
    evaluate(tiny, small_birds, attacks, THREAT, batch_size=21, save=whole)

    def die(done, total):
        if done == 10:
            raise KeyboardInterrupt

    def again(**more):
        steps = []
        evaluate(tiny, small_birds, attacks, THREAT, resume=parts, save=folder, progress=lambda n, _: steps.append(n), **more)
        for name in attacks:
            one, two = (pictures(place, name) for place in (whole, folder))
            assert one["sample_ids"].tolist() == two["sample_ids"].tolist()
            torch.testing.assert_close(one["images"], two["images"], atol=1e-6, rtol=0)
        return steps

    for gone in (False, True):
        with pytest.raises(KeyboardInterrupt):
            evaluate(tiny, small_birds, attacks, THREAT, batch_size=5, resume=parts, save=folder, progress=die)
        if gone:
            shutil.rmtree(folder / "image")
        assert again(batch_size=7)[0] == (7 if gone else 17)  # what is gone is made again


def test_a_folder_with_something_else_is_refused(tiny, small_birds, tmp_path):
    few = small_birds.prefix(3)
    evaluate(tiny, few, ["image"], THREAT, save=tmp_path / "saved")
    evaluate(tiny, few, ["image"], THREAT, save=tmp_path / "saved")
    with pytest.raises(UserError, match="another evaluation"):
        evaluate(tiny, few, ["image"], THREAT.changed(steps=4), save=tmp_path / "saved")
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="other files"):
        evaluate(tiny, few, ["image"], THREAT, save=tmp_path)
    with pytest.raises(UserError, match="is a file"):
        evaluate(tiny, few, ["image"], THREAT, save=tmp_path / "thesis.tex")


def test_each_adversary_of_a_defence_has_its_own_pictures(tiny, small_birds, tmp_path):
    few, threats = small_birds.prefix(4), [THREAT, THREAT.changed(steps=4)]
    rows = evaluate(tiny, few, ["image"], threats, defense=small("clipure_cos"), save=tmp_path)
    for index in (0, 1):
        assert {path.name for path in (tmp_path / str(index)).glob("*/")} >= {"clean", "image@transfer", "image@adaptive"}
        for name in ("image@transfer", "image@adaptive"):
            predictions = rows.outcomes[rows.outcomes.threat == index][f"{name}_prediction"]
            assert pictures(tmp_path / str(index), name)["predictions"].tolist() == predictions.tolist()

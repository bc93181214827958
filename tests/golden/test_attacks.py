"""An attack whose outcomes change says so by its version; see attacks.py."""

import json

import pytest

from mmcoa import versions
from mmcoa.attacks import apgd, ball, catalog, losses, multimodal, pgd
from mmcoa.attacks import text as search
from mmcoa.attacks.image import cw, square
from mmcoa.attacks.protocol import joint
from mmcoa.evaluation import prompts
from tests.golden import attacks as golden

STORED = golden.read()


@pytest.mark.parametrize("name", catalog.ATTACKS)
def test_nothing_moved_without_a_raised_version(name):
    if name not in STORED:
        pytest.skip(f"{name} is new; to guard it: {golden.COMMAND} {name}")
    if text := golden.complaint(name, STORED[name], golden.compute(name)):
        pytest.fail(text)


def only_half(delta, images, threat):
    """A projection that forgets the range."""
    return delta.clamp(-threat.epsilon, threat.epsilon) if threat.norm == "linf" else ball.project(delta, images, threat)


@pytest.mark.parametrize(
    "name,place,attribute,value",
    [
        ("pgd", pgd, "project", only_half),
        ("pgd", pgd, "random_start", lambda *a: ball.random_start(*a[:3], a[3] + 1)),
        ("cw", cw, "margin", losses.cross_entropy),
        ("apgd-ce", apgd, "MOMENTUM", 0.8),
        ("apgd-dlr", apgd, "PROGRESS", 0.5),
        ("square", square, "FIRST_SHARE", 0.7),
        ("text", search, "_beam", lambda level, scores, beam: [[level.edits[0]]] * len(level.prompts)),
        ("joint", joint, "ROUNDS", 1),
        ("auto", multimodal.AttackedBatch, "worst", lambda batch, parts: batch.run(catalog.find(parts[0]))),
        ("sequential", prompts, "class_embeddings", lambda model, sets: model.encode_text([p.upper() + "s" for p in sets[0]])),
    ],
)
def test_a_changed_search_is_noticed_and_the_line_to_edit_is_named(monkeypatch, name, place, attribute, value):
    monkeypatch.setattr(place, attribute, value)
    text = golden.complaint(name, STORED[name], golden.compute(name))
    assert text is not None and text.endswith(f"run: {golden.COMMAND} {name}")
    attack = catalog.find(name)
    assert f"raise `version` of '{name}' ({attack.path}:{attack.line})" in text


@pytest.mark.parametrize(
    "changes", [{"steps": 5}, {"restarts": 3}, {"seed": 9}, {"step_size": 0.00196 * 1.02}, {"keep": "last"}]
)
def test_a_small_change_is_noticed(changes):
    assert golden.moved(STORED["pgd"]["outcomes"], golden.compute("pgd", **changes))


def test_the_golden_is_rewritten_for_a_raised_version_alone(tmp_path, monkeypatch):
    path = tmp_path / "attacks.json"
    path.write_text(golden.STORED.read_text())
    other = {key: {"predictions": [0], "margins": [9.0]} for key in golden.THREATS}
    monkeypatch.setattr(golden, "compute", lambda name: other if name == "fgsm" else STORED[name]["outcomes"])
    assert golden.write(["clean", "fgsm"], path)[0].startswith("fgsm: the outcomes moved")
    assert path.read_text() == golden.STORED.read_text()
    monkeypatch.setattr(versions, "EVALUATION", versions.EVALUATION + 1)
    assert golden.complaint("clean", STORED["clean"], STORED["clean"]["outcomes"]).startswith(
        "clean: the golden is of versions"
    )
    assert golden.write(["fgsm"], path) == []
    written = json.loads(path.read_text())
    assert written["fgsm"] == {"versions": golden.current("fgsm"), "outcomes": other}
    assert {name: entry for name, entry in written.items() if name != "fgsm"} == {
        n: e for n, e in STORED.items() if n != "fgsm"
    }

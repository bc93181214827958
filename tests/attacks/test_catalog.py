"""Records of the attacks, and a new attack: one file, found everywhere."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mmcoa.attacks import catalog, image
from mmcoa.attacks.catalog import ATTACKS, FIELDS, find, usable_parts, versions
from mmcoa.cli import main as cli
from mmcoa.errors import UserError
from mmcoa.evaluation.loop import evaluate
from mmcoa.threat import ThreatModel

PAGE = Path(__file__).parents[2] / "book" / "architecture.md"
NEW = PAGE.read_text(encoding="utf8").partition("## Add an attack")[2].partition("```python\n")[2].partition("```")[0]
by_name = pytest.mark.parametrize("name", ATTACKS)


@by_name
def test_a_record_is_whole_and_its_version_is_where_it_says(name):
    attack = find(name)
    assert all((attack.name, attack.summary, attack.source, attack.label, attack.knows))
    assert Path(attack.path).stem == name.replace("-", "_")
    assert f"version={attack.version}," in Path(attack.path).read_text(encoding="utf8").splitlines()[attack.line - 1]
    module = attack.load()
    assert hasattr(module, "attack") == (attack.image == name)
    for prompts in {attack.sees, attack.judged} - {"clean"}:
        assert callable(find(prompts).load().prompts)


@by_name
def test_a_sentence_says_what_is_used(name):
    threat = ThreatModel(epsilon="3/255", steps=7, apgd_steps=11, queries=1300, text_budget=2, restarts=5)
    attack = find(name)
    said, used = attack.describe(threat), attack.settings(threat)
    assert said and "\n" not in said and set(used) <= set(attack.uses) <= set(FIELDS)
    words = {"epsilon": "3/255", "restarts": "5 restarts", "queries": "1,300 queries", "text_budget": "at most 2 words"}
    words |= {"apgd_steps": "11 steps of adaptive size", "steps": f"{used.get('steps')} step"}
    assert all((text in said) == (field in used) for field, text in words.items())


def test_what_an_attack_rests_on():
    threat = ThreatModel(epsilon="4/255")
    assert find("pgd-reference").settings(threat) == find("pgd").settings(threat.changed(step_size="4/255", keep="last"))
    assert find("joint").under(threat).text_score == "margin" and find("joint").settings(threat)["attacker_images"] == 128
    assert find("text").settings(threat).keys() == find("text").settings(threat.changed(text_budget=2)).keys() - {"beam"}
    assert find("multimodal").settings(threat)["text_score"] == "embedding and margin"
    assert find("multimodal").settings(threat, ("clean", "text"))["text_score"] == "embedding"
    assert find("apgd-dlr-t").settings(threat)["targets"] == find("auto").settings(threat)["targets"] == 9
    assert find("apgd-dlr-t").settings(threat, classes=6)["targets"] == 5
    assert versions(["sequential"]).keys() == {"sequential", "pgd", "text"}
    assert versions(["auto", "image"]).keys() == {"auto", "apgd-ce", "apgd-dlr", "apgd-dlr-t", "square", "image", "pgd"}
    assert {*usable_parts(find("auto"), 3)} == {"apgd-ce", "apgd-dlr", "square"}
    assert usable_parts(find("auto"), 2) == ("apgd-ce", "square")
    assert "joint" not in usable_parts(find("multimodal"), 21, joint=False)


@pytest.mark.parametrize(
    "change,message",
    [
        (("label=", "lable="), "lable"),
        (("    version=1,\n", ""), "version"),
        (("version=1", "version=len('1')"), "malformed"),
        (('"step_size")', '"step_sise")'), "nearest: step_size"),
        (("ATTACK =", "RECORD ="), "assigns ATTACK"),
        (("    version=1,", '    version=1,\n    sees="texts",'), "nearest: text"),
        (('name="mi-fgsm"', 'name="fgsm"'), "defined in"),
    ],
)
def test_a_record_that_does_not_fit_is_one_line(tmp_path, monkeypatch, change, message):
    assert change[0] in NEW
    (tmp_path / "mi_fgsm.py").write_text(NEW.replace(*change))
    monkeypatch.setattr(image, "__path__", [*image.__path__, str(tmp_path)])
    with pytest.raises(UserError, match=message) as mistake:
        catalog.collect()
    assert "mi_fgsm.py" in str(mistake.value) and "\n" not in str(mistake.value)


@pytest.fixture
def new(tmp_path, monkeypatch):
    """The attack `mi-fgsm`, in a file of its own beside the others."""
    (tmp_path / "mi_fgsm.py").write_text(NEW)
    monkeypatch.setattr(image, "__path__", [*image.__path__, str(tmp_path)])
    for name, attack in catalog.collect().items():
        monkeypatch.setitem(ATTACKS, name, attack)
    yield find("mi-fgsm")
    sys.modules.pop("mmcoa.attacks.image.mi_fgsm", None)


def test_a_new_file_is_an_attack(new, tiny, small_birds, capsys):
    """Listed, evaluated, in its row what it used: with no other edit."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["attacks"])
    assert ended.value.code == 0 and "mi-fgsm" in capsys.readouterr().out
    labels = tiny.logits(small_birds.images.float() / 255, tiny.encode_text(small_birds.prompts)).argmax(1)
    own = replace(small_birds, labels=labels)
    threat = ThreatModel(epsilon="4/255", step_size="0.5/255", steps=6)
    rows = evaluate(tiny, own, ["clean", "mi-fgsm"], threat, check=small_birds)
    assert rows[1]["accuracy"] < rows[0]["accuracy"] == 100 and rows[1]["check"].startswith(("ok", "suspicious"))
    assert rows[1]["step_size"] == pytest.approx(0.5 / 255) and rows[1]["steps"] == 6
    assert rows[1]["restarts"] is None and rows[1]["threat"].keys() == set(new.uses)
    assert rows[1]["threat_text"] == "l_inf ball of 4/255 in native pixels, 6 steps of 0.5/255"
    assert new.knows == "weights, label"


def test_the_catalogue_does_not_wait_for_torch():
    code = "import sys; from mmcoa.attacks.catalog import ATTACKS; sys.exit('torch' in sys.modules or not ATTACKS)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

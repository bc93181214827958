"""Each fault of the released code does what its name says, and nothing of it is in the main path."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from mmcoa import defenses
from mmcoa.attacks.ball import random_start
from mmcoa.attacks.candidates import CandidateTable
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.errors import UserError
from mmcoa.model.loading import create_model
from mmcoa.threat import ThreatModel
from mmcoa.training import faults
from mmcoa.training.config import TrainConfig
from mmcoa.training.faults import FAULTS
from mmcoa.training.loop import train

THREAT = ThreatModel(epsilon="4/255", steps=3, candidate_source="table:train")
CONFIG = TrainConfig(steps=2, batch_size=8, lr=3e-4, warmup=10).for_model({})
MMCOA = defenses.choose("mmcoa")


@pytest.fixture
def arguments(small_birds):
    return dict(
        source=ShuffledDataset(small_birds, 8, 0), defense=MMCOA, config=CONFIG, threat=THREAT, metadata={}, held_out=None
    )


def test_no_fault_changes_nothing_and_an_unknown_one_is_refused():
    assert faults.change(None) is None
    with pytest.raises(UserError, match="nearest: gradient_leak"):
        faults.change("gradient_leaks")


def test_names_and_meanings_are_read_without_torch():
    code = (
        "import sys; from mmcoa.training.faults import FAULTS; print('torch' in sys.modules, all(FAULTS.values()), len(FAULTS))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert said == ["False", "True", str(len(FAULTS))]


@pytest.mark.parametrize(
    "fault, defense, says",
    [
        ("gradient_leak", "text_only", "the image attack inside training, and 'text_only' runs none"),
        ("corner_steps", "clean", "the image attack inside training, and 'clean' runs none"),
        ("misaligned_candidates", "tecoa", "the text attack inside training, and 'tecoa' runs none"),
        ("index_positives", "tecoa", "changes 'positives', which 'tecoa' does not have"),
        ("all_faults", "fare", "'fare' runs none"),
    ],
)
def test_a_fault_that_a_defence_cannot_have(arguments, fault, defense, says):
    with pytest.raises(UserError, match=says):
        faults.change(fault)(arguments | {"defense": defenses.choose(defense)})


def test_the_leak_is_what_backward_in_the_attack_adds_up(tiny, small_birds, arguments):
    """The gradient of the faulty objective minus that of the right one: the sum of `backward` calls inside PGD."""
    batch = arguments["source"](1)
    tiny.requires_grad_(True)
    faulty = faults.change("gradient_leak")(arguments)["defense"].objective

    def gradient(objective):
        tiny.zero_grad(set_to_none=True)
        objective(tiny, tiny, batch, THREAT, MMCOA.settings)[0].backward()
        return torch.cat([p.grad.flatten() for p in tiny.clip.parameters()])

    difference = gradient(faulty) - gradient(MMCOA.objective)
    tiny.zero_grad(set_to_none=True)
    delta = random_start(batch.images.shape[1:], batch.threat(THREAT), batch.sample_ids(), 0)
    for _ in range(THREAT.steps):  # as released: backward on everything, only the image's gradient is used
        adversarial = (batch.images + delta).clamp(0, 1).detach().requires_grad_()
        loss = torch.nn.functional.cross_entropy(tiny.logits(adversarial, tiny.encode_text(batch.prompts)), batch.labels)
        loss.backward()
        delta = (delta + THREAT.step_size * adversarial.grad.sign()).clamp(-THREAT.epsilon, THREAT.epsilon)
        delta = (batch.images + delta).clamp(0, 1) - batch.images
    left = torch.cat([p.grad.flatten() for p in tiny.clip.parameters()])
    assert left.abs().max() > 0 and torch.allclose(difference, left, atol=1e-3 * float(left.abs().max()))


def test_misaligned_candidates_come_from_the_word_before(arguments, small_birds):
    threat = faults.change("misaligned_candidates")(arguments)["threat"]
    table, right = CandidateTable(threat.candidate_source), CandidateTable("table:train")
    prompt = "This is a photo of a parrot"
    assert prompt in small_birds.prompts
    assert table("parrot", prompt, 6)[0] == faults.FUNCTION_WORDS  # what stands for `a`
    assert table("of", prompt, 4)[0] == right("photo")[0]
    assert table("photo", prompt, 3)[0] != right("photo")[0]


def test_the_other_faults(arguments, tiny):
    assert faults.change("index_positives")(arguments)["defense"].settings.positives == "index"
    threat = faults.change("corner_steps")(arguments)["threat"]
    assert threat.step_size == threat.epsilon and threat.keep == "last"
    optimizer = faults.change("coupled_decay")(arguments)["optimizer"](list(tiny.parameters()), CONFIG)
    assert type(optimizer) is torch.optim.Adam and [group["weight_decay"] for group in optimizer.param_groups] == [0.2]
    everything = faults.change("all_faults")(arguments)
    changed = everything["defense"]
    assert changed.variant == "all_faults" and changed.objective is not MMCOA.objective and "optimizer" in everything
    assert changed.settings.positives == "index" and everything["threat"].keep == "last"
    assert everything["threat"].candidate_source.endswith(".json")


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_trains_another_model(arguments, tiny_folder, tmp_path, fault):
    states = []
    for name in (None, fault):
        model = create_model(tiny_folder, 0)
        with torch.no_grad():
            model.clip.text_projection.mul_(3)  # embeddings far apart: another prompt is another update
        changed = faults.change(name)(arguments) if name else arguments
        changed = {**changed, "config": replace(changed["config"], lr=1e-3)}
        train(model, output=tmp_path / str(name), frozen=create_model(tiny_folder, 0), **changed)
        states.append(torch.cat([value.flatten() for value in model.clip.state_dict().values()]))
    assert not torch.equal(*states)
    with pytest.raises(UserError, match="variant"):
        train(create_model(tiny_folder, 0), output=tmp_path / fault, **arguments)

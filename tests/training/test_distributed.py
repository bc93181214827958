"""Two CPU processes train as one."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

# Each process: gradients of one batch by its share, then a short run of `train`; process 0 writes what one process gets too.
SCRIPT = """
import json, sys
from dataclasses import asdict
import torch
from accelerate import PartialState
from open_clip.loss import ClipLoss
from safetensors.torch import save_file
from mmcoa import defenses
from mmcoa.model.loading import create_model
from mmcoa.datasets import load_dataset
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.defenses._losses import contrastive
from mmcoa.distributed import average_gradients, join, mean_over_processes
from mmcoa.threat import ThreatModel
from mmcoa.training.config import TrainConfig
from mmcoa.training.loop import train

folder, output = sys.argv[1:]
team = join("cpu")
assert team.num_processes == 2
data = load_dataset("openmoji/birds", "train", samples=63)
source = ShuffledDataset(data, 12, 0)
threat = ThreatModel(epsilon="4/255", steps=2, candidate_source="table:train")
found = {}
for name, positives in [("tecoa", "class"), ("pmg_aft", "class"), ("mmcoa", "class"), ("mmcoa", "index"), ("leaf", "class")]:
    defense = defenses.choose(name, {"positives": positives} if name == "mmcoa" else {})
    values = []
    for share in (True, False):
        model, frozen = create_model(folder, 0).eval(), create_model(folder, 1).eval().requires_grad_(False)
        batch = source(3)
        if share:
            batch = batch.share(team.process_index, 2)
            loss, _ = defense.objective(model, frozen, batch, threat, defense.settings)
            loss.backward()
            average_gradients(list(model.parameters()))
            loss = mean_over_processes(loss)
        elif team.is_main_process:  # the whole batch in one process: no collective may be called
            import mmcoa.distributed as distributed
            kept, distributed.world_size = distributed.world_size, lambda: 1
            loss, _ = defense.objective(model, frozen, batch, threat, defense.settings)
            loss.backward()
            distributed.world_size = kept
        else:
            continue
        values.append((loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])))
    if team.is_main_process:
        (loss, gradient), (expected, wanted) = values
        found[f"{name} {positives}"] = [loss, expected, (gradient - wanted).abs().max().item(), wanted.abs().max().item()]
generator = torch.Generator().manual_seed(0)
image, text = (torch.nn.functional.normalize(torch.randn(8, 4, generator=generator), dim=1) for _ in range(2))
rank = team.process_index
mine, words = image[4 * rank : 4 * rank + 4].clone().requires_grad_(), text[4 * rank : 4 * rank + 4].clone()
theirs = ClipLoss(gather_with_grad=True, rank=rank, world_size=2)(mine, words, torch.tensor(5.0))
(wanted,) = torch.autograd.grad(theirs, mine)
ours = contrastive(mine, text, torch.arange(8), torch.tensor(5.0), "index")
(gradient,) = torch.autograd.grad(ours, mine)
found["open_clip"] = [ours.item(), 2 * theirs.item(), (gradient - 2 * wanted).abs().max().item(), wanted.abs().max().item()]
config = TrainConfig(steps=4, batch_size=12, lr=1e-3, warmup=10, accumulate=2, checkpoint_every=2)
train(create_model(folder, 0), source, "mmcoa", config, output, threat=threat, held_out=data.take(torch.arange(5)))
if team.is_main_process:
    open(f"{output}.json", "w").write(json.dumps(found))
"""


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_the_whole_batch(tiny_folder, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    output = tmp_path / "two"
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        str(tmp_path / "script.py"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, str(tiny_folder), str(output)], capture_output=True, text=True, env=environment, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "two.json").read_text())
    assert len(found) == 6
    for name, (loss, expected, difference, largest) in found.items():
        assert abs(loss - expected) < 1e-5 * max(1, abs(expected)), name
        assert difference < 1e-4 * largest, name
    one = tmp_path / "one.py"
    one.write_text(
        SCRIPT.partition("found = {}")[0].replace("assert team.num_processes == 2", "")
        + SCRIPT[SCRIPT.index("config = TrainConfig(steps=4") :].partition("if team")[0]
    )
    subprocess.run(
        [sys.executable, str(one), str(tiny_folder), str(tmp_path / "one")], check=True, env=environment, timeout=300
    )
    first, second = (pd.read_csv(tmp_path / name / "log.csv") for name in ("one", "two"))
    assert first.step.tolist() == second.step.tolist() and first.columns.tolist() == second.columns.tolist()
    assert first.loss.tolist() == pytest.approx(second.loss.tolist(), rel=1e-3)
    weights = [load_file(tmp_path / name / "model.safetensors") for name in ("one", "two")]
    differences = torch.cat([(weights[0][key] - value).abs().flatten() for key, value in weights[1].items()])
    assert differences.mean() < 2e-5  # Adam turns rounding of gradients near zero into whole steps of 1e-3

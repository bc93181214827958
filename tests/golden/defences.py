"""What three steps of every defence make of the embedded model: logits of a few pictures and prompts, and the losses.

    python -m tests.golden.defences          # rewrite defences.json; refuses where something moved and no version was raised

The numbers are compared with a tolerance, not bit by bit: another processor rounds otherwise, and Adam turns the sign of a
gradient near zero into a whole step. Measured between plain C, SSE, AVX2 and AVX-512 with one and two threads they differ by at
most 0.002 (logits) and 0.0004 (losses); a tenth more of a weight or one inner step more moves them by over ten times that.
"""

import csv
import json
import sys
import tempfile
from pathlib import Path

import torch

import mmcoa
from mmcoa import defenses, versions
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.threat import ThreatModel
from mmcoa.training.config import TrainConfig
from mmcoa.training.loop import train
from mmcoa.training.pretrain import pretrain

STORED = Path(__file__).with_name("defences.json")
# Measured with AVX2, SSE, AVX-512, AMX, one and two threads: 0.03 logits (scale 100) and 0.0004; changes of the tests: 0.17.
ATOL = {"logits": 0.08, "losses": 0.003}
COMMAND = "python -m tests.golden.defences"
CONFIG = TrainConfig(steps=3, batch_size=12, lr=1e-3, warmup=1, log_every=1)
THREAT = ThreatModel(epsilon="4/255", steps=2, candidate_source="table:train")
PRETRAINING = "pretraining"  # an entry beside the defences


def names():
    """What there is an entry of."""
    return [*defenses.names(), PRETRAINING]


def compute(name, config=CONFIG, threat=THREAT, **own):
    """{"logits": [pictures, prompts], "losses": [steps]} after three steps; rounded. own: settings of the defence."""
    with tempfile.TemporaryDirectory() as folder:
        if name == PRETRAINING:
            pretrain("golden", "openmoji", f"{folder}/run", steps=3, batch_size=32, lr=1e-3, warmup=1)
        else:
            data = mmcoa.load_dataset("openmoji/birds", "train", samples=36)
            model, frozen = (mmcoa.load_model("openmoji-clip") for _ in range(2))
            frozen.requires_grad_(False)
            source, defense = ShuffledDataset(data, config.batch_size, 0), defenses.choose(name, own)
            train(model, source, defense, config, f"{folder}/run", threat=threat, frozen=frozen)
        model = mmcoa.load_model(f"{folder}/run")
        with open(f"{folder}/run/log.csv", newline="") as file:
            losses = [round(float(row["loss"]), 5) for row in csv.DictReader(file)]
    probe = mmcoa.load_dataset("openmoji/birds", "test", samples=6)
    with torch.no_grad():
        logits = model.logits(probe.images.float() / 255, model.encode_text(probe.prompts[:6]))
    return {"logits": [[round(value, 3) for value in row] for row in logits.tolist()], "losses": losses}


def stated(name):
    """{constant: (its value, file, line)} of the versions that an entry depends on."""
    places = {"TRAINING": Path(versions.__file__)}
    places |= {"PRETRAINING": Path(versions.__file__)} if name == PRETRAINING else {"VERSION": defenses.record(name).path}
    found = {}
    for constant, path in places.items():
        lines = path.read_text(encoding="utf8").splitlines()
        number = next(i for i, line in enumerate(lines, 1) if line.startswith(f"{constant} = "))
        found[constant] = (getattr(versions, constant, None) or defenses.record(name).version, path, number)
    return found


def moved(stored, now):
    """{what: largest difference} of the parts of an entry that differ by more than their tolerance."""
    found = {}
    for what, atol in ATOL.items():
        old, new = torch.tensor(stored[what]), torch.tensor(now[what])
        largest = float((old - new).abs().max()) if old.shape == new.shape else float("inf")
        if not largest <= atol:
            found[what] = largest
    return found


def complaint(name, stored, now):
    """What is wrong with an entry, with the line to edit and the command; None where nothing is."""
    places = stated(name)
    current = {constant: value for constant, (value, _, _) in places.items()}
    if stored["versions"] != current:
        return f"{name}: the golden is of {stored['versions']}, the code of {current}; run: {COMMAND}"
    if differs := moved(stored, now):
        said = ", ".join(f"{what} by {largest:.3g} (more than {ATOL[what]})" for what, largest in differs.items())
        lines = [f"{constant} = {value} in {path}, line {line}" for constant, (value, path, line) in reversed(places.items())]
        return f"{name}: {said} moved. If that is meant, raise {' or, where all move, '.join(lines)}; then run: {COMMAND}"
    return None


def main(path=STORED):
    """Write the file anew; entries whose versions are those of the stored one stay as they are, or stop it where they moved."""
    before = json.loads(path.read_text()) if path.is_file() else {}
    entries, refused = {}, []
    for name in names():
        now = compute(name)
        current = {constant: value for constant, (value, _, _) in stated(name).items()}
        kept = before.get(name)
        if kept is not None and kept["versions"] == current:
            refused += [complaint(name, kept, now)] if moved(kept, now) else []
            entries[name] = kept
        else:
            entries[name] = {"versions": current, **now}
    if refused:
        print("\n".join(["nothing was written:", *refused]), file=sys.stderr)
        return 2
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(entries.items())]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

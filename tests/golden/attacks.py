"""What every attack of the catalogue does to a few samples of a tiny model: predictions and margins, through `evaluate`.

    python -m tests.golden.attacks                 # are they as attacks.json has them?
    python -m tests.golden.attacks --write NAME    # write an attack's; refuses where they moved and no version was raised

Nothing here comes from a data set, a checkpoint or a library's random initial weights, and all is computed in double precision:
rounding differs from processor to processor, but the tenth digit decides no sign and no comparison of a search.
"""

import argparse
import json
import sys
from functools import cache
from pathlib import Path

import open_clip
import torch

import mmcoa
from mmcoa import versions
from mmcoa.attacks import catalog
from mmcoa.datasets.dataset import Dataset
from mmcoa.evaluation.loop import evaluate
from mmcoa.model.clip import ImageTextModel
from mmcoa.prompts import class_prompts
from mmcoa.threat import ThreatModel

STORED = Path(__file__).with_name("attacks.json")
COMMAND = "python -m tests.golden.attacks --write"
ATOL = 5e-4  # logits; margins are of the order of 1, and between processors they differ by the last of four digits at most
CLASSES = ["heron", "kettle", "violin", "tram", "red apple", "lighthouse"]
WORDS = str(Path(__file__).with_name("words.json"))
VISION = {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 32, "vocab_size": 8192, "width": 32, "heads": 2, "layers": 2}
FAINT = ("visual.class_embedding", "visual.positional_embedding", "positional_embedding")  # what all inputs share
SMALL = {"steps": 4, "apgd_steps": 10, "queries": 30, "attacker_images": 24, "candidate_source": WORDS}
THREATS = {
    "l_inf": ThreatModel(epsilon="2/255", restarts=2, attackable="class_name", **SMALL),
    "l_2": ThreatModel(epsilon=0.15, norm="l2", targets=2, keep="last", text_budget=2, beam=3, seed=1, **SMALL),
}


@cache
def model():
    """A CLIP of one and two layers, 16 px, with weights from a seeded generator, so large that it tells its inputs apart."""
    clip = open_clip.CLIP(16, VISION, TEXT).double().eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, weight in clip.named_parameters():
            draw = 2 * torch.rand(weight.shape, generator=generator, dtype=torch.float64) - 1  # exact on every processor
            spread = (3 / weight.shape[-1]) ** 0.5 if weight.ndim > 1 else 0.1
            spread *= 0.1 if name in FAINT else 2 if weight.ndim > 1 and "resblocks" in name else 1
            weight.copy_(spread * draw + float(".ln_" in f".{name}" and name.endswith("weight")))
        clip.logit_scale.fill_(3.0)
    config = {"model_cfg": {}, "preprocess_cfg": {"size": 16, "mean": [0.5] * 3, "std": [0.25] * 3}}
    tokenizer = mmcoa.load_model("openmoji-clip").tokenizer
    return ImageTextModel(clip, tokenizer, "golden", config).double().requires_grad_(False)


@cache
def dataset(split, count, seed):
    """Random pictures of four colours, black and white parts too; labels are the model's predictions: all are attacked."""
    generator = torch.Generator().manual_seed(seed)
    colour = torch.rand(count, 3, 2, 2, generator=generator).repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)
    pixels = 0.9 * colour + 0.5 * torch.rand(count, 3, 16, 16, generator=generator) - 0.2
    images = (255 * pixels.clamp(0, 1)).to(torch.uint8)
    prompts = class_prompts(CLASSES, "a photo of a {}")
    with torch.no_grad():
        labels = model().logits(images.double() / 255, model().encode_text(prompts)).argmax(dim=1)
    return Dataset("golden", split, images, labels, CLASSES, prompts, torch.arange(count) + 100 * seed)


def compute(name, **changes):
    """{threat: {"predictions": [N], "margins": [N]}} of an attack; changes: of the threat models."""
    found = {}
    for key, threat in THREATS.items():
        rows = evaluate(model(), dataset("test", 16, 1), [name], threat.changed(**changes), attacker=dataset("train", 24, 2))
        margins = [round(value, 4) for value in rows.outcomes[f"{name}_margin"].tolist()]
        found[key] = {"predictions": rows.outcomes[f"{name}_prediction"].tolist(), "margins": margins}
    return found


def current(name):
    """{part: version} of all that the outcomes of an attack rest on."""
    return {"evaluation": versions.EVALUATION, **catalog.versions([name])}


def moved(stored, now):
    """What differs by more than the tolerance, in words; empty where nothing does."""
    for key, old in stored.items():
        new = now.get(key, {"predictions": [], "margins": []})
        for sample, values in enumerate(
            zip(old["predictions"], old["margins"], new["predictions"], new["margins"], strict=False)
        ):
            was, margin, became, margin_now = values
            if abs(margin - margin_now) > ATOL or (was != became and abs(margin) > ATOL):
                return (
                    f"sample {sample} under {key}: class {was}, margin {margin:.4f} -> class {became}, margin {margin_now:.4f}"
                )
        if len(new["margins"]) != len(old["margins"]):
            return f"the number of samples under {key}"
    return ""


def complaint(name, stored, now):
    """What is wrong with an attack's entry, with the line to edit and the command; None where nothing is."""
    if stored["versions"] != current(name):
        return f"{name}: the golden is of versions {stored['versions']}, the code of {current(name)}; run: {COMMAND} {name}"
    if what := moved(stored["outcomes"], now):
        return f"{name}: the outcomes moved ({what}). If that is meant, raise {_places(name)}; then run: {COMMAND} {name}"
    return None


def _places(name):
    """The lines with versions, the attack's own first."""
    names = [name, *(other for other in catalog.versions([name]) if other != name)]
    attacks = [catalog.find(other) for other in names]
    lines = [f"`version` of '{attack.name}' ({attack.path}:{attack.line})" for attack in attacks]
    return " or, where it is what moved, ".join([*lines, f"EVALUATION ({versions.__file__})"])


def read(path=STORED):
    return json.loads(path.read_text(encoding="utf8")) if path.is_file() else {}


def write(names, path=STORED):
    """Write the entries of some attacks, unless one moved while its versions stayed: then none. Returns complaints."""
    entries = read(path)
    fresh = {name: {"versions": current(name), "outcomes": compute(name)} for name in names}
    same = [name for name in fresh if name in entries and entries[name]["versions"] == fresh[name]["versions"]]
    if refused := [text for name in same if (text := complaint(name, entries[name], fresh[name]["outcomes"]))]:
        return refused
    entries = {name: entry for name, entry in entries.items() if name in catalog.ATTACKS}
    entries |= {name: entry for name, entry in fresh.items() if name not in same}
    lines = [f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in sorted(entries.items())]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf8")
    return []


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", nargs="+", metavar="NAME", help="attacks whose entries are written; `all` for every one")
    asked, stored = parser.parse_args(arguments).write, read()
    if asked:
        wrong = write(list(catalog.ATTACKS) if asked == ["all"] else asked)
    else:
        wrong = [complaint(name, entry, compute(name)) for name, entry in stored.items() if name in catalog.ATTACKS]
        wrong += [f"{name} has no entry; run: {COMMAND} {name}" for name in catalog.ATTACKS if name not in stored]
    print("\n".join(filter(None, wrong)), file=sys.stderr)
    return 2 if any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())

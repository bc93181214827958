"""Model cards: of a fine-tuned model, written at the end of its training, and of the published pre-trained one."""

import json
import platform
from pathlib import Path

import torch

from mmcoa.model.saving import save_checkpoint
from mmcoa.store.files import write_text
from mmcoa.threat import ThreatModel

PROMPTS = ["This is a photo of a parrot", "This is a photo of a bicycle", "This is a photo of a hammer"]

CARD = """# {name}

A small CLIP for studying adversarial robustness where no large model is at hand: {parameters:.1f} M parameters,
{pixels} x {pixels} pixels, trained from scratch on drawn pictures. It knows OpenMoji glyphs and their names, nothing else; it
is no model of photographs and not meant for use on people.

- **Architecture**: open_clip, `open_clip_config.json`; tokenizer: the first 8,192 entries of CLIP's.
- **Data**: seeded views of {glyphs} OpenMoji glyphs (CC BY-SA 4.0), names from Unicode's emoji list; the group
  `openmoji/office` is held out. Captions vary in template; in half of them one word of the name is replaced by one of its ten
  WordNet candidates, as a web-scale CLIP has met such words. So the model has met both halves of the candidate table; a defence
  trains on the one half and is judged on the other.
- **Recipe**: `notebooks/pretrain.ipynb`; contrastive loss, {steps} steps of {batch_size}, AdamW, lr {lr:g}, weight decay
  {weight_decay:g}, seed {seed}; {minutes:.0f} minutes on {hardware}.
- **Zero-shot accuracy**, prompt `This is a photo of a {{}}`, unseen views of glyphs seen in pre-training (percent, n, 95 %
  Wilson):

| data set | classes | accuracy | n | interval |
| --- | --- | --- | --- | --- |
{table}

Macro mean over the {count} groups of pre-training: **{macro:.1f} %**.
"""


TUNED = """# {name}

`{base}`{before} fine-tuned with the defence `{defense}`{own} on {data}, for the study of adversarial robustness;
not meant for use on people.

- **Load**: `open_clip.create_model("local-dir:FOLDER")`, or by its folder with `mmcoa evaluate --model FOLDER`. For
  transformers: `mmcoa export --model FOLDER OUTPUT`.
- **Trained**: {what}, {steps} steps of {batch_size} pictures, AdamW, peak lr {lr:g}, weight decay {weight_decay:g},
  {precision}, seed {seed}; {seconds:.0f} s, {images} pictures.
- **Inner attack**: {threat}.
{course}
How robust it is on test data: `mmcoa evaluate --model FOLDER --dataset NAME`. All settings are in `mmcoa.json`, the course of
training in `log.csv`.
"""


PRETRAINED = """# {name}

A small CLIP trained from scratch for the study of adversarial robustness: {pixels} x {pixels} pixels, image tower
`{architecture}`; not meant for use on people.

- **Load**: `open_clip.create_model("local-dir:FOLDER")`, or by its folder with `mmcoa evaluate --model FOLDER`.
- **Data**: {pretrained_on}; {pictures:,} pictures. Captions vary in template; in half of them one word of the name is replaced
  by one of its candidates, as a web-scale CLIP has met such words.
- **Recipe**: `notebooks/pretrain.ipynb`; contrastive loss, {steps} steps of {batch_size}, AdamW, peak lr {lr:g}, weight decay
  {weight_decay:g}, seed {seed}; {seconds:.0f} s.

All settings are in `mmcoa.json`, the course of training in `log.csv`.
"""


def write_card(folder):
    """Write README.md of a trained checkpoint folder from its mmcoa.json; returns the path."""
    folder = Path(folder)
    info = json.loads((folder / "mmcoa.json").read_text())
    config, threat = info["training"]["config"], info["training"]["threat"] if info.get("inner", True) else None
    if "pretrained_on" in info:
        pixels = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["vision_cfg"]["image_size"]
        return write_text(folder / "README.md", PRETRAINED.format(**config | info, pixels=pixels))
    own = ", ".join(f"{key} {value}" for key, value in info["training"]["defense"]["with"].items())
    what = "the towers of the defence" if config["trains"] is None else f"`{config['trains']}`"
    what += f", first {config['first_blocks']} blocks" if config.get("first_blocks") else ""
    what += f", last {config['last_blocks']} blocks" if config["last_blocks"] else ""
    what += f", low-rank changes of rank {config['lora_rank']}" if config["lora_rank"] else ""
    lines = ""
    if measured := info.get("held_out"):
        lines = f"- **Held-out slice of the training set** ({measured['samples']} pictures, percent right):\n"
        for which in ("final", "best"):
            values = measured[which]
            step = (
                f" (after step {values['step']}{', in `best/`' if values['step'] < config['steps'] else ''})"
                if which == "best"
                else ""
            )
            numbers = ", ".join(f"{name} {values[name]:.1f}" for name in ("clean", "image", "text", "robust"))
            lines += f"  {which}{step}: {numbers}.\n"
    text = TUNED.format(
        **info | config | {
            "name": info.get("name", folder.name), "base": info.get("base_model", "a model"), "what": what, "course": lines,
            "before": ", after {defense} on {trained_on},".format(**before) if (before := info.get("started_from")) else "",
            "data": info.get("trained_on", "its own data"), "own": f" ({own})" if own else "",
            "threat": ThreatModel(**threat).describe() if threat else "none",
        },
    )  # fmt: skip
    return write_text(folder / "README.md", text)


def publish(model, folder, rows, training, glyphs, hardware=None):
    """Write checkpoint, mmcoa.json and README.md of a pre-trained model into `folder`; returns the folder.

    Arguments:
        model: the trained `ImageTextModel`; its weights are rounded to half precision in place.
        rows: clean result rows, one a data set; the held-out group is the last.
        training: mmcoa.json of the training run.
        glyphs: number of glyphs seen.
        hardware: a phrase; default this machine's GPU, or its processor and thread count.
    """
    with torch.no_grad():
        for value in model.clip.state_dict().values():
            if value.is_floating_point():
                value.copy_(value.half())
    pixels = (torch.arange(3 * 64 * 64) % 251 / 250).reshape(1, 3, 64, 64)
    with torch.no_grad():
        logits = model.logits(pixels, model.encode_text(PROMPTS))[0].tolist()
    config = training["training"]["config"]
    seen, held_out = rows[:-1], rows[-1]
    macro = sum(row["accuracy"] for row in seen) / len(seen)
    here = (
        torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"{torch.get_num_threads()} CPU threads ({platform.machine()})"
    )
    hardware = hardware or here
    metadata = {
        "name": folder_name(folder),
        "epsilon": "2/255",
        "inner_steps": 3,
        "train_defaults": {"lr": 3e-4, "batch_size": 128, "steps": 100, "warmup": 10},
        "fingerprint": model.fingerprint(),
        "logit_fingerprint": {"prompts": PROMPTS, "logits": logits},
        "pretraining": {**config, "seconds": training["seconds"], "hardware": hardware},
        "macro_accuracy": round(macro, 2),
        "accuracy": {row["dataset"]: round(row["accuracy"], 2) for row in rows},
    }
    save_checkpoint(model, folder, metadata, torch.float16)
    lines = [
        f"| {r['dataset']} | {r['classes']} | {r['accuracy']:.1f} | {r['n']} | {r['ci_low']:.1f} to {r['ci_high']:.1f} |"
        for r in seen
    ]
    held = held_out
    lines.append(
        f"| {held['dataset']} (held out: glyphs and names never seen) | {held['classes']} | {held['accuracy']:.1f} "
        f"| {held['n']} | {held['ci_low']:.1f} to {held['ci_high']:.1f} |"
    )
    text = CARD.format(
        name=metadata["name"], parameters=sum(p.numel() for p in model.parameters()) / 1e6, pixels=model.image_size[0],
        glyphs=glyphs, table="\n".join(lines), count=len(seen), macro=macro, minutes=training["seconds"] / 60,
        hardware=hardware, **config,
    )  # fmt: skip
    write_text(Path(folder) / "README.md", text)
    return Path(folder)


def folder_name(folder):
    """Last part of a path, which names the model."""
    return Path(folder).resolve().name

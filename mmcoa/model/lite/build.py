"""Builds `lite-clip` once a user and keeps it in the cache: under a hash of recipe, names and weights, whole or not at all.

CACHE/models/lite-clip-KEY/   an open_clip checkpoint folder; digests.json, written last, has the sha256 of its files
"""

import json
import os
import shutil
import tempfile
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import open_clip
import torch
from filelock import FileLock

from mmcoa.cache import cache_folder
from mmcoa.errors import UserError, storage_problem
from mmcoa.model.clip import ImageTextModel
from mmcoa.model.lite import NAME, VERSION, packages
from mmcoa.model.lite.align import Recipe, align
from mmcoa.model.lite.card import CARD, MEASURED
from mmcoa.model.lite.names import CLASSES, TEMPLATES, all_names
from mmcoa.model.lite.towers import assemble, configuration, insert, text_config
from mmcoa.model.saving import save_checkpoint
from mmcoa.store.files import digest, file_digest, write_json

DIGESTS = "digests.json"
BATCH = 128  # names embedded at once
DEFAULTS = {
    "epsilon": "1/255",
    "inner_steps": 2,
    "train_defaults": {"lr": 3e-4, "batch_size": 64, "steps": 500, "warmup": 20, "inner_step_size": 1.0},
    "pretrained_on": "ImageNet (classifier), English sentence pairs (MiniLM)",
    "names_of_pretraining": "imagenet",
}


def key(recipe):
    """What the weights depend on, as 16 hex digits."""
    names = file_digest(str(files("mmcoa.assets") / "imagenet_names.json.gz"))
    parts = {"names": names, "templates": TEMPLATES, "weights": [packages.IMAGE.sha256, packages.TEXT.sha256]}
    return digest({"version": VERSION, "recipe": asdict(recipe), **parts})[:16]


def lite_folder(recipe=None, progress=None):
    """Folder of the built model: from the cache if it is there and whole, else built now.

    Raises `UserError` where a package is missing or holds other weights than recorded.
    progress: called with (done, total) during a build. Two processes build it once: the other one waits.
    """
    recipe = recipe or Recipe()
    for weights in (packages.IMAGE, packages.TEXT):
        packages.path_of(weights)
    folder = cache_folder() / "models" / f"{NAME}-{key(recipe)}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not is_whole(folder):
                for left in [folder, *folder.parent.glob(f".{folder.name}-*")]:  # damaged, or of a build that was killed
                    shutil.rmtree(left, ignore_errors=True)
                build(folder, recipe, progress)
    except OSError as error:
        raise UserError(f"cannot keep '{NAME}' in the cache: {storage_problem(error) or error}; or set MMCOA_CACHE") from error
    return folder


def is_whole(folder):
    """Whether the folder was built to its end and none of its files changed since."""
    try:
        digests = json.loads((folder / DIGESTS).read_text(encoding="utf8"))
        return bool(digests) and all(file_digest(folder / name) == found for name, found in digests.items())
    except (OSError, ValueError, AttributeError):
        return False


def build(folder, recipe=None, progress=None):
    """Build the model into `folder`, which must not exist; returns it. No picture and no network is needed."""
    recipe, folder = recipe or Recipe(), Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        start, made = Path(place) / "start", Path(place) / "made"
        start.mkdir()
        write_json(start / "config.json", text_config())
        for name in packages.TOKENIZER:
            (start / name).write_bytes(packages.text_file(name))
        config = configuration(recipe, start)
        (start / "open_clip_config.json").write_text(json.dumps(config))
        clip, weight, bias = assemble(config)
        tokenizer = open_clip.get_tokenizer(f"local-dir:{start}")
        model = ImageTextModel(clip, tokenizer, NAME, config)
        insert(clip, align(weight, bias, *embed_names(model, recipe, half(progress, 0)), recipe, half(progress, 1)))
        metadata = {"name": NAME, **DEFAULTS, "recipe": asdict(recipe), "version": VERSION}
        save_checkpoint(model, made, metadata, final=folder)
        (made / "README.md").write_text(card(count(clip), float(model.scale), recipe))
        write_json(made / DIGESTS, {path.name: file_digest(path) for path in sorted(made.iterdir())})
        os.replace(made, folder)
    return folder


def half(progress, which):
    """A view of `progress` on its first (0) or second (1) half: names embedded, text head trained; they take about as long."""
    return None if progress is None else lambda done, total: progress(which * total + done, 2 * total)


def card(parameters, scale, recipe):
    """Text of README.md; the measured accuracies are those of the default recipe alone."""
    measured = MEASURED if recipe == Recipe() else ""
    return CARD.format(parameters=parameters, scale=scale, measured=measured, **asdict(recipe))


def count(clip):
    """Parameters in millions."""
    return sum(p.numel() for p in clip.parameters()) / 1e6


@torch.no_grad()
def embed_names(model, recipe, progress=None):
    """(sentence embeddings [N, 384], classes of each bool [N, 1000], weights [N]) of all names in all templates."""
    names = all_names(recipe.largest, recipe.hypernyms)
    texts = [(template.format(name.text), name) for name in names for template in TEMPLATES]
    texts.sort(key=lambda pair: len(pair[0]))  # prompts of equal length have little padding
    found = []
    for start in range(0, len(texts), BATCH):
        tokens = model.tokenizer([text for text, _ in texts[start : start + BATCH]])
        found.append(sentence_embeddings(model.clip.text, tokens))
        if progress is not None:
            progress(min(start + BATCH, len(texts)), len(texts))
    order = sorted(range(len(texts)), key=lambda i: texts[i][1].classes)  # classes in their order, then hypernyms
    order.sort(key=lambda i: len(texts[i][1].classes) > 1)
    chosen = [texts[i][1] for i in order]
    targets = torch.zeros(len(chosen), CLASSES, dtype=torch.bool)
    for row, name in enumerate(chosen):
        targets[row, list(name.classes)] = True
    weights = torch.tensor([name.weight / len(TEMPLATES) for name in chosen])
    return torch.cat(found)[order], targets, weights


def sentence_embeddings(text, tokens):
    """Mean of the last hidden states [C, K] over the tokens that are no padding."""
    tokens = tokens[:, : int((tokens != text.config.pad_token_id).sum(dim=1).max())]
    mask = (tokens != text.config.pad_token_id).long()
    return text.pooler(text.transformer(input_ids=tokens, attention_mask=mask), mask)

"""Clean zero-shot predictions of a checkpoint by open_clip and clip-benchmark alone: what ours must equal, sample by sample.

Weights and tokenizer come from open_clip, data from clip-benchmark's reader, classifier and loop from its
`zeroshot_classification`: no code of this library. Two things are not compared: class names are cleaned here and left as
they are there, and templates are averaged there, so it is given the first one alone.
"""

import numpy as np
import open_clip
import torch

import mmcoa


def theirs(folder, checkpoint, split="test", transform=None, samples=None):
    """(logits float [N, C], labels int64 [N]) in file order.

    Arguments:
        folder: WebDataset folder in the clip-benchmark layout.
        checkpoint: folder that open_clip loads as `local-dir:`.
        transform: PIL picture -> normalised pixels [3, S, S]; default open_clip's own, which resizes 8-bit pictures.
        samples: the first so many; default all.
    """
    from clip_benchmark.datasets.builder import build_wds_dataset
    from clip_benchmark.metrics.zeroshot_classification import run_classification, zero_shot_classifier

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{checkpoint}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{checkpoint}")
    model.eval()
    dataset = build_wds_dataset("wds", transform or preprocess, split, str(folder))
    classifier = zero_shot_classifier(model, tokenizer, dataset.classes, dataset.templates, "cpu", amp=False)
    pictures = dataset if samples is None else dataset.slice(samples)
    loader = torch.utils.data.DataLoader(pictures.batched(64), batch_size=None)
    return run_classification(model, classifier, loader, "cpu", amp=False)


def ours(folder, checkpoint, split="test"):
    """(predictions int64 [N], labels int64 [N]) in file order, from `mmcoa.load_dataset` and `mmcoa.evaluate`."""
    dataset = mmcoa.load_dataset(f"wds:{folder}", split)
    outcomes = mmcoa.evaluate(mmcoa.load_model(str(checkpoint)), dataset, ["clean"]).outcomes
    outcomes = outcomes.sort_values("sample_id")  # a sample's number in the split is its place in the files
    return (torch.tensor(outcomes[name].to_numpy().astype("int64")) for name in ("clean_prediction", "label"))


def same_pixels(checkpoint):
    """A transform for `theirs` that resizes as this library does, in floating point and with a gradient."""
    model = mmcoa.load_model(str(checkpoint))

    def transform(picture):
        pixels = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
        return ((model.resized(pixels) - model.mean) / model.std)[0]

    return transform

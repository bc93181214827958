"""Image and text perturbed together, for one batch.

- `independent`: the image attack sees the clean prompts; the prediction is made with the adversarial ones (what the
  paper's public code measures).
- `sequential`: the text attack comes first and the image attack sees its prompts: the adversary knows both hands.

The worst case over a set of attacks is taken sample by sample in evaluate.py.
"""

import time

import torch

from mmcoa.attacks import image as image_attacks


def attack_batch(model, images, labels, ids, clean, adversarial, attacks, threat, seconds):
    """Predictions int64 [N] of one batch under each attack, {name: tensor}. `seconds` is added to by name.

    `clean` and `adversarial` are the text features [C, D] before and after the text attack.
    """
    began = time.monotonic()
    predictions = {"clean": predict(model, images, clean)}
    seconds["clean"] += time.monotonic() - began
    standing = {"clean": predictions["clean"] == labels}
    if any(attack.text for attack in attacks):
        predictions["text"] = predict(model, images, adversarial)
        standing["adversarial"] = standing["clean"] & (predictions["text"] == labels)
    perturbed = {}  # `image` and `independent` share one search
    for attack in attacks:
        if attack.image is None:
            continue
        began = time.monotonic()
        key = (attack.image, attack.sees)
        sees = clean if attack.sees == "clean" else adversarial
        if key not in perturbed:
            perturbed[key] = images.clone()
            at = standing[attack.sees].nonzero()[:, 0]
            if len(at):
                function = getattr(image_attacks, attack.image)
                perturbed[key][at] = function(model, images[at], labels[at], sees, threat, ids[at.cpu()])
        predictions[attack.name] = predict(model, perturbed[key], adversarial if attack.text else clean)
        seconds[attack.name] += time.monotonic() - began
    return predictions


@torch.no_grad()
def predict(model, images, text_features):
    """Most similar prompt of each image, int64 [N]."""
    return model.logits(images, text_features).argmax(dim=1)

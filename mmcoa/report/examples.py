"""Pictures of the image attack: a handful of test samples, attacked again as the study attacked them.

Random starts depend on (seed, sample id) alone, as in the evaluation; there a search may stop once a picture is broken, here
it runs to its end. Only the undefended base model is needed, no checkpoint of the study.
"""

from dataclasses import dataclass

import numpy as np
import torch

from mmcoa.attacks.pgd import pgd
from mmcoa.datasets import load_dataset
from mmcoa.errors import UserError
from mmcoa.model.loading import load_model
from mmcoa.report.results import threat_of
from mmcoa.report.tables import require

SHOWABLE = "openmoji/"  # licences of other data sets do not let the book show their pictures


@dataclass(frozen=True)
class Example:
    """clean, adversarial: float [H, W, 3] in [0,1]; predictions: (class name, probability over the class prompts)."""

    dataset: str
    class_name: str
    clean: np.ndarray
    adversarial: np.ndarray
    epsilon: float
    clean_prediction: tuple
    adversarial_prediction: tuple


def there(study):
    """Whether pictures may be shown, and the base model is at hand: one that a study trained itself is not among its results."""
    rows = study.rows[study.rows.method == "none"]
    if not rows.dataset.str.startswith(SHOWABLE).any():
        return False
    try:
        load_model(rows.base_model.iloc[0], resize=rows["resize"].iloc[0])
    except UserError:
        return False
    return True


def adversarial_images(study, count=5):
    """At most `count` examples, one a data set: the first sample that the image attack broke, undefended model.

    Data sets are taken in the order in which they lose accuracy, evenly spaced from the least to the most hurt. Returns
    a list of `Example`, empty where the study has no data set whose pictures may be shown.
    """
    require(study, ["none"], ["clean", "image"])
    rows = study.rows[(study.rows.method == "none") & (study.rows.attack == "image")]
    rows = rows[rows.dataset.str.startswith(SHOWABLE)].sort_values(["accuracy", "dataset"])
    outcomes = study.outcomes[study.outcomes.method == "none"]
    broken = outcomes[outcomes.clean_correct & ~outcomes.image_correct].groupby("dataset").sample_id.first()
    rows = rows[rows.dataset.isin(broken.index)]
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int))
    rows = rows.iloc[chosen]
    if rows.empty:
        return []
    model = load_model(rows.base_model.iloc[0], resize=rows["resize"].iloc[0])
    return [attack_one(model, row, int(broken[row["dataset"]])) for row in rows.to_dict("records")]


def attack_one(model, row, sample_id):
    """The `Example` of one sample under the threat model of a result row."""
    dataset, image, label = picture(model, row, sample_id)
    threat = threat_of(row)
    text = model.encode_text(dataset.prompts)
    adversarial = pgd(model, image, label, text, threat, [sample_id])

    def prediction(picture):
        with torch.no_grad():
            probability, index = model.logits(picture, text).float().softmax(dim=1).max(dim=1)
        return dataset.class_names[int(index)], float(probability)

    return Example(
        dataset=row["dataset"],
        class_name=dataset.class_names[int(label)],
        clean=pixels(image),
        adversarial=pixels(adversarial),
        epsilon=threat.epsilon,
        clean_prediction=prediction(image),
        adversarial_prediction=prediction(adversarial),
    )


def picture(model, row, sample_id):
    """(data set, image [1, 3, H, W] in [0,1] as the image attack meets it, label [1]) of one sample; freezes the model."""
    dataset = load_dataset(row["dataset"], row["split"])
    place = int((dataset.ids == sample_id).nonzero()[0])
    image, label = dataset.images[place : place + 1].float() / 255, dataset.labels[place : place + 1]
    model.requires_grad_(False)
    return dataset, model.resized(image) if threat_of(row).attacked_space == "model" else image, label


def pixels(image):
    """[1, 3, H, W] -> array [H, W, 3], to be drawn."""
    return image[0].permute(1, 2, 0).detach().numpy()

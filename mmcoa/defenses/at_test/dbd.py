"""`dbd`: a step along the direction in which views leave the picture (directional bias-guided defence, DBD, ICLR 2026).

    d = mean_{i in S} (f(x_i) - f(x)),  S: the views of least entropy
    answer: s <normalise(f(x) + a d), g(t_c)>,  a = factor where mean_{i in S} cos(f(x_i) - f(x), d) > threshold, else 1

Nothing is optimised. Views as in the public code: random crops, mirrored or not; the picture cut to 3 bits a colour by floor,
rounding and ceiling; Gaussian noise. Its JPEG and blurred views are left out, and the prompts are the data set's own. An
adversary sees the cut passed straight through, and chosen views and a as constants.
"""

import torch
import torch.nn.functional as F

from mmcoa.defenses.at_test._views import crops, entropy, straight_through

LABEL = "DBD"
SOURCE = "DBD, ICLR 2026"
DRAWS = 1
VERSION = 1
SETTINGS = {
    "crops": 16,
    "least_area": 0.5,
    "bits": 3,
    "noisy": 6,
    "noise": 0.1,
    "kept": 16,
    "factor": 2.5,
    "threshold": 0.8,
}
LEAST = {"crops": 1, "least_area": 0, "bits": 1, "noisy": 0, "noise": 0, "kept": 1, "factor": 0}


def scores(model, images, text, settings, generators):
    """Logits [N, C]."""
    images = model.resized(images)
    return torch.stack([answer(model, *one, text, settings) for one in zip(images, generators, strict=True)])


def answer(model, image, generator, text, settings):
    """Logits [C] of one picture [3, h, w]."""
    features = model.encode_image(torch.cat([image[None], views_of(image, settings, generator)]))
    own, others = features[0], features[1:]
    with torch.no_grad():
        uncertain = entropy(model.scale * others @ text.features.T)
    away = others[uncertain.argsort(stable=True)[: settings.kept]] - own
    direction = away.mean(dim=0)
    agreement = F.cosine_similarity(away, direction[None], dim=1).mean()
    factor = settings.factor if agreement > settings.threshold else 1.0
    return model.compare(F.normalize(own + factor * direction, dim=0), text.features)


def views_of(image, settings, generator):
    """Views [V, 3, h, w] of a picture [3, h, w]."""
    levels = 2 ** (8 - settings.bits) / 255
    cuts = [(cut(image / levels) * levels).clamp(0, 1) for cut in (torch.floor, torch.round, torch.ceil)]
    noise = settings.noise * torch.randn(settings.noisy, *image.shape, generator=generator).to(image)
    return torch.cat(
        [
            crops(image, settings.crops, settings.least_area, generator),
            torch.stack([straight_through(cut, image) for cut in cuts]).clamp(0, 1),
            (image + noise).clamp(0, 1),
        ]
    )

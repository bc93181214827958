"""`clipure_cos`: the embedding is moved towards that of an empty prompt (CLIPure-Cos, Zhang et al., ICLR 2025).

    u_0 = f(x),  u_{k+1} = normalise(u_k + a m_k),  m_k = t - <u_k, t> u_k at unit length,  answer: s <u_K, g(t_c)>

t: embedding of a prompt without a class; m_k: direction in which cos(u, t) grows, on the sphere. The public code divides by
the norm of a whole batch's directions; here each picture stands for itself (their batch of one). With their step of 30 an
embedding within 88 degrees of t, as CLIP's are, turns by 88 degrees past t and at the next step back: after ten steps it is
where it was. Their gradient takes each m_k as a constant, and shrinks thirtyfold a step; ours is that of the whole map.
"""

import torch
import torch.nn.functional as F

LABEL = "CLIPure-Cos"
SOURCE = "Zhang et al., ICLR 2025"
DRAWS = 0
VERSION = 1
SETTINGS = {"steps": 10, "step_size": 30.0, "template": "a photo of a ."}
LEAST = {"steps": 0, "step_size": 0}


def scores(model, images, text, settings, generators):
    """Logits [N, C] of the purified embeddings."""
    with torch.no_grad():
        empty = model.encode_text([settings.template])[0]
    return model.compare(purified(model.encode_image(images), empty, settings), text.features)


def purified(embedding, empty, settings):
    """Unit embeddings [N, D] after the steps towards the unit vector `empty` [D]."""
    for _ in range(settings.steps):
        direction = empty - (embedding @ empty)[:, None] * embedding
        embedding = F.normalize(embedding + settings.step_size * F.normalize(direction, dim=1), dim=1)
    return embedding

"""The ball around an image: random points of it, projection onto it, steepest ascent in its norm."""

import hashlib

import torch


def sample_generator(*key):
    """A `torch.Generator` seeded by a key, such as (seed, sample id, restart), alone."""
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


def random_start(shape, threat, sample_ids, restart=0):
    """A point of the ball around zero for each sample, float [N, 3, H, W]; depends on (seed, sample id, restart) alone."""
    starts = []
    for sample in sample_ids:
        generator = sample_generator(threat.seed, int(sample), restart)
        if threat.norm == "linf":
            starts.append((2 * torch.rand(shape, generator=generator) - 1) * threat.epsilon)
        else:
            direction = torch.randn(shape, generator=generator)
            starts.append(direction / direction.norm() * threat.epsilon * torch.rand((), generator=generator))
    return torch.stack(starts) if starts else torch.zeros(0, *shape)


def project(delta, images, threat):
    """The point of the ball, with images + delta in [0,1], next to `delta`."""
    if threat.norm == "linf":
        delta = delta.clamp(-threat.epsilon, threat.epsilon)
    else:
        norm = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
        delta = delta * (threat.epsilon / norm).clamp(max=1)[:, None, None, None]
    return (images + delta).clamp(0, 1) - images


def step_direction(gradient, norm):
    """Steepest ascent under the norm: sign for l_inf, the gradient at unit length for l_2."""
    if norm == "linf":
        return gradient.sign()
    return gradient / gradient.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]

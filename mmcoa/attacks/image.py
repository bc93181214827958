"""Image attacks: search of the ball around an image for a picture that the model gets wrong.

All take the text features as given: text does not depend on the image, so prompts are encoded once (trap I1). Losses are
summed over the batch, so that a sample's gradient does not depend on its neighbours (trap I3), and gradients are taken
with respect to the image alone, so that nothing leaks into the weights (trap T1).
"""

import hashlib

import torch

from mmcoa.clip import check_pixels


def _seed(*key):
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=8).digest(), "big") >> 1


def random_start(shape, threat, sample_ids, restart=0):
    """A point of the ball around zero for each sample, float [N, 3, H, W]; depends on (seed, sample id, restart) alone."""
    starts = []
    for sample in sample_ids:
        generator = torch.Generator().manual_seed(_seed(threat.seed, int(sample), restart))
        if threat.norm == "linf":
            starts.append((2 * torch.rand(shape, generator=generator) - 1) * threat.epsilon)
        else:
            direction = torch.randn(shape, generator=generator)
            starts.append(direction / direction.norm() * threat.epsilon * torch.rand((), generator=generator))
    return torch.stack(starts)


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


def margin(logits, labels):
    """Largest wrong logit minus the right one, [N]: positive where the prediction is wrong."""
    right = logits.gather(1, labels[:, None])[:, 0]
    wrong = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    return wrong - right


def pgd(model, images, labels, text_features, threat, sample_ids=None):
    """Projected gradient descent on the cross-entropy over all class prompts (Madry et al., ICLR 2018).

    Arguments
        images: float [N, 3, H, W] in [0, 1].
        labels: int64 [N] into the rows of `text_features`.
        text_features: unit embeddings [C, D] of the prompts that the attacker sees.
        threat: `ThreatModel`; step size, steps and restarts are its own.
        sample_ids: integers [N] that name the samples, for the random starts; default 0..N-1.

    Returns the adversarial images, float [N, 3, H, W] in [0, 1]: of all iterates of all restarts the one with the largest
    margin of a wrong class (trap I2). A sample that is wrong already is attacked like any other.
    """
    check_pixels(images)
    text_features = text_features.detach()
    sample_ids = range(len(images)) if sample_ids is None else sample_ids
    best, best_margin = images.clone(), torch.full((len(images),), -torch.inf, device=images.device)
    for restart in range(threat.restarts):
        delta = random_start(images.shape[1:], threat, sample_ids, restart).to(images.device, images.dtype)
        delta = project(delta, images, threat)
        for step in range(threat.steps + 1):
            last = step == threat.steps
            adversarial = (images + delta).clamp(0, 1).requires_grad_(not last)
            with torch.set_grad_enabled(not last):
                logits = model.logits(adversarial, text_features).float()
                if not last:
                    loss = torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
                    (gradient,) = torch.autograd.grad(loss, adversarial)
            _keep_best(best, best_margin, adversarial.detach(), margin(logits.detach(), labels))
            if not last:
                delta = project(delta + threat.step_size * step_direction(gradient, threat.norm), images, threat)
    return best


def _keep_best(best, best_margin, candidates, margins):
    better = margins > best_margin
    best[better] = candidates[better]
    best_margin[better] = margins[better]


def fgsm(model, images, labels, text_features, threat, sample_ids=None):
    """One step of size epsilon from the clean image (Goodfellow et al., ICLR 2015); arguments as `pgd`."""
    check_pixels(images)
    adversarial = images.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(model.logits(adversarial, text_features.detach()), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, adversarial)
    delta = project(threat.epsilon * step_direction(gradient, threat.norm), images, threat)
    return (images + delta).clamp(0, 1)  # the sum may leave [0,1] by a rounding error

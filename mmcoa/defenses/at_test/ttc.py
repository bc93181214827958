"""`ttc`: a counterattack moves each picture's embedding as far as it goes (Xing et al., CVPR 2025, test-time counterattacks).

    x~ = x + sum_k w_k d_k,  d_0 ~ U(-r, r),  d_{k+1} = clip_r(d_k + a sign grad ||f(x + d_k) - f(x)||^2)
    w_k = exp(beta k) / sum_j exp(beta j) where tau < threshold, else w_0 = 1;  tau = ||f(x + d_0) - f(x)|| / ||f(x)||

f: image embedding before normalisation. The idea: noise hardly moves an attacked picture (small tau), so that one is pushed;
a clean picture keeps its noise. r and a are in 255ths of the pixel range, at the model's input size. tau is taken with the
model itself; the public code takes it with the model before fine-tuning. The counterattack has no gradient (signs), so an
adversary sees x~ = x + constant.
"""

import torch

LABEL = "TTC"
SOURCE = "Xing et al., CVPR 2025"
DRAWS = 4
VERSION = 1
SETTINGS = {"radius": 4.0, "step_size": 1.0, "steps": 2, "beta": 2.0, "threshold": 0.2}
LEAST = {"radius": 0, "step_size": 0, "steps": 1, "threshold": 0}


def purify(model, images, text, settings, generators):
    """Pictures [N, 3, h, w] at the model's input size."""
    images = model.resized(images)
    return (images + counterattack(model, images.detach(), settings, generators)).clamp(0, 1)


def counterattack(model, images, settings, generators):
    """The perturbation of each picture, float [N, 3, h, w], without gradient."""
    radius, step_size = settings.radius / 255, settings.step_size / 255
    noise = torch.stack([torch.rand(images.shape[1:], generator=generator) for generator in generators]).to(images)
    delta = limited((2 * noise - 1) * radius, images, radius)
    with torch.no_grad():
        still = model.encode_image_raw(images).float()
    shift, gradient = moved(model, images, delta, still)
    weak = (shift.sqrt() / still.norm(dim=1) < settings.threshold).nonzero()[:, 0]
    total = delta.clone()
    if not len(weak):
        return total
    images, delta, still, gradient = images[weak], delta[weak], still[weak], gradient[weak]
    weights = (settings.beta * torch.arange(settings.steps + 1.0)).softmax(dim=0).tolist()
    mean = weights[0] * delta
    for step in range(1, settings.steps + 1):
        delta = limited(delta + step_size * gradient.sign(), images, radius)
        mean = mean + weights[step] * delta
        if step < settings.steps:
            gradient = moved(model, images, delta, still)[1]
    total[weak] = mean
    return total


def moved(model, images, delta, still):
    """(squared distance [N] of the embedding from `still`, its gradient in the perturbation)."""
    with torch.enable_grad():
        delta = delta.detach().requires_grad_()
        shift = (model.encode_image_raw(images + delta).float() - still).square().sum(dim=1)
        (gradient,) = torch.autograd.grad(shift.sum(), delta)
    return shift.detach(), gradient


def limited(delta, images, radius):
    """A perturbation inside the ball that keeps pictures in [0, 1]."""
    delta = delta.clamp(-radius, radius)
    return torch.minimum(torch.maximum(delta, -images), 1 - images)

"""Two towers joined without a picture: the text side learns which of the classifier's classes a name stands for.

    image:  f(x) = gelu(W h(x) + b - theta)               h: pooled features, W, b: the ImageNet classifier
    text:   g(t) = B gelu(A (e(t) - m))                   e: mean of MiniLM's last hidden states, m: its mean over all names

One coordinate of the embedding is one class of ImageNet. An image embedding lists the classes that the picture looks like
(above a threshold), a text embedding the classes that the text means: akin to convex combinations of semantic embeddings
(Norouzi et al., ICLR 2014). A and B are trained on all names (classes, synonyms, hypernyms) to point at the classes that they
stand for, in float64, so that rounding (other threads, other processors) stays rounding.

The logit scale is fitted on pseudo pictures: features that point along a class's row of the classifier, plus Gaussian noise of
the rows' own covariance.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Recipe:
    """Settings of the alignment. The fit sees no picture; how the settings were chosen: see the model card.

    image_size: of the model's input, pixels. Smaller is faster, and ImageNet's top-1 falls: at 160, 128, 96 px 74, 61, 43 %.
    """

    image_size: int = 128
    threshold: float = 4.0  # theta, in logits: what a class must reach to count
    hypernyms: float = 0.5  # weight of a hypernym; a class weighs 1
    largest: int = 150  # hypernyms of more classes say too little
    epochs: int = 25  # of the text head, over all names
    batch_size: int = 512
    lr: float = 3e-3  # of AdamW; one cycle, warm-up over the first tenth
    weight_decay: float = 0.05
    blur: float = 0.8  # length of the noise on a name's embedding, relative to its own: near names mean near things
    signal: float = 5.0  # of a pseudo picture: length along its class's row
    noise: float = 1.0  # standard deviation along each row
    pictures: int = 3  # pseudo pictures a class
    seed: int = 0


def hidden_units(width, classes):
    """Hidden units of open_clip's text head `mlp` between `width` and `classes`."""
    return (width + classes) // 2


def fit_text(embeddings, wanted, weights, recipe, progress=None):
    """(A [H, K], B [C, H]) that maximise the weighted mean cosine of B gelu(A x) with `wanted`.

    embeddings: centred, float64 [N, K]; wanted: unit rows [N, C]; weights [N].
    progress: called with (steps done, steps in all).
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    size = embeddings.norm(dim=1).mean() / 5  # inputs of length 5: gelu bends there
    inputs, weights = embeddings / size, weights / weights.mean()
    width, classes = inputs.shape[1], wanted.shape[1]
    hidden = hidden_units(width, classes)
    matrices = [
        ((2 * torch.rand(rows, columns, dtype=inputs.dtype, generator=generator) - 1) / math.sqrt(columns)).requires_grad_()
        for rows, columns in ((hidden, width), (classes, hidden))
    ]
    steps = recipe.epochs * math.ceil(len(inputs) / recipe.batch_size)
    optimizer = torch.optim.AdamW(matrices, lr=recipe.lr, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, total_steps=steps, pct_start=0.1)
    spread = 5 * recipe.blur / math.sqrt(width)
    step = 0
    for _ in range(recipe.epochs):
        for batch in torch.randperm(len(inputs), generator=generator).split(recipe.batch_size):
            drawn = torch.randn(len(batch), width, dtype=inputs.dtype, generator=generator)
            outputs = F.gelu((inputs[batch] + spread * drawn) @ matrices[0].T) @ matrices[1].T
            loss = (weights[batch] * (1 - F.cosine_similarity(outputs, wanted[batch]))).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            if progress is not None:
                progress(step, steps)
    return matrices[0].detach() / size, matrices[1].detach()


def pseudo_logits(weight, bias, recipe):
    """(logits [N, C], labels [N]) of pseudo pictures; weight [C, F] and bias [C] of the classifier."""
    rows = F.normalize(weight - weight.mean(dim=0), dim=1)
    labels = torch.arange(len(weight)).repeat(recipe.pictures)
    generator = torch.Generator().manual_seed(recipe.seed)
    noise = torch.randn(len(labels), len(rows), dtype=weight.dtype, generator=generator)
    features = recipe.signal * rows[labels] + recipe.noise * noise @ rows
    return features @ weight.T + bias, labels


def fit_scale(cosines, labels):
    """Logit scale of the smallest cross-entropy, in 1..100 to 1 %; cosines [N, C], labels int64 [N]."""
    scales = torch.logspace(0, 2, 464, dtype=cosines.dtype)
    losses = torch.stack([F.cross_entropy(scale * cosines, labels) for scale in scales])
    return float(scales[losses.argmin()])


@dataclass(frozen=True)
class Alignment:
    """Weights of the two heads of C classes: image [C, F] with bias; text [H, K] and [C, H] on what is left of an
    embedding without `centre` [K]."""

    image_weight: torch.Tensor
    image_bias: torch.Tensor
    centre: torch.Tensor
    text_hidden: torch.Tensor
    text_weight: torch.Tensor
    scale: float


def align(weight, bias, embeddings, targets, weights, recipe, progress=None):
    """`Alignment` of a classifier (weight [C, F], bias [C]) and sentence embeddings [N, K] of names that stand for `targets`.

    targets: bool [N, C], the classes of each name; weights: float [N]. Everything is computed in float64.
    progress: see `fit_text`.
    """
    weight, bias, embeddings, weights = (value.double() for value in (weight, bias, embeddings, weights))
    centre = weights @ embeddings / weights.sum()
    wanted = F.normalize(targets.double(), dim=1)
    hidden, text_weight = fit_text(embeddings - centre, wanted, weights, recipe, progress)
    logits, labels = pseudo_logits(weight, bias, recipe)
    active = F.gelu(logits - recipe.threshold)
    own = targets.sum(dim=1) == 1
    classes = targets[own].double().argmax(dim=1)
    first = torch.zeros(len(weight), dtype=torch.int64).scatter(0, classes.flip(0), own.nonzero()[:, 0].flip(0))
    texts = F.normalize(F.gelu((embeddings[first] - centre) @ hidden.T) @ text_weight.T, dim=1)
    scale = fit_scale(F.normalize(active, dim=1) @ texts.T, labels)
    return Alignment(weight, bias - recipe.threshold, centre, hidden, text_weight, scale)

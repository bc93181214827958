"""Two towers joined without a picture: the text side learns which of the classifier's classes a name stands for.

    image:  f(x) = Z^T [gelu(W h(x) + b - theta) - mean]       h: pooled features, W, b: the ImageNet classifier
    text:   g(t) = Z^T Q^T (e(t) - m)                          e: mean of MiniLM's last hidden states

Q is a ridge regression, in closed form, from the embeddings of all names (classes, synonyms, hypernyms) to the classes that
they stand for. An image embedding is thus the list of classes that it looks like (above a threshold), a text embedding the
list of classes that it means: akin to convex combinations of semantic embeddings (Norouzi et al., ICLR 2014). Z, orthonormal
columns, packs both into the embedding without a change to their products.

Where a picture is needed (for the mean and the logit scale), there are pseudo pictures: features that point along a class's row
of the classifier, plus Gaussian noise of the rows' own covariance.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Recipe:
    """Settings of the alignment. The fit sees no picture; how the settings were chosen: see the model card.

    image_size: of the model's input, pixels. Smaller is faster, and ImageNet's top-1 falls: at 160, 128, 96 px 74, 61, 43 %.
    """

    image_size: int = 128
    embed_dim: int = 500  # half of the classes: open_clip's `mlp` head has twice as many hidden units, one for each class
    threshold: float = 4.5  # theta, in logits: what a class must reach to count
    ridge: float = 0.1
    hypernyms: float = 0.5  # weight of a hypernym; a class weighs 1
    largest: int = 100  # hypernyms of more classes say too little
    signal: float = 5.0  # of a pseudo picture: length along its class's row
    noise: float = 1.0  # standard deviation along each row
    pictures: int = 3  # pseudo pictures a class
    seed: int = 0


def ridge_regression(inputs, targets, weights, ridge):
    """(mean [K], A [K, C]) that minimise sum_i w_i |(x_i - mean) A - y_i|^2 + ridge |A|^2.

    inputs float64 [N, K], targets [N, C], weights [N]; mean: the weighted mean of the inputs.
    """
    mean = (weights[:, None] * inputs).sum(dim=0) / weights.sum()
    centred = inputs - mean
    weighted = weights[:, None] * centred
    gram = weighted.T @ centred + ridge * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    return mean, torch.linalg.solve(gram, weighted.T @ targets)


def basis(matrix, width, seed):
    """Orthonormal columns [C, width] whose first K span the rows of `matrix` [K, C]; the others are drawn with `seed`.

    By Cholesky and Gram-Schmidt: unique and continuous, so that rounding (other threads, other processors) stays rounding.
    """
    lower = torch.linalg.cholesky(matrix @ matrix.T)
    rows = torch.linalg.solve_triangular(lower, matrix, upper=False).T
    drawn = torch.randn(
        matrix.shape[1], width - rows.shape[1], dtype=matrix.dtype, generator=torch.Generator().manual_seed(seed)
    )
    rest, upper = torch.linalg.qr(drawn - rows @ (rows.T @ drawn))
    return torch.cat([rows, rest * upper.diagonal().sign()], dim=1)


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
    """Weights of the two heads: image [1000, 1280] and [D, 1000] with biases, text [D, K] after subtracting `centre` [K]."""

    hidden_weight: torch.Tensor
    hidden_bias: torch.Tensor
    image_weight: torch.Tensor
    image_bias: torch.Tensor
    centre: torch.Tensor
    text_weight: torch.Tensor
    scale: float


def align(weight, bias, embeddings, targets, weights, recipe):
    """`Alignment` of a classifier (weight [C, F], bias [C]) and sentence embeddings [N, K] of names that stand for `targets`.

    targets: bool [N, C], the classes of each name; weights: float [N]. Everything is computed in float64.
    """
    weight, bias, embeddings, weights = (value.double() for value in (weight, bias, embeddings, weights))
    size = embeddings.norm(dim=1).mean()
    wanted = F.normalize(targets.double(), dim=1)
    centre, matrix = ridge_regression(embeddings / size, wanted, weights, recipe.ridge)
    packed = basis(matrix, recipe.embed_dim, recipe.seed)
    text_weight = (matrix @ packed).T
    logits, labels = pseudo_logits(weight, bias, recipe)
    active = F.gelu(logits - recipe.threshold)
    image_bias = -active.mean(dim=0) @ packed
    images = F.normalize(active @ packed + image_bias, dim=1)
    own = targets.sum(dim=1) == 1
    classes = targets[own].double().argmax(dim=1)
    first = torch.zeros(len(weight), dtype=torch.int64).scatter(0, classes.flip(0), own.nonzero()[:, 0].flip(0))
    texts = F.normalize((embeddings[first] / size - centre) @ text_weight.T, dim=1)
    return Alignment(
        hidden_weight=weight, hidden_bias=bias - recipe.threshold, image_weight=packed.T, image_bias=image_bias,
        centre=centre * size, text_weight=text_weight / size, scale=fit_scale(images @ texts.T, labels),
    )  # fmt: skip

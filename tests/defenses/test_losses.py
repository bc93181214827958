import math
from types import SimpleNamespace

import pytest
import torch
from open_clip.loss import SigLipLoss

from mmcoa.defenses._losses import alignment, contrastive
from mmcoa.errors import UserError


def by_hand(image, text, labels, scale, positives):
    """The definition, entry by entry."""
    n = len(labels)
    if positives == "index":
        z = [[scale * float(image[i] @ text[labels[j]]) for j in range(n)] for i in range(n)]
        i2t = [-z[i][i] + math.log(sum(math.exp(v) for v in z[i])) for i in range(n)]
        t2i = [-z[i][i] + math.log(sum(math.exp(z[k][i]) for k in range(n))) for i in range(n)]
        return sum(i2t) / n + sum(t2i) / n
    u = len(text)
    z = [[scale * float(image[i] @ text[c]) for c in range(u)] for i in range(n)]
    i2t = [-z[i][labels[i]] + math.log(sum(math.exp(v) for v in z[i])) for i in range(n)]
    t2i = []
    for c in range(u):
        everything = sum(math.exp(z[i][c]) for i in range(n))
        own = sum(math.exp(z[i][c]) for i in range(n) if labels[i] == c)
        t2i.append(-math.log(own / everything))
    return sum(i2t) / n + sum(t2i) / u


@pytest.mark.parametrize("positives", ["index", "class"])
def test_contrastive_equals_its_definition(positives):
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(k, 4, generator=generator), dim=1) for k in (5, 3))
    labels = torch.tensor([0, 2, 1, 0, 2])
    value = contrastive(image, text, labels, 7.0, positives)
    assert value.item() == pytest.approx(by_hand(image, text, labels.tolist(), 7.0, positives), abs=1e-5)


def test_index_and_class_are_one_where_no_class_repeats_and_differ_where_one_does():
    """Trap T2."""
    generator = torch.Generator().manual_seed(1)
    image, text = (torch.nn.functional.normalize(torch.randn(4, 4, generator=generator), dim=1) for _ in range(2))
    distinct = [contrastive(image, text, torch.arange(4), 5.0, p).item() for p in ("index", "class")]
    assert distinct[0] == pytest.approx(distinct[1], abs=1e-6)
    labels = torch.tensor([0, 0, 1, 1])
    repeated = [contrastive(image, text[:2], labels, 5.0, p).item() for p in ("index", "class")]
    assert abs(repeated[0] - repeated[1]) > 0.1


def test_perfect_alignment_costs_nothing_with_class_positives():
    """With `index`, a batch that repeats a class cannot reach zero however good the model."""
    text = torch.eye(2)
    labels = torch.tensor([0, 0, 1])
    assert contrastive(text[labels], text, labels, 100.0, "class").item() == pytest.approx(0, abs=1e-5)
    assert contrastive(text[labels], text, labels, 100.0, "index").item() > 0.5


def test_unknown_positives():
    with pytest.raises(UserError, match="nearest: index"):
        contrastive(torch.eye(2), torch.eye(2), torch.arange(2), 1.0, "indx")


@pytest.mark.parametrize("positives", ["index", "class"])
def test_sigmoid_loss(tiny, positives):
    """open_clip's own with `index`; with `class` every picture of a prompt's class is its match. A bias is needed."""
    generator = torch.Generator().manual_seed(0)
    image, text = (torch.nn.functional.normalize(torch.randn(k, 4, generator=generator), dim=1) for k in (5, 3))
    labels, settings = torch.tensor([0, 2, 1, 0, 2]), SimpleNamespace(loss="sigmoid", positives=positives)
    with pytest.raises(UserError, match="loss=sigmoid needs a logit bias, which 'tiny-clip' lacks"):
        alignment(tiny, image, text, labels, settings)
    tiny.clip.logit_bias = torch.nn.Parameter(torch.tensor(-9.0))
    scale, value = tiny.scale, alignment(tiny, image, text, labels, settings).item()
    if positives == "index":
        theirs = SigLipLoss()(image, text[labels], scale, tiny.clip.logit_bias).item()
    else:
        signs = [[1 if labels[i] == c else -1 for c in range(3)] for i in range(5)]
        logits = (scale * image @ text.T - 9.0).tolist()
        theirs = sum(math.log1p(math.exp(-signs[i][c] * logits[i][c])) for i in range(5) for c in range(3)) / 5
    assert value == pytest.approx(theirs, abs=1e-4)

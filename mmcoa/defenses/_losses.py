"""Losses that several defences share."""

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss

from mmcoa.distributed import gather
from mmcoa.errors import UserError, unknown

POSITIVES = ("class", "index")


def contrastive(image_features, text_features, labels, scale, positives="class"):
    """Symmetric contrastive loss CE(image -> text) + CE(text -> image), a scalar (arXiv 2404.19287; CLIP's loss times 2).

    Arguments:
        image_features: unit embeddings [B, D]; of several processes, each gives its share and the loss is that of all.
        text_features: unit embeddings [U, D] of the distinct prompts that the batch contains.
        labels: int64 [B], which of them belongs to which image of the whole batch.
        scale: exp(logit_scale).
        positives: `index`, the paper's literal reading: image i matches text i alone, so two images of one class are each
            other's negatives (trap T2); `class`: CE over the distinct prompts present, and for each prompt minus the log of
            the probability summed over all images of its class.
    """
    image_features = gather(image_features)
    if positives == "index":
        return 2 * ClipLoss()(image_features, text_features[labels], scale)
    if positives != "class":
        raise unknown("positives", positives, POSITIVES)
    logits = scale * image_features @ text_features.T
    own = F.one_hot(labels, len(text_features)).bool()
    of_class = logits.masked_fill(~own, -torch.inf).logsumexp(dim=0) - logits.logsumexp(dim=0)
    return F.cross_entropy(logits, labels) - of_class.mean()


def alignment(model, image_features, text_features, labels, settings):
    """The loss L(f, g) that settings.loss names, a scalar: `softmax`, as `contrastive`, or `sigmoid`, as `pairwise`.

    Arguments as of `contrastive`; settings: a defence's own, with `loss` and `positives`. For `pairwise` a prompt's pictures
    are those of its class, or, with positives `index`, the pairs are all pictures with the prompts of all pictures.
    """
    if settings.loss == "softmax":
        return contrastive(image_features, text_features, labels, model.scale, settings.positives)
    if settings.positives == "index":
        own = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        return pairwise(model, gather(image_features), text_features[labels], own)
    return pairwise(model, gather(image_features), text_features, F.one_hot(labels, len(text_features)).bool())


def pairwise(model, image_features, text_features, own):
    """SigLIP's loss (Zhai et al., ICCV 2023), a scalar: -1/N sum_ic log sigmoid(z_ic (s <f_i, g_c> + b)).

    Arguments:
        image_features, text_features: unit embeddings [N, D] and [C, D].
        own: bool [N, C], whether prompt c is picture i's: z = 1, else -1.

    Raises `UserError` for a model without a logit bias b: it would begin with every pair taken for a match.
    """
    if model.bias is None:
        raise UserError(f"loss=sigmoid needs a logit bias, which '{model.name}' lacks (SigLIP's have one); use loss=softmax")
    logits = model.compare(image_features, text_features)
    return -F.logsigmoid(torch.where(own, logits, -logits)).sum() / len(image_features)

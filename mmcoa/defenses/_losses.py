"""Losses that several defences share."""

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss

from mmcoa.distributed import gather
from mmcoa.errors import unknown

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

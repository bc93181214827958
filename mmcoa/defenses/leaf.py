"""`leaf`: the text tower made robust to changed letters, image tower untouched (LEAF, Rocamora et al., 2025, arXiv 2506.03355).

    loss = mean ||g(t') - g0(t)||^2,  t' = the prompt with one letter of one word edited that moves the embedding furthest

g: text embedding before normalisation, [U, D], of the U distinct prompts of the batch; g0: that of the frozen model. LEAF
samples places in the sentence and then letters; here one sample of `edits` out of all single edits of content words is tried
and the one furthest from g0(t), by cosine, is taken.
"""

import functools

import numpy as np
import torch

from mmcoa.attacks.candidates import CandidateTable
from mmcoa.attacks.prefix import encode_texts
from mmcoa.attacks.scores import EmbeddingScore, by_owner
from mmcoa.attacks.text import attackable_positions, enumerate_variants, search

TRAINS = ("text",)
INNER = ("text",)
VERSION = 1
SETTINGS = {"edits": 50}
LEAST = {"edits": 1}


def objective(model, frozen, batch, threat, settings):
    """Loss of one batch (scalar) and what to log."""
    prompts, _ = batch.present()
    variants = _edits(tuple(batch.prompts), threat).of(prompts)
    drawn = sample(variants, settings.edits, np.random.default_rng([batch.seed, batch.step]))
    one_word = threat.changed(text_budget=1)
    adversarial = search(model, drawn, one_word, EmbeddingScore(encode_texts(frozen, prompts))).prompts
    with torch.no_grad():
        clean = frozen.encode_text_raw(prompts)
    loss = (model.encode_text_raw(adversarial) - clean).square().sum(dim=1).mean()
    return loss, {"leaf": loss.item()}


def sample(variants, count, rng):
    """At most `count` variants of each prompt, drawn without replacement."""
    rows = by_owner(variants.owner, len(variants.prompts))
    kept = [own[torch.from_numpy(np.sort(rng.permutation(len(own))[:count]))] for own in rows]
    return variants.rows(torch.cat([variants.owner[:0], *kept]))


@functools.lru_cache(maxsize=32)  # of an ensemble each template has its own
def _edits(prompts, threat):
    prompts = list(prompts)
    return enumerate_variants(prompts, CandidateTable("characters"), attackable_positions(prompts, threat))

"""The floor of similarity: which changed prompts still mean what the clean one does, by a frozen encoder.

minilm    a sentence encoder that was trained for this (model/lite/sentences.py), the practice of TextFooler and BERT-Attack
own       the text tower of the attacked model before any training: at hand everywhere, and blind where the model is
"""

import functools

import torch

from mmcoa.attacks.prefix import encode_texts
from mmcoa.cache import cached
from mmcoa.errors import UserError
from mmcoa.model import lite
from mmcoa.store.files import digest

VERSION = 1  # of MiniLM's similarities: part of the cache's key


class Floor:
    """Least cosine between a changed prompt and its clean one.

    Arguments:
        encode: function, list of V strings -> unit embeddings [V, D].
        minimum: the least cosine.
        key: JSON value that identifies `encode`: similarities are kept in the user's cache under it; None: they are not.
    """

    def __init__(self, encode, minimum, key=None):
        self.encode, self.minimum, self.key = encode, minimum, key

    def similarity(self, texts, prompts):
        """Cosine of each text with its clean prompt, float [V]; `prompts`: V strings."""
        if self.key is None:
            return self._measure(texts, prompts)
        key = {"similarity": self.key, "version": VERSION, "texts": digest([list(texts), list(prompts)])}
        return torch.tensor(cached("similarities", key, lambda: self._measure(texts, prompts).tolist()))

    def _measure(self, texts, prompts):
        distinct = list(dict.fromkeys(prompts))
        place = {prompt: i for i, prompt in enumerate(distinct)}
        clean = self.encode(distinct)[[place[prompt] for prompt in prompts]]
        return (self.encode(list(texts)) * clean).sum(dim=-1).float().cpu()


def settled(threat):
    """The threat model with the encoder of its floor named, where it has one: what is installed decides, and is recorded."""
    if threat.min_similarity is None:
        return threat
    return threat.changed(similarity_encoder=lite.similarity_encoder(threat.text_threat, threat.similarity_encoder))


def make_floor(frozen, threat):
    """`Floor` of the threat model, or None; `frozen` is a function that returns the model before any training.

    Raises `UserError` where the encoder is asked for and missing.
    """
    if threat.min_similarity is None:
        return None
    if settled(threat).similarity_encoder == "minilm":
        from mmcoa.model.lite import packages, sentences

        return Floor(sentences.minilm(), threat.min_similarity, packages.TEXT.sha256)
    if frozen is None:
        raise UserError("a least similarity is measured in the frozen model, which is missing here")
    return Floor(functools.partial(encode_texts, frozen()), threat.min_similarity)

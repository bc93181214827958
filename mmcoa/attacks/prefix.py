"""Text embeddings of very many prompts that begin alike: each beginning goes through the text tower once.

CLIP's text tower is causal: what it computes at a token depends on the tokens before it alone. Class prompts share their
template, and a variant shares all before its changed word with its clean prompt. Sorted, the token lists form a tree of
prefixes. Only its nodes are computed, layer by layer, as one dense batch; a node attends to its ancestors, whose keys and
values are gathered. The result is that of `model.encode_text`, to rounding.
"""

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from mmcoa.model import blocks
from mmcoa.model.clip import token_counts
from mmcoa.model.towers import projected, text_is_plain

NODES = 16384  # of the tree in one batch: bounds the memory
TEXTS = {"cpu": 128, "cuda": 1024}  # encoded at once where prefixes cannot be shared


@torch.no_grad()
def encode_texts(model, texts, tokens=None):
    """List of V strings -> unit embeddings [V, D] without gradient, equal to `model.encode_text(texts)` to 1e-5.

    tokens: what the model's tokenizer makes of the texts, int64 [V, L], where the caller has it.
    """
    if tokens is None:
        tokens = model.tokenizer(list(texts))
    if not text_is_plain(model.clip):
        return _encode_by_length(model, tokens)
    rows, ends, inverse = sorted_rows(tokens.cpu())
    # Every row adds the nodes that it does not share with the row before it.
    added = (ends + 1 - _shared(rows)).cumsum(dim=0)
    starts = torch.searchsorted(added, torch.arange(NODES, int(added[-1]) + NODES, NODES)).unique()
    bounds = [0, *(s for s in starts.tolist() if 0 < s < len(rows)), len(rows)]
    parts = [
        _encode_tree(model.clip, build_tree(rows[start:stop], ends[start:stop]), model.device)
        for start, stop in itertools.pairwise(bounds)
    ]
    return torch.cat(parts)[inverse.to(model.device)]


def _encode_by_length(model, tokens):
    """Unit embeddings [V, D] of token ids int64 [V, L]: each distinct row once, rows of one length together."""
    rows, inverse = torch.unique(tokens.cpu(), dim=0, return_inverse=True)
    order = token_counts(model, rows).argsort(stable=True)
    parts = [model.encode_tokens(rows[some].to(model.device)) for some in order.split(TEXTS.get(model.device.type, 128))]
    return torch.cat(parts)[order.argsort()[inverse].to(model.device)]


def sorted_rows(tokens):
    """Token ids int64 [V, L] -> (distinct rows [R, L'] in order, -1 behind the end token; ends [R]; row of each text [V])."""
    ends = tokens.argmax(dim=-1)
    length = int(ends.max()) + 1
    behind = torch.arange(length) > ends[:, None]
    rows, inverse = torch.unique(tokens[:, :length].masked_fill(behind, -1), dim=0, return_inverse=True)
    return rows, (rows >= 0).sum(dim=1) - 1, inverse


def _shared(rows):
    """Length of the beginning that each row shares with the row before it, int64 [R]; 0 for the first."""
    same = rows.new_zeros(len(rows))
    same[1:] = (rows[1:] == rows[:-1]).long().cumprod(dim=1).sum(dim=1)
    return same


@dataclass(frozen=True)
class Tree:
    """Tree of prefixes of R distinct token rows; M nodes. A row's own nodes are those that it shares with no row before it.

    tokens, positions: int64 [M], of each node.
    groups: (n, own, path) of the rows that share equally much and are equally long; `path` int64 [n, P] are a row's nodes from
        the root to its end, of which the last `own` are its own. Nodes are numbered in the order of groups, rows, positions.
    order: int64 [R], the row at each place of the groups.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    groups: list
    order: torch.Tensor


def build_tree(rows, ends):
    """`Tree` of sorted distinct rows int64 [R, L] that end at `ends` [R]."""
    places = torch.arange(rows.shape[1])
    shared = _shared(rows)
    own = (places >= shared[:, None]) & (places <= ends[:, None])
    order = torch.argsort(shared * len(places) + ends, stable=True)
    number = torch.empty(rows.shape, dtype=torch.int64)
    number[order] = own[order].flatten().cumsum(dim=0).view_as(rows) - 1
    # A shared node was first met in the nearest row above that has it as its own.
    first = torch.where(own, torch.arange(len(rows))[:, None], 0).cummax(dim=0).values
    path = number.gather(0, first)[order]
    kinds, counts = torch.stack([shared, ends])[:, order].unique_consecutive(dim=1, return_counts=True)
    groups, start = [], 0
    for (before, end), n in zip(kinds.T.tolist(), counts.tolist(), strict=True):
        groups.append((n, end + 1 - before, path[start : start + n, : end + 1]))
        start += n
    return Tree(rows[order][own[order]], places.expand_as(rows)[own[order]], groups, order)


def _encode_tree(clip, tree, device):
    """Unit embeddings [R, D] of the tree's rows."""
    take = blocks.taker(clip.transformer.get_cast_dtype())
    x = take(clip.token_embedding(tree.tokens.to(device))) + take(clip.positional_embedding[tree.positions.to(device)])
    groups = [(n, own, path.to(device)) for n, own, path in tree.groups]
    layers = clip.transformer.resblocks
    for index, layer in enumerate(layers):
        last, block = index == len(layers) - 1, blocks.read(layer, take)
        attended = _attend(block, block.norm_1(x), groups, last)
        if last:  # of the last layer only the end tokens are read
            x = x[torch.cat([path[:, -1] for _, _, path in groups])]
        x = block.behind(x, attended)
    x = projected(clip, x, take)
    features = torch.empty_like(x)
    features[tree.order.to(device)] = x
    return F.normalize(features, dim=-1)


def _attend(block, x, groups, ends_only):
    """Causal self-attention of each node [M, width] to itself and its ancestors; `ends_only`: of rows' ends [R, width]."""
    heads, width = block.heads, x.shape[-1]
    queries, keys, values = block.inward(x).split(width, dim=-1)
    found, start = [], 0
    for n, own, path in groups:
        length = path.shape[1]
        q = queries[start : start + n * own].view(n, own, heads, -1)
        k, v = (side[path.flatten()].view(n, length, heads, -1).transpose(1, 2) for side in (keys, values))
        start += n * own
        mask = None
        if ends_only:
            q = q[:, -1:]
        elif own > 1:
            mask = torch.ones(own, length, dtype=torch.bool, device=x.device).tril(length - own)
        out = F.scaled_dot_product_attention(q.transpose(1, 2), k, v, attn_mask=mask)
        found.append(out.transpose(1, 2).reshape(-1, width))
    return torch.cat(found)

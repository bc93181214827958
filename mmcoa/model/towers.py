"""CLIP's towers without what nobody reads: of the last block, only the row of the token that becomes the embedding.

Each tower reads its embedding at one token (image: class token, text: end token). In the last block the other tokens matter as
keys and values alone, so that their queries, their half of the output and their MLP need no computing, forward or backward:
of a tower of L blocks about 0.8 / L of the work. Values and gradients are open_clip's, to rounding.
"""

import open_clip
import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations
from torch.utils.checkpoint import checkpoint

from mmcoa.model.conv_linear import linear, pays


def is_plain(block):
    """Whether a block is open_clip's usual one: attention and MLP behind layer norms, no dropout."""
    attention = getattr(block, "attn", nn.Identity())
    return (
        type(block) is ResidualAttentionBlock
        and not hasattr(block, "ln_1_kv")
        and type_before_parametrizations(attention) is nn.MultiheadAttention  # LoRA parametrizes its matrices
        and attention.in_proj_weight is not None
        and attention.batch_first
        and attention.bias_k is None
        and not attention.add_zero_attn
        and (attention.dropout == 0 or not block.training)
        and len(block.mlp) == 3
    )


def image_is_plain(visual):
    """Whether the image tower is open_clip's ViT, read at its class token."""
    return (
        isinstance(visual, VisionTransformer)
        and visual.attn_pool is None
        and visual.pool_type == "tok"
        and not visual.output_tokens
        and all(is_plain(block) for block in visual.transformer.resblocks)
    )


def text_is_plain(clip):
    """Whether the text tower is open_clip's causal transformer, read at the end token."""
    return (
        isinstance(clip, open_clip.CLIP)
        and clip.text_pool_type == "argmax"
        and clip.attn_mask is not None
        and all(is_plain(block) for block in clip.transformer.resblocks)
    )


def encode_image(visual, x):
    """Normalised pixels [N, 3, H, W] -> embeddings [N, D] of a plain image tower."""
    x = _through(visual.transformer, visual._embeds(x))
    x = visual.ln_post(_at(visual.transformer.resblocks[-1], x, x.new_zeros(len(x), dtype=torch.int64)))
    return x if visual.proj is None else x @ visual.proj


def encode_text(clip, tokens):
    """Token ids int64 [C, L] -> embeddings [C, D] of a plain text tower.

    Tokens behind the end token are cut: the tower is causal, and class prompts fill a tenth of CLIP's 77 places.
    """
    ends = tokens.argmax(dim=-1)
    length = int(ends.max()) + 1
    tokens = tokens[:, :length]
    dtype = clip.transformer.get_cast_dtype()
    x = clip.token_embedding(tokens).to(dtype) + clip.positional_embedding[:length].to(dtype)
    x = _through(clip.transformer, x, clip.attn_mask[:length, :length])
    behind = torch.arange(length, device=x.device) > ends[:, None]
    x = clip.ln_final(_at(clip.transformer.resblocks[-1], x, ends, behind))
    projection = clip.text_projection
    if projection is None:
        return x
    return projection(x) if isinstance(projection, nn.Linear) else x @ projection


def _through(transformer, x, mask=None):
    """All blocks but the last."""
    for block in transformer.resblocks[:-1]:
        if transformer.grad_checkpointing:
            x = checkpoint(block, x, None, None, mask, use_reentrant=False)
        else:
            x = _wide(block, x, mask) if pays(x) else block(x, attn_mask=mask)
    return x


def _wide(block, x, mask=None):
    """A block [N, L, W] -> [N, L, W] whose four matrices are applied by `linear`."""
    attention, (hidden, activation, output) = block.attn, block.mlp
    n, length, width = x.shape
    qkv = linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    query, key, value = qkv.view(n, length, 3, attention.num_heads, -1).permute(2, 0, 3, 1, 4)
    seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).reshape(n, length, width)
    x = x + block.ls_1(linear(seen, attention.out_proj.weight, attention.out_proj.bias))
    inner = activation(linear(block.ln_2(x), hidden.weight, hidden.bias))
    return x + block.ls_2(linear(inner, output.weight, output.bias))


def _at(block, x, places, hidden=None):
    """Output [N, W] of a block at one token of each sequence [N, L, W]; `hidden` bool [N, L]: tokens that it must not see."""
    rows = torch.arange(len(x), device=x.device)
    seen = block.ln_1(x)
    query = seen[rows, places][:, None]
    attended = block.attn(query, seen, seen, key_padding_mask=hidden, need_weights=False)[0][:, 0]
    x = x[rows, places] + block.ls_1(attended)
    return x + block.ls_2(block.mlp(block.ln_2(x)))

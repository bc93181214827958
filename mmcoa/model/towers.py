"""CLIP's towers that are open_clip's own transformers, computed from their weights as plain tensors (blocks.py).

Each tower reads its embedding at one token (image: class token, text: end token). In the last block the other tokens matter as
keys and values alone, so that their queries, their half of the output and their MLP need no computing, forward or backward:
of a tower of L blocks about 0.8 / L of the work. Patches that do not overlap are rows of one matrix product: the gradient of a
convolution with respect to its picture takes a tenth of a step. Values and gradients are open_clip's, to rounding.
"""

import open_clip
import torch
from open_clip.transformer import VisionTransformer
from torch import nn
from torch.utils.checkpoint import checkpoint

from mmcoa.model import blocks
from mmcoa.model.blocks import is_plain


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


class ImageTower:
    """Normalised pixels [N, 3, H, W] -> embeddings [N, D] of a plain image tower, from its weights as they are now.

    Arguments:
        dtype: to compute in; default: the weights'. The embeddings come in it too.
        detached: no gradients reach the weights.
    """

    def __init__(self, visual, dtype=None, detached=False):
        take = blocks.taker(dtype, detached)
        self.dtype, self.visual, self.checkpointing = dtype, visual, visual.transformer.grad_checkpointing
        self.kernel, self.class_token = take(visual.conv1.weight), take(visual.class_embedding)
        self.positions, self.projection = take(visual.positional_embedding), take(visual.proj)
        self.before = blocks.norm(visual.ln_pre, take) if isinstance(visual.ln_pre, nn.LayerNorm) else visual.ln_pre
        self.after = blocks.norm(visual.ln_post, take)
        self.blocks = [blocks.read(block, take) for block in visual.transformer.resblocks]

    def __call__(self, pixels):
        pixels = pixels if self.dtype is None else pixels.to(self.dtype)
        x = _through(self.blocks[:-1], self.embedded(pixels), checkpointing=self.checkpointing)
        x = self.after(self.blocks[-1].at(x))
        return x if self.projection is None else x @ self.projection

    def embedded(self, pixels):
        """Class token and patches [N, L, W] at their places, as they enter the first block."""
        x = self.patches(pixels)
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1) + self.positions
        return self.before(self.visual.patch_dropout(x))

    def patches(self, pixels):
        """Each patch as a row [N, P, W]."""
        conv, (width, channels, high, wide) = self.visual.conv1, self.kernel.shape
        n, _, height, breadth = pixels.shape
        apart = conv.stride == conv.kernel_size and conv.padding == (0, 0) and conv.dilation == (1, 1) and conv.groups == 1
        if not apart or conv.bias is not None or height % high or breadth % wide:
            bias = None if conv.bias is None else conv.bias.to(self.kernel.dtype)
            return conv._conv_forward(pixels, self.kernel, bias).flatten(2).transpose(1, 2)
        grid = pixels.reshape(n, channels, height // high, high, breadth // wide, wide).permute(0, 2, 4, 1, 3, 5)
        rows = grid.reshape(n, -1, channels * high * wide)
        return blocks.Linear(self.kernel.reshape(width, -1), None)(rows)


def encode_image(visual, x, dtype=None):
    """Normalised pixels [N, 3, H, W] -> embeddings [N, D] of a plain image tower."""
    return ImageTower(visual, dtype)(x)


def encode_text(clip, tokens, dtype=None):
    """Token ids int64 [C, L] -> embeddings [C, D] of a plain text tower; dtype: to compute in.

    Tokens behind the end token are cut: the tower is causal, and class prompts fill a tenth of CLIP's 77 places.
    """
    take = blocks.taker(dtype or clip.transformer.get_cast_dtype())
    ends = tokens.argmax(dim=-1)
    length = int(ends.max()) + 1
    tokens = tokens[:, :length]
    x = take(clip.token_embedding(tokens)) + take(clip.positional_embedding[:length])
    *first, last = (blocks.read(block, take) for block in clip.transformer.resblocks)
    x = _through(first, x, clip.attn_mask[:length, :length], clip.transformer.grad_checkpointing)
    behind = torch.arange(length, device=x.device) > ends[:, None]
    return projected(clip, last.at(x, ends, behind), take)


def projected(clip, x, take):
    """Outputs [C, W] of the last block of a plain text tower -> embeddings [C, D]."""
    x, projection = blocks.norm(clip.ln_final, take)(x), clip.text_projection
    if projection is None:
        return x
    return blocks.linear(projection, take)(x) if isinstance(projection, nn.Linear) else x @ take(projection)


def _through(weights, x, mask=None, checkpointing=False):
    """Some blocks one after another."""
    for block in weights:
        x = checkpoint(block.whole, x, mask, use_reentrant=False) if checkpointing else block.whole(x, mask)
    return x

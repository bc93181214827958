"""What is trained: which towers, how many of their first or last blocks, all of a matrix or a low-rank change to it.

LoRA (Hu et al., ICLR 2022) is a parametrization of torch: each matrix W reads as W + (alpha / rank) B A while only A and B
are trained, whoever uses it (attention, the shared-prefix text encoder, an attack). `clip.plain_state` is the plain model.
"""

import torch
from torch import nn
from torch.nn.utils import parametrize

from mmcoa.errors import UserError
from mmcoa.model import hf_text
from mmcoa.model.clip import image_parameters, text_parameters

TOWERS = {"image": ("image",), "text": ("text",), "both": ("image", "text")}
MATRICES = (  # of a transformer block: open_clip's, timm's, BERT's
    ("attn.in_proj_weight", "attn.out_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight"),
    ("attn.qkv.weight", "attn.proj.weight", "mlp.fc1.weight", "mlp.fc2.weight"),
    (
        *(f"attention.self.{name}.weight" for name in ("query", "key", "value")),
        "attention.output.dense.weight",
        "intermediate.dense.weight",
        "output.dense.weight",
    ),
)


def towers(trains, default):
    """Names of the trained towers: `image`, `text`, `both`; None: the defence's own, `default`."""
    return tuple(default) if trains is None else TOWERS[trains]


def make_trainable(model, towers, last_blocks=None, lora_rank=None, seed=0, first_blocks=None, bias=False):
    """Freeze the model but for what is trained, and return these parameters. The logit scale goes with the text tower.

    Arguments:
        towers: names out of `image`, `text`.
        last_blocks: train only the last k blocks of each tower (of a ResNet: stages) and what follows them.
        lora_rank: train low-rank changes of rank r to the matrices of these blocks, and nothing else.
        first_blocks: train only the first k blocks of each tower and what comes before them (embeddings, stem); with
            `last_blocks` both ends.
        bias: a logit bias goes with the logit scale; a loss that does not depend on it would let rounding move it.

    Raises `UserError` where the model has fewer blocks, or no transformer blocks for LoRA.
    """
    model.requires_grad_(False)
    if last_blocks is None and first_blocks is None:
        if lora_rank is not None:
            return add_low_rank(model, [block for tower in towers for block in last(model, tower)[0]], lora_rank, seed)
        parameters = [p for tower in towers for p in (image_parameters if tower == "image" else text_parameters)(model)]
    else:
        ends = [last(model, tower, last_blocks) for tower in towers if last_blocks is not None]
        ends += [first(model, tower, first_blocks) for tower in towers if first_blocks is not None]
        if lora_rank is not None:
            return add_low_rank(model, distinct(block for blocks, _ in ends for block in blocks), lora_rank, seed)
        parameters = [p for blocks, _ in ends for module in blocks for p in module.parameters()]
        parameters += [
            p for _, part in ends for one in part for p in (one.parameters() if isinstance(one, nn.Module) else [one])
        ]
    parameters += named(model.clip, "logit_scale", *(["logit_bias"] if bias else [])) if "text" in towers else []
    return [p.requires_grad_(True) for p in distinct(parameters)]


def distinct(items):
    """Each object once, in order."""
    return list({id(item): item for item in items}.values())


def last(model, tower, count=None):
    """(the last `count` blocks of a tower, all for None; modules and parameters that follow them)."""
    blocks, _, after = parts(model, tower, "last_blocks", count)
    return blocks[len(blocks) - (count or len(blocks)) :], after


def first(model, tower, count):
    """(the first `count` blocks of a tower; modules and parameters before them)."""
    blocks, before, _ = parts(model, tower, "first_blocks", count)
    return blocks[:count], before


def parts(model, tower, setting, count=None):
    """(blocks of a tower, modules and parameters before them, those behind them).

    Raises `UserError` where it has no list of blocks, or fewer than `count`, the value of `setting`.
    """
    visual, text = model.clip.visual, getattr(model.clip, "text", model.clip)
    if tower == "text" and hf_text.is_hf(model.clip):
        blocks = getattr(getattr(text.transformer, "encoder", None), "layer", None)
        before, after = [text.transformer.embeddings], [text.proj]
    elif tower == "text":
        blocks = getattr(getattr(text, "transformer", None), "resblocks", None)
        before, after = named(text, "token_embedding", "positional_embedding"), named(text, "ln_final", "text_projection")
    elif hasattr(visual, "trunk"):  # timm's
        blocks, before, after = stages(visual.trunk)
        after.append(visual.head)
    elif hasattr(visual, "layer4"):
        blocks = [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
        before, after = named(visual, "conv1", "bn1", "conv2", "bn2", "conv3", "bn3"), named(visual, "attnpool")
    else:
        blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
        before = named(visual, "conv1", "class_embedding", "positional_embedding", "ln_pre")
        after = named(visual, "ln_post", "proj")
    if blocks is None:
        raise UserError(f"'{model.name}' has no list of blocks in its {tower} tower; train the whole tower")
    if count is not None and not 1 <= count <= len(blocks):
        raise UserError(
            f"{setting} must lie in 1..{len(blocks)}, the blocks of the {tower} tower of '{model.name}'; got {count}"
        )
    return list(blocks), before, after


def named(holder, *names):
    """Those of its attributes that it has."""
    return [found for name in names if (found := getattr(holder, name, None)) is not None]


def stages(trunk):
    """(blocks or stages of a timm trunk, None where it has no list of them; what is declared before them; what behind)."""
    children = dict(trunk.named_children())
    lists = [name for name in ("blocks", "stages") if name in children] or [
        name for name in children if name.startswith("layer")
    ]
    if not lists:
        return None, [], []
    order = list(children)
    blocks = [block for name in lists for block in (children[name] if len(lists) == 1 else [children[name]])]
    before = [children[name] for name in order[: order.index(lists[0])]]
    before += list(trunk.parameters(recurse=False))  # class token, positions
    return blocks, before, [children[name] for name in order[order.index(lists[-1]) + 1 :]]


class LowRank(nn.Module):
    """weight [out, in] -> weight + (alpha / rank) up @ down; zero change at the start."""

    def __init__(self, weight, rank, generator):
        super().__init__()
        down = torch.randn(rank, weight.shape[1], generator=generator) / weight.shape[1] ** 0.5
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(weight.new_zeros(weight.shape[0], rank))
        self.scale = 2.0  # alpha / rank, as usual alpha = 2 rank

    def forward(self, weight):
        return weight + self.scale * self.up @ self.down


def add_low_rank(model, blocks, rank, seed):
    """Parametrize the matrices of transformer blocks; returns the new parameters."""
    generator, added = torch.Generator().manual_seed(seed), []
    for block in blocks:
        for name in matrices(model, block):
            path, _, attribute = name.rpartition(".")
            owner = block.get_submodule(path)
            weight = getattr(owner, attribute)
            if not 1 <= rank <= min(weight.shape):
                raise UserError(f"lora_rank must lie in 1..{min(weight.shape)} for '{model.name}', got {rank}")
            change = LowRank(weight, rank, generator)
            parametrize.register_parametrization(owner, attribute, change)
            added += [change.down, change.up]
    return added


def matrices(model, block):
    """Names of a transformer block's matrices. `UserError` where it is none."""
    for names in MATRICES:
        if all(_has(block, name) for name in names):
            return names
    raise UserError(f"LoRA needs transformer blocks, which a tower of '{model.name}' lacks; use last_blocks")


def _has(block, name):
    for part in name.split("."):
        block = getattr(block, part, None)
    return isinstance(block, torch.Tensor)


def merge(model):
    """Turn low-rank changes into plain weights, in place."""
    for module in list(model.clip.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)

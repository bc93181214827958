"""Names and layout of CLIP's weights in open_clip and in transformers: one state dict as the other.

open_clip keeps queries, keys and values as one matrix and applies its projections from the right; transformers does neither.
"""

import re

import torch

EMBEDDINGS = {  # the same tensor under another name
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
}
PROJECTIONS = {"text_projection": "text_projection.weight", "visual.proj": "visual_projection.weight"}  # transposed
NORMS = {
    "ln_final": "text_model.final_layer_norm",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
}
INSIDE = {  # of a block
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
BLOCK = re.compile(r"(vision|text)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def to_transformers(state):
    """State dict of open_clip's `CLIP` with a plain ViT -> that of transformers' `CLIPModel`."""
    found = {other: state[own] for own, other in EMBEDDINGS.items()}
    found |= {other: state[own].T.contiguous() for own, other in PROJECTIONS.items()}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        if module in NORMS:
            found[f"{NORMS[module]}.{kind}"] = value
        tower, block, rest = name.partition("transformer.resblocks.")
        if not block:
            continue
        number, _, part = rest.partition(".")
        target = f"{'vision' if tower else 'text'}_model.encoder.layers.{number}"
        if part.startswith("attn.in_proj"):
            for which, third in zip("qkv", value.chunk(3), strict=True):
                found[f"{target}.self_attn.{which}_proj.{kind.removeprefix('in_proj_')}"] = third.contiguous()
        else:
            found[f"{target}.{INSIDE[part.rpartition('.')[0]]}.{kind}"] = value
    return found


def is_transformers(state):
    """Whether a state dict has transformers' names."""
    return any(name.startswith(("vision_model.", "text_model.")) for name in state)


def to_open_clip(state):
    """State dict of transformers' `CLIPModel`, or of one tower -> that of open_clip; names that it does not know stay."""
    found, thirds = {}, {}
    same = {other: own for own, other in EMBEDDINGS.items()}
    turned = {other: own for own, other in PROJECTIONS.items()}
    norms = {other: own for own, other in NORMS.items()}
    inside = {other: own for own, other in INSIDE.items()}
    for name, value in state.items():
        module, _, kind = name.rpartition(".")
        block = BLOCK.fullmatch(name)
        if name.endswith("position_ids"):  # a constant that old versions kept
            continue
        if name in same:
            found[same[name]] = value
        elif name in turned:
            found[turned[name]] = value.T.contiguous()
        elif module in norms:
            found[f"{norms[module]}.{kind}"] = value
        elif block and (block[3] in inside or block[3].removeprefix("self_attn.") in ("q_proj", "k_proj", "v_proj")):
            home = f"{'visual.' if block[1] == 'vision' else ''}transformer.resblocks.{block[2]}"
            if block[3] in inside:
                found[f"{home}.{inside[block[3]]}.{kind}"] = value
            else:
                thirds.setdefault(f"{home}.attn.in_proj_{kind}", {})[block[3][len("self_attn.")]] = value
        else:
            found[name] = value
    whole = {name: torch.cat([parts[which] for which in "qkv"]) for name, parts in thirds.items() if len(parts) == 3}
    return found | whole

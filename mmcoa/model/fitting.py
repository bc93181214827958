"""A state dict of any origin into an open_clip model: whole, or refused with the names of what is wrong.

open_clip goes on in silence where tensors have no place, resizes position embeddings, and keeps random weights where a file
holds one tower. Here each of these is either said or refused.
"""

import torch
from open_clip.convert import convert_state_dict
from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed, resize_text_pos_embed

from mmcoa.errors import UserError

TOWERS = ("visual.", "text.", "transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
LENT = ("logit_scale", "logit_bias", "visual.proj", "text_projection", "text.text_projection")  # the rest may have these alone
SHOWN = 4  # names that a message lists


def fit(clip, state, where, rest=None):
    """Load `state` into `clip` in place; returns notes, [sentence].

    Arguments:
        state: {open_clip's name: tensor}, of both towers or of one.
        where: what messages call the file.
        rest: state dict of a whole model of this architecture, which gives the tower that `state` does not have.

    Raises `UserError` for missing tensors (their tower would be random), for those of a tower that have no place, and for other
    shapes.
    """
    own = clip.state_dict()
    state, notes = _as_in(clip, dict(state), own, where)
    missing = [name for name in own if name not in state]
    towers = {tower: [name for name in own if _is_image(name) == (tower == "image")] for tower in ("image", "text")}
    absent = [tower for tower, names in towers.items() if not set(names) - {*LENT} & set(state)]
    if len(absent) == 2:
        raise UserError(f"{where} has no tensor of this architecture; its first: {_listed(list(state))}")
    if rest is not None:
        lent = [name for name in missing if name in LENT or any(name in towers[tower] for tower in absent)]
        state |= {name: rest[name] for name in lent}
        missing = [name for name in missing if name not in lent]
        what = [f"its {tower} tower" for tower in absent] + [name for name in lent if name in LENT and not absent]
        if what:
            notes.append(f"{where} lacks {' and '.join(what)}: from the rest that --arch names")
    elif absent:
        raise UserError(
            f"{where} holds no {absent[0]} tower, which would be random; say where it comes from: --arch ARCH/TAG of open_clip "
            "or a path"
        )
    wrong = [name for name in state if name in own and state[name].shape != own[name].shape]
    extra = [name for name in state if name not in own]
    foreign = [name for name in extra if name.startswith(TOWERS) and not name.startswith("text_decoder.")]
    faults = [
        f"{len(missing)} missing ({_listed(missing)})" if missing else "",
        f"{len(wrong)} of another shape ({_listed([_shapes(name, state, own) for name in wrong])})" if wrong else "",
        f"{len(foreign)} unexpected ({_listed(foreign)})" if foreign else "",
    ]
    if any(faults):
        raise UserError(f"{where} is not of this architecture: tensors {'; '.join(filter(None, faults))}; say another --arch")
    if extra:
        notes.append(f"{len(extra)} tensors of {where} are no part of the model and left out: {_listed(extra)}")
    clip.load_state_dict({name: state[name].to(own[name].dtype) for name in own})
    return notes


def _as_in(clip, state, own, where):
    """(state dict by the model's own names and in its layout, notes), as open_clip's `load_checkpoint` has it."""
    state, notes = convert_state_dict(clip, state), []
    apart = "positional_embedding" not in own
    if apart and "positional_embedding" in state:
        state = convert_to_custom_text_state_dict(state)
    elif not apart:
        state = {name.removeprefix("text."): value for name, value in state.items()}
    state.pop("text.transformer.embeddings.position_ids", None)  # a constant that old versions kept
    for name in ("logit_scale", "logit_bias"):
        if name in state and name in own and state[name].numel() == 1:
            state[name] = state[name].reshape(own[name].shape)
    if "logit_bias" in own and "logit_bias" not in state and "logit_scale" in state:
        state["logit_bias"] = torch.zeros_like(own["logit_bias"])
        notes.append(f"{where} has no logit_bias: zero")
    before = {name: value.shape for name, value in state.items()}
    try:
        resize_pos_embed(state, clip)
        resize_text_pos_embed(state, clip)
    except Exception as error:
        raise UserError(f"{where}: position embeddings do not fit this architecture; say another --arch") from error
    changed = [name for name, value in state.items() if value.shape != before[name]]
    if changed:
        told = (f"{name} {tuple(before[name])} to {tuple(state[name].shape)}" for name in changed)
        notes.append(f"reshaped by interpolation: {'; '.join(told)}")
    return state, notes


def _is_image(name):
    return name.startswith("visual.")


def _shapes(name, state, own):
    return f"{name} {tuple(state[name].shape)} where {tuple(own[name].shape)} is expected"


def _listed(names):
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more

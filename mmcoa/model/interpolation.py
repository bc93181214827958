"""Weights between a frozen and a tuned model (WiSE-FT, Wortsman et al., CVPR 2022): trades clean for robust accuracy."""

import os

import torch

from mmcoa.errors import UserError
from mmcoa.model.clip import plain_state
from mmcoa.model.loading import frozen_model, load_model
from mmcoa.model.saving import save_checkpoint


@torch.no_grad()
def interpolate(frozen, tuned, alpha):
    """State dict (1 - alpha) frozen + alpha tuned of two `ImageTextModel`s of one architecture; integer buffers are `tuned`'s.

    Raises `UserError` where alpha is outside [0, 1] or the architectures differ.
    """
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha must lie in [0, 1] (0: the frozen model, 1: the tuned one), got {alpha:g}")
    first, second = plain_state(frozen.clip), plain_state(tuned.clip)
    shapes = [{key: tuple(value.shape) for key, value in state.items()} for state in (first, second)]
    if shapes[0] != shapes[1]:
        raise UserError(f"'{frozen.name}' and '{tuned.name}' are of different architectures: there is nothing between them")
    return {
        key: torch.lerp(first[key].float(), value.float(), alpha).to(value.dtype) if value.is_floating_point() else value
        for key, value in second.items()
    }


def interpolate_checkpoints(tuned, output, alpha, base=None):
    """Write the checkpoint folder `output` between the model `tuned` (a folder) and its base; returns the folder.

    base: name of the frozen model; default: the one that the tuned model's mmcoa.json names.
    """
    model = load_model(tuned)
    if not base and not model.metadata.get("base_model"):
        raise UserError(f"{tuned} does not say what it was tuned from; give --base")
    frozen = load_model(base) if base else frozen_model(model)
    model.clip.load_state_dict(interpolate(frozen, model, alpha))
    metadata = {**model.metadata, "name": f"{model.name}-alpha{alpha:g}", "alpha": alpha}
    if base:
        metadata = {key: value for key, value in metadata.items() if not key.startswith("base_")}
        metadata |= {"base_model": base, "base_weights": frozen.fingerprint()}
        metadata |= {"base_folder": str(frozen.folder)} if frozen.folder else {}
    if home := metadata.get("base_folder"):
        metadata["base_beside"] = os.path.relpath(home, output)
    for key in ("training", "held_out", "seconds", "images"):  # true of the tuned model alone
        metadata.pop(key, None)
    return save_checkpoint(model, output, metadata)

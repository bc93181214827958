"""Several processes that train one model, each on its share of every batch; alone, all of this does nothing.

`accelerate launch -m mmcoa train ...` or `torchrun --nproc-per-node N -m mmcoa train ...` start them. Every process
draws the same batch and takes its slice, so that N processes do what one does with the whole batch. Gradients are averaged in
one call after the backward pass: a step has many forward passes, those of the inner attack, and that one.
"""

import torch
from accelerate import PartialState
from accelerate.utils import reduce


def join(device):
    """`accelerate.PartialState` of this process: process_index, num_processes, is_main_process, wait_for_everyone()."""
    return PartialState(cpu=torch.device(device).type == "cpu")


def world_size():
    """Number of processes that train together."""
    ready = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if ready else 1


def gather(features):
    """[B / processes, D] of each process -> [B, D] on all of them, in the batch's order, gradients included."""
    if world_size() == 1:
        return features
    return torch.cat(torch.distributed.nn.all_gather(features.contiguous()))


def mean_over_processes(value):
    """Mean of a tensor over the processes; no gradient."""
    return value if world_size() == 1 else reduce(value.detach().clone(), "mean")


@torch.no_grad()
def average_gradients(parameters):
    """Replace each gradient by its mean over the processes."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    joined = reduce(torch.cat([g.flatten() for g in gradients]), "mean")
    for gradient, part in zip(gradients, joined.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))

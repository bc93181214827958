"""A convolutional image tower with its batch norms folded into the convolutions before them.

A batch norm with fixed statistics is affine, so the convolution before it can do its work (Jacob et al., CVPR 2018, section
3.2): bn(conv(x)) = (w s) * x + (b - mean) s + beta with s = gamma / sqrt(var + eps). The copy shares all other parameters with
its tower and keeps its images in `channels_last`. Values and gradients are the tower's, to rounding.

    folded(visual)(pixels)      for as long as the weights stand still: gradients reach the image alone. It is folded again for
                                each attack: whether weights have changed cannot be seen (a fused optimizer raises no version
                                counter), and folding takes milliseconds.
    learning(visual)(pixels)    gradients reach the tower's weights too: each call folds anew, within the graph. What a batch
                                norm would keep for its gradient, a copy of all that goes in, is never made.
"""

import copy
import itertools
from weakref import WeakKeyDictionary

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils.parametrize import is_parametrized

_KEPT = WeakKeyDictionary()  # image tower -> its FoldedTower
TOLERANCE = 1e-3  # of the probe, as a share of the largest output: a wrong fold is off by more than that


def pairs(module):
    """[(name of a convolution, name of the batch norm declared next)] of a tower in evaluation mode."""
    found = []
    for prefix, parent in module.named_modules():
        children = [(f"{prefix}.{name}" if prefix else name, child) for name, child in parent.named_children()]
        children = [pair for pair in children if not isinstance(pair[1], nn.Identity)]
        for (conv_name, conv), (norm_name, norm) in itertools.pairwise(children):
            if (
                isinstance(conv, nn.Conv2d)  # timm pads some of its own kind
                and isinstance(norm, nn.BatchNorm2d)
                and norm.num_features == conv.out_channels
                and norm.track_running_stats
                and norm.affine
            ):
                found.append((conv_name, norm_name))
    return found


def folded(visual):
    """The `FoldedTower` of an image tower, of its weights as they are now, until they change; made once, then only filled.

    None where the tower has nothing to fold, or trains its batch norms.
    """
    kept = _kept(visual)
    if kept is not None:
        kept.fold()
    return kept


def learning(visual):
    """Function images [N, 3, H, W] -> what `visual` gives, with gradients of its weights; None where that is not to be had.

    That is where `folded` has nothing, where a convolution is trained through another tensor (LoRA), and where activations are
    computed again for the gradient, when the folded weights are gone.
    """
    again = any(getattr(module, "grad_checkpointing", False) for module in visual.modules())
    kept = None if again else _kept(visual)
    return None if kept is None or any(is_parametrized(conv) for conv, _ in kept.pairs) else kept.learning


def _kept(visual):
    """The `FoldedTower` of an image tower in evaluation mode, None where there is nothing to fold."""
    if visual.training:
        return None
    kept = _KEPT.get(visual)
    if kept is None or not kept.is_of(visual):
        kept = _KEPT[visual] = FoldedTower(visual)
    return kept if kept.works else None


def fused(conv, norm):
    """(weight, bias) of the convolution that does what `conv` and the batch norm `norm` behind it do."""
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    weight = (conv.weight * scale.view(-1, 1, 1, 1)).contiguous(memory_format=torch.channels_last)
    return weight, bias * scale + norm.bias


class FoldedTower:
    """Encodes images [N, 3, H, W] as `visual` does, faster. `works`: whether there was something to fold, and it went well."""

    def __init__(self, visual):
        found = pairs(visual)
        self.names = [conv for conv, _ in found]
        self.pairs = [(visual.get_submodule(conv), visual.get_submodule(norm)) for conv, norm in found]
        own = {id(tensor) for pair in self.pairs for module in pair for tensor in (*module.parameters(), *module.buffers())}
        self.tensors = [*visual.parameters(), *visual.buffers()]
        self.device = self.tensors[0].device
        shared = {id(tensor): tensor for tensor in self.tensors if id(tensor) not in own}
        self.tower = copy.deepcopy(visual, shared).eval()
        self.convolutions = []
        for conv_name, norm_name in found:
            conv, norm = self.tower.get_submodule(conv_name), self.tower.get_submodule(norm_name)
            conv.weight = nn.Parameter(conv.weight.detach().contiguous(memory_format=torch.channels_last), requires_grad=False)
            conv.bias = nn.Parameter(torch.zeros_like(norm.bias), requires_grad=False)
            parent, _, name = norm_name.rpartition(".")
            after = getattr(norm, "act", None)  # timm's norms apply the activation too
            setattr(self.tower.get_submodule(parent), name, after if isinstance(after, nn.Module) else nn.Identity())
            self.convolutions.append(conv)
        self.works = bool(self.pairs) and self._agrees(visual)

    def is_of(self, visual):
        """Whether the tower has the tensors that it had: a move to another device or a parametrization changes them."""
        tensors = [*visual.parameters(), *visual.buffers()]
        return len(tensors) == len(self.tensors) and all(
            one is other and one.device == self.device for one, other in zip(tensors, self.tensors, strict=True)
        )

    @torch.no_grad()
    def fold(self):
        """Write the tower's present weights and statistics into the copy's convolutions, where they differ: a gradient that
        is still to be taken through the copy, as one through a test-time defence, forbids to write the same once more."""
        for pair, folded in zip(self.pairs, self.convolutions, strict=True):
            for own, value in zip((folded.weight, folded.bias), fused(*pair), strict=True):
                if not torch.equal(own, value):
                    own.copy_(value)

    def __call__(self, pixels):
        return self.tower(pixels.contiguous(memory_format=torch.channels_last))

    def learning(self, pixels):
        """The same of the tower's present weights, which gradients reach."""
        weights = {}
        for name, pair in zip(self.names, self.pairs, strict=True):
            weights[f"{name}.weight"], weights[f"{name}.bias"] = fused(*pair)
        return functional_call(self.tower, weights, (pixels.contiguous(memory_format=torch.channels_last),))

    @torch.no_grad()
    def _agrees(self, visual):
        """Whether the copy gives the tower's output on a drawn picture: names alone do not prove what follows what."""
        side = getattr(visual, "image_size", 64) or 64
        height, width = (side, side) if isinstance(side, int) else tuple(side)[-2:]
        self.fold()
        probe = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        probe = 2 * probe.to(self.tensors[0].device, self.tensors[0].dtype) - 1
        wanted = visual(probe)
        return bool((self(probe) - wanted).abs().max() <= TOLERANCE * wanted.abs().max())

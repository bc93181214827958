"""Folded batch norms: the tower's values and gradients, of its present weights, and of the weights where they learn."""

import timm
import torch
from torch import nn
from torch.nn.utils import parametrize

import mmcoa
from mmcoa.attacks.pgd import pgd
from mmcoa.model.folded import FoldedTower, folded, learning, pairs
from mmcoa.threat import default_threat


def tower(name="tf_efficientnet_lite0"):
    """An untrained tower whose batch norms have statistics of their own."""
    torch.manual_seed(0)
    made = timm.create_model(name, num_classes=7).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return made


def pictures(side=64):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def value_and_gradient(encode, x):
    x = x.clone().requires_grad_(True)
    y = encode(x)
    return y.detach(), torch.autograd.grad(y.square().sum(), x)[0]


def close(one, other):
    return all(bool((a - b).abs().max() <= 1e-5 * b.abs().max()) for a, b in zip(one, other, strict=True))


def test_values_and_gradients_are_the_towers():
    for name in ("tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050"):
        plain = tower(name).double()
        found = FoldedTower(plain)
        assert found.works and len(found.pairs) == sum(isinstance(m, nn.BatchNorm2d) for m in plain.modules()), name
        assert close(value_and_gradient(found, pictures().double()), value_and_gradient(plain, pictures().double())), name


def test_follows_its_weights_and_statistics():
    plain = tower()
    found = folded(plain)
    before = found(pictures())
    with torch.no_grad():
        plain.conv_stem.weight.mul_(1.5)
        plain.bn1.running_mean.add_(0.2)
        plain.classifier.bias.add_(1)
    assert folded(plain) is found  # made once, filled again
    assert not torch.allclose(found(pictures()), before, atol=1e-3)
    assert close([found(pictures())], [plain(pictures())])


def test_another_tensor_makes_another_fold():
    plain = tower()
    found = folded(plain)
    plain.conv_stem.weight = nn.Parameter(plain.conv_stem.weight.detach() * 2)
    assert folded(plain) is not found
    assert close([folded(plain)(pictures())], [plain(pictures())])


class Swapped(nn.Module):
    """Declares its layers in another order than it runs them."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
        self.norm.running_mean.fill_(0.5)

    def forward(self, x):
        return self.norm(self.second(self.first(x))).mean(dim=(2, 3))


def test_a_wrong_guess_is_noticed():
    assert pairs(Swapped().eval()) and folded(Swapped().eval()) is None


def test_nothing_to_fold_and_training_are_left_alone():
    for made in (folded, learning):
        assert made(nn.Sequential(nn.Conv2d(3, 4, 3)).eval()) is None
        assert made(tower().train()) is None


def gradients(encode, module, x):
    """Of each parameter of a module, and of the pictures."""
    x = x.clone().requires_grad_(True)
    return torch.autograd.grad(encode(x).square().sum(), [*module.parameters(), x])


def test_where_weights_learn_their_gradients_are_the_towers():
    for name in ("tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050"):
        plain, x = tower(name).double(), pictures().double()
        optimizer = torch.optim.SGD(plain.parameters(), lr=1e-3)
        for _ in range(2):  # before and after a step
            wanted = gradients(plain, plain, x)
            assert close(gradients(learning(plain), plain, x), wanted), name
            for parameter, gradient in zip(plain.parameters(), wanted, strict=False):
                parameter.grad = gradient
            optimizer.step()


def test_where_folded_weights_would_be_gone_or_not_be_what_learns_the_tower_itself_is_run():
    plain = tower()
    plain.set_grad_checkpointing(True)
    assert learning(plain) is None and folded(plain) is not None
    plain.set_grad_checkpointing(False)
    assert learning(plain) is not None
    parametrize.register_parametrization(plain.conv_stem, "weight", nn.Identity())
    assert learning(plain) is None


def test_the_model_never_runs_the_plain_tower_and_all_its_weights_learn():
    model = mmcoa.load_model("openmoji-resnet").requires_grad_(True).double()
    visual, images, labels = model.clip.visual, pictures().double(), torch.tensor([0, 1])
    text = model.encode_text(["a cat", "a dog"]).detach()
    pixels = (model.resized(images) - model.mean) / model.std
    wanted = torch.autograd.grad((nn.functional.normalize(visual(pixels), dim=-1) @ text.T).sum(), [*visual.parameters()])
    assert folded(visual) is not None  # before the hook, which a copy would take along
    calls = []
    hook = visual.register_forward_hook(lambda *_: calls.append(1))
    pgd(model, images, labels, text, default_threat(model).changed(steps=2))
    (model.encode_image(images) @ text.T).sum().backward()
    hook.remove()
    assert not calls
    together = [torch.cat([each.flatten() for each in side]) for side in ([p.grad for p in visual.parameters()], wanted)]
    assert close(*[[side] for side in together])  # one of them is all but zero: no share of its own size
    with torch.no_grad():
        fast = model.encode_image(images)
    assert torch.allclose(fast, model.encode_image(images), rtol=0, atol=1e-5)


def test_the_attack_inside_training_follows_every_kind_of_update():
    """Optimisers change weights in place, some in one fused call: each must reach the fold."""
    for settings in ({}, {"foreach": True}, {"fused": True}):
        plain = tower("resnet18")
        found = folded(plain)
        optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, **settings)
        for _ in range(2):
            plain(pictures()).square().sum().backward()
            optimizer.step()
            assert folded(plain) is found and close([found(pictures()).detach()], [plain(pictures()).detach()]), settings
        plain.load_state_dict(tower("resnet18").state_dict())
        assert close([folded(plain)(pictures()).detach()], [plain(pictures()).detach()]), settings


def test_a_gradient_through_two_encodings_is_the_towers():
    """As through a test-time defence, which encodes a picture, moves it, and encodes it again."""
    plain, x = tower().double().requires_grad_(False), pictures().double()

    def twice(encode):
        def made(x):
            step = torch.autograd.grad(encode(x).square().sum(), x, create_graph=True)[0]
            return encode(x + 0.01 * step)

        return made

    assert close(value_and_gradient(twice(lambda x: folded(plain)(x)), x), value_and_gradient(twice(plain), x))

"""What holds for every search of the catalogue inside a ball around each picture: the contract in mmcoa/attacks/__init__.py."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcoa.attacks.catalog import ATTACKS
from mmcoa.attacks.losses import margin
from mmcoa.attacks.pgd import BROKEN
from mmcoa.errors import UserError
from mmcoa.model.loading import create_model
from mmcoa.threat import TEXT, ThreatModel

RADIUS = {"linf": 1 / 255, "l2": 0.1}  # about half of the samples below break
SEARCHES = {  # inside a ball, each picture by itself
    name: attack
    for name, attack in ATTACKS.items()
    if attack.image == name and "epsilon" in attack.uses and not attack.train_pictures
}
AIMED = [
    name for name, attack in SEARCHES.items() if "targets" in attack.uses
]  # those that always aim are tried with targets alone
ALWAYS = [name for name in AIMED if "targets" in SEARCHES[name].default]
# What attacks maximise that do not go by the margin, from raw embeddings of result and picture, and own prompt.
GOALS = {
    "feature": lambda raw, clean, own: 1 - torch.cosine_similarity(raw, clean),
    "feature-l2": lambda raw, clean, own: (raw - clean).square().sum(dim=1),
    "co_attack": lambda raw, clean, own: 2 - torch.cosine_similarity(raw, clean) - torch.cosine_similarity(raw, own),
}
by_name = pytest.mark.parametrize("name", SEARCHES)
by_name_and_targets = pytest.mark.parametrize(
    "name,targets", [*((name, 0) for name in SEARCHES if name not in ALWAYS), *((name, 2) for name in AIMED)]
)
by_norm = pytest.mark.parametrize("norm", RADIUS)


def short(norm="linf", **changes):
    """A threat model with few steps."""
    return ThreatModel(**{"epsilon": RADIUS[norm], "norm": norm, "steps": 4, "apgd_steps": 8, "queries": 30, **changes})


@pytest.fixture(scope="module")
def model(tiny_folder):
    """The tiny model in double precision: what differs from run to run is then the attack, not rounding."""
    return create_model(tiny_folder, seed=0, name="tiny-clip").eval().double().requires_grad_(False)


@pytest.fixture(scope="module")
def case(model, birds):
    """(images [21, 3, 16, 16], labels, text features, sample ids); labels are the predictions: no sample is wrong yet."""
    images = torch.nn.functional.interpolate(birds.images[:21].double() / 255, size=16, mode="area")
    text = model.encode_text(birds.prompts)
    return images, model.logits(images, text).argmax(1), text, birds.ids[:21]


def margins(model, adversarial, labels, text):
    with torch.no_grad():
        return margin(model.logits(adversarial, text), labels)


def run(name, *arguments, **more):
    return SEARCHES[name].load().attack(*arguments, **more)


def goal(name, model, case, adversarial):
    """What the attack maximises and keeps its best iterate by, [N]."""
    images, labels, text, _ = case
    if name not in GOALS:
        return margins(model, adversarial, labels, text)
    with torch.no_grad():
        return GOALS[name](model.encode_image_raw(adversarial), model.encode_image_raw(images), text[labels])


@by_name
@settings(max_examples=8, deadline=None)
@given(
    epsilon=st.floats(0.001, 1.0),
    norm=st.sampled_from(["linf", "l2"]),
    seed=st.integers(0, 1000),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    n=st.integers(1, 3),
    stop=st.booleans(),
)
def test_results_lie_in_the_ball_and_in_range(model, name, epsilon, norm, seed, size, n, stop):
    generator = torch.Generator().manual_seed(seed)
    images = (torch.rand(n, 3, *size, generator=generator) * 1.4 - 0.2).clamp(0, 1)  # black and white parts too
    original, labels = images.clone(), torch.randint(5, (n,), generator=generator)
    text = torch.nn.functional.normalize(torch.randn(5, 16, generator=generator, dtype=torch.float64), dim=1)
    threat = ThreatModel(epsilon=epsilon, norm=norm, steps=2, apgd_steps=3, queries=4, seed=seed)
    adversarial = run(name, model, images.double(), labels, text, threat, stop=stop)
    assert adversarial.shape == images.shape and not adversarial.requires_grad
    assert torch.equal(images, original)
    delta = adversarial - images
    away = delta.abs().amax() if norm == "linf" else delta.flatten(1).norm(dim=1).amax()
    assert away <= epsilon * (1 + 1e-6)
    assert adversarial.min() >= 0 and adversarial.max() <= 1


@by_name
def test_no_gradient_is_left(tiny, small_birds, name):
    """Trap T1: neither in the weights nor in the prompts' features, where both are being trained."""
    images, labels = small_birds.images[:4].float() / 255, small_birds.labels[:4]
    tiny.requires_grad_(True)
    text = tiny.encode_text(small_birds.prompts)
    text.retain_grad()
    run(name, tiny, images, labels, text, short(steps=2, apgd_steps=2, queries=3))
    assert text.grad is None and all(parameter.grad is None for parameter in tiny.parameters())


@by_name
def test_a_caller_without_gradients_gets_the_same(model, case, name):
    images, labels, text, ids = case
    threat = short(steps=2, apgd_steps=3, queries=5, targets=1)
    with torch.no_grad():
        inside = run(name, model, images, labels, text, threat, ids)
    assert torch.equal(inside, run(name, model, images, labels, text, threat, ids))


@by_name_and_targets
@by_norm
def test_batch_size_does_not_change_the_attack(model, case, name, norm, targets):
    """Trap I3. Sample ids name the random starts, so the order of the samples does not count either."""
    images, labels, text, ids = (whole[:14] for whole in case)
    threat = short(norm, targets=targets, apgd_steps=6, queries=12)
    whole = run(name, model, images, labels, text, threat, ids)
    backwards = torch.arange(14).flip(0)
    for size in (1, 7):
        parts = [run(name, model, images[i], labels[i], text, threat, ids[i]) for i in backwards.split(size)]
        torch.testing.assert_close(torch.cat(parts).flip(0), whole, atol=1e-7, rtol=0)


@by_name
def test_the_seed_and_nothing_else_decides(model, case, name):
    images, labels, text, ids = case

    def result(ids=ids, **changes):
        return run(name, model, images, labels, text, short(targets=2 * (name in ALWAYS), **changes), ids)

    first = result()
    torch.manual_seed(77)
    assert torch.equal(result(), first)
    if "seed" in SEARCHES[name].uses:
        assert not torch.equal(result(seed=1), first)
        assert not torch.equal(result(ids=ids + 1000), first)


@by_name
def test_the_record_lists_what_counts_and_no_more(model, case, name):
    """What result rows say of the threat model is what the search has asked it for."""
    asked = set()

    class Asked:
        def __getattr__(self, field):
            asked.add(field)
            return getattr(short(targets=2), field)

    attack, (images, labels, text, ids) = SEARCHES[name], case
    run(name, model, images, labels, text, Asked(), ids)
    elsewhere = {"attacked_space", *TEXT, *attack.fixed}  # what the evaluation, the prompts or the attack itself decide
    assert asked == set(attack.uses) - elsewhere, f"`uses` in {attack.path}"


@by_name_and_targets
@by_norm
def test_stopping_breaks_the_same_samples(model, case, name, norm, targets):
    images, labels, text, ids = case
    threat = short(norm, targets=targets, restarts=2)
    ended, stopped = (run(name, model, images, labels, text, threat, ids, stop=stop) for stop in (False, True))
    ended, stopped = (margins(model, x, labels, text) for x in (ended, stopped))
    assert torch.equal(ended > BROKEN, stopped > BROKEN)
    assert (ended >= stopped - 1e-6).all() or name in GOALS


@pytest.mark.parametrize("name", [name for name in SEARCHES if name not in GOALS and SEARCHES[name].budget])
def test_stopping_saves_work(model, case, name):
    class Counted:
        samples = 0

        def logits(self, pixels, text_features):
            self.samples += len(pixels)
            return model.logits(pixels, text_features)

    images, labels, text, ids = case
    full, less = Counted(), Counted()
    threat = short(epsilon=2 / 255)
    run(name, full, images, labels, text, threat, ids)
    run(name, less, images, labels, text, threat, ids, stop=True)
    assert less.samples < full.samples


@by_name
@by_norm
def test_a_larger_budget_never_helps_the_defender(model, case, name, norm):
    images, labels, text, ids = case

    def reached(**changes):
        threat = short(norm, **{"targets": 3 * (name in ALWAYS), **changes})
        return goal(name, model, case, run(name, model, images, labels, text, threat, ids))

    base = reached()
    larger = reached(epsilon=4 * RADIUS[norm])
    assert larger.mean() > base.mean() > reached(epsilon=RADIUS[norm] / 4).mean()
    assert reached(restarts=3).sub(base).min() >= -1e-6  # the first run is among the three
    longer = reached(steps=16, apgd_steps=32, queries=120)
    assert longer.mean() >= base.mean() - 1e-3
    if name not in GOALS:
        assert (larger > 0).sum() >= (base > 0).sum() and (longer > 0).sum() >= (base > 0).sum()


@pytest.mark.parametrize("name", AIMED)
@by_norm
def test_aiming_at_more_classes_is_no_weaker_than_at_one(model, case, name, norm):
    images, labels, text, ids = case
    threats = [short(norm, targets=targets) for targets in (1, 6)]
    found = [run(name, model, images, labels, text, threat, ids) for threat in threats]
    one, six = (margins(model, adversarial, labels, text) for adversarial in found)
    assert (six >= one - 1e-6).all()
    assert (one > margins(model, images, labels, text)).all()


@by_norm
def test_black_box_is_not_stronger_than_white_box(model, case, norm):
    """Self-check of the protocol: a random search that beats the gradient would mean that the gradient misleads."""
    images, labels, text, ids = case
    threat = short(norm, epsilon=2 * RADIUS[norm], apgd_steps=20, queries=300)
    found = [run(name, model, images, labels, text, threat, ids) for name in ("square", "apgd-ce")]
    black, white = ((margins(model, adversarial, labels, text) > 0).sum() for adversarial in found)
    assert 0 < black <= white


@by_name
@pytest.mark.parametrize("images", [torch.rand(2, 3, 4, 4) * 255, torch.rand(2, 3, 4, 4) - 0.5, torch.zeros(2, 4, 4)])
def test_pixels_outside_the_range_are_refused(model, name, images):
    with pytest.raises(UserError, match="images"):
        run(name, model, images.double(), torch.zeros(2, dtype=torch.long), torch.rand(5, 16), ThreatModel())

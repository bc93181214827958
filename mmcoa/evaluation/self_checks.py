"""Self-checks of an attack: signs that a robust accuracy is high because the search is weak, not because the model is robust.

Gradient masking shows when more steps, more starts or a larger ball help the defender, when an unbounded attack fails, or when
noise finds what the gradient missed (Athalye et al., ICML 2018; Carlini et al., 2019, "On evaluating adversarial robustness").
Each check counts samples; the limit leaves one sample or one percent for chance. A check that fails makes the number
suspicious, it does not prove it wrong.
"""

import functools
import math

import numpy as np
import torch

from mmcoa import identity
from mmcoa.attacks.ball import project, random_start, step_direction
from mmcoa.attacks.catalog import find, versions
from mmcoa.attacks.losses import aimed, margin
from mmcoa.attacks.text import attack_prompts, enumerate_variants, limits
from mmcoa.cache import cached
from mmcoa.model.loading import frozen_model
from mmcoa.versions import CHECKS

NOISE_DRAWS = 10
PROMPT_DRAWS = 5
NOTHING_STANDS = "not possible: no checked sample is right without an attack"
UNBOUNDED_STEPS = 20  # at least, for the attack without a bound


def self_check(model, dataset, name, threat, attacker=None, plain=None):
    """Checks of the searches that an attack is made of.

    Arguments:
        dataset: the samples that are used, all of them.
        name: of an attack without parts.
        plain: the model that prompts are attacked on, where pictures are attacked through a defence.

    Returns a list of dicts: attack (the search: `pgd`, `text`, ...), check, value, limit, passed, n, verdict. Samples that are
    wrong without an attack are left out of `value` and `limit`, which count samples unless the check says otherwise.
    """
    attack, found, threat = find(name), [], threat.aimed(dataset.class_names)
    search = find(attack.image) if attack.image else None
    if search and "epsilon" in search.uses and not search.train_pictures:  # the checks vary the ball of single pictures
        found += kept(model, dataset, attack.image, attack.under(threat), check_image)
    if attack.judged == "text" and threat.text_score == "embedding":
        found += kept(plain or model, dataset, "text", threat, check_text)
    return found


def verdict(found):
    """`ok`, or `suspicious: ` and the reasons; `not possible` where there was no sample to check."""
    if found and not any(item["n"] for item in found):
        return NOTHING_STANDS
    failed = [f"{item['attack']}: {item['verdict']}" for item in found if not item["passed"]]
    return "ok" if not failed else f"suspicious: {'; '.join(dict.fromkeys(failed))}"


def impossible(function):
    """The item where nothing could be checked."""
    said = {"value": 0, "limit": 1, "passed": False, "n": 0, "verdict": NOTHING_STANDS}
    return {"attack": function, "check": "samples that are right without an attack", **said}


def check_image(model, dataset, function, threat):
    """Checks of an image attack against the clean prompts: the samples that it leaves standing, at other budgets."""
    images, labels, ids, text = _standing(model, dataset, threat)
    if threat.target is not None:  # whose own pictures are where the adversary wants them
        images, labels, ids = (each[(labels != threat.target).to(each.device)] for each in (images, labels, ids))
    measure, own = aimed(margin, labels, threat.target)  # above 0: wrong, or where the adversary wants it
    n, search = len(images), find(function)
    if not n:
        return [impossible(function)]
    attack, field = search.load().attack, search.budget
    allowed = max(1, math.ceil(n / 100))

    def run(**changes):
        with model.exactly():
            adversarial = attack(model, images, labels, text, threat.changed(**changes), ids, stop=True)
            with torch.no_grad():
                return measure(model.logits(adversarial, text), own)

    def left(margins):
        return int((margins <= 0).sum())

    def item(check, value, limit, words, passed=None):
        passed = value <= limit if passed is None else passed
        return dict(
            attack=function, check=check, value=value, limit=limit, passed=bool(passed), n=n, verdict="ok" if passed else words
        )

    base = run()
    robust, found = left(base), []
    if field is not None:
        more = left(run(**{field: 2 * getattr(threat, field)}))
        found.append(item("twice the steps", more, robust + allowed, "more steps help the defender"))
        if "restarts" in search.uses:
            starts = left(run(restarts=threat.restarts + 1))
            found.append(item("one more start", starts, robust + allowed, "more restarts help the defender"))
        one, full = (float(margins.clamp(max=0).mean()) for margins in (run(**{field: 1}), base))  # broken ones leave at 0
        words = "the loss does not rise with the steps"
        rises = one < full or one == 0  # 0: the first step has broken all
        found.append(
            item("mean margin up to 0 after one step, less that at the end (logits)", round(one - full, 4), 0.0, words, rises)
        )
    wider = left(run(epsilon=min(2 * threat.epsilon, 1.0) if threat.norm == "linf" else 2 * threat.epsilon))
    found.append(item("twice the epsilon", wider, robust + allowed, "a larger ball helps the defender"))
    whole = 1.0 if threat.norm == "linf" else math.sqrt(images[0].numel())
    steps = {field: max(UNBOUNDED_STEPS, getattr(threat, field))} if field else {}
    free = left(run(epsilon=whole, step_size=whole / 10, **steps))
    found.append(item("without a bound", free, allowed, "a perturbation without bound leaves samples right"))
    stands = base <= 0
    noise = _broken_by_noise(model, images[stands], (measure, own[stands]), ids[stands.cpu()], text, threat)
    found.append(item(f"broken by noise alone ({NOISE_DRAWS} draws)", noise, allowed, "noise breaks what the attack did not"))
    return found


def check_text(model, dataset, function, threat):
    """Checks of the text attack: other substitutions, more words, and how many prompts it could change at all."""
    images, labels, _, text = _standing(model, dataset, threat)
    n = len(images)
    if not n:
        return [impossible(function)]
    allowed = max(1, math.ceil(n / 100))
    with torch.no_grad(), model.exactly():
        embedding = model.encode_image(images)

    def left(prompts):
        with torch.no_grad():
            logits = model.compare(embedding, model.encode_text(prompts))
        return int((logits.argmax(dim=1) == labels).sum())

    def item(check, value, limit, passed, words):
        return dict(
            attack=function, check=check, value=value, limit=limit, passed=bool(passed), n=n, verdict="ok" if passed else words
        )

    frozen = functools.partial(frozen_model, model)
    attack = attack_prompts(model, dataset.prompts, threat, frozen, class_names=dataset.class_names)
    robust = left(attack.prompts)
    more = left(
        attack_prompts(
            model, dataset.prompts, threat.changed(text_budget=threat.text_budget + 1), frozen, class_names=dataset.class_names
        ).prompts
    )
    table, positions, floor = limits(dataset.prompts, threat, frozen, dataset.class_names)
    variants = enumerate_variants(dataset.prompts, table, positions, floor=floor)
    drawn = min(left(_random_prompts(variants, seed)) for seed in range(PROMPT_DRAWS))
    share = round(attack.share_changed + attack.share_fallback, 1)
    found = [
        item("one more word", more, robust + allowed, more <= robust + allowed, "more words help the defender"),
        item(
            f"random words instead (fewest left of {PROMPT_DRAWS} draws)",
            drawn,
            robust - allowed,
            drawn >= robust - allowed,
            "random words break more",
        ),
        item("prompts changed (%)", share, 50.0, share >= 50, "most prompts have no word to change"),
    ]
    return found if threat.text_threat == "any" else found[:-1]  # a stricter level leaves prompts alone: its rows say how many


def _random_prompts(variants, seed):
    """One variant of each prompt at random; a prompt without any as it is."""
    rng, owners = np.random.default_rng(seed), variants.owner.numpy()
    places = [np.flatnonzero(owners == index) for index in range(len(variants.prompts))]
    return [variants.texts[rng.choice(p)] if len(p) else prompt for p, prompt in zip(places, variants.prompts, strict=True)]


def _standing(model, dataset, threat):
    """(images, labels, ids, text features) of the samples that are right without an attack."""
    images = dataset.images[0 : len(dataset)].to(model.device).float() / 255
    if threat.attacked_space == "model":
        images = model.resized(images)
    labels = dataset.labels.to(model.device)
    with torch.no_grad(), model.exactly():
        text = model.encode_text(dataset.prompts)
        right = model.logits(images, text).argmax(dim=1) == labels
    return images[right], labels[right], dataset.ids[right.cpu()], text


@torch.no_grad()
def _broken_by_noise(model, images, measured, ids, text, threat):
    """Number of samples that a random point of the ball breaks. measured: a margin of losses.py, and its labels."""
    measure, labels = measured
    broken = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    for draw in range(NOISE_DRAWS if len(images) else 0):
        noise = random_start(images.shape[1:], threat, ids, f"noise {draw}").to(images.device)
        noise = threat.epsilon * step_direction(noise, threat.norm)  # the ball's corners or surface: the strongest noise
        with model.exactly():
            logits = model.logits((images + project(noise, images, threat)).clamp(0, 1), text)
        broken |= measure(logits, labels) > 0
    return int(broken.sum())


def kept(model, dataset, function, threat, run):
    """The result of `run`, cached under versions, weights, data, and what search and checks use of `threat` (trap T6)."""
    used = find(function).settings(threat) | {
        name: getattr(threat, name) for name in ("epsilon", "norm", "attacked_space", "seed")
    }
    key = [CHECKS, versions([function]), model.fingerprint(), identity.reading(model), identity.words(threat)]
    key += [dataset.fingerprint(), list(dataset.class_names), dataset.ids.tolist(), function, used]
    return cached("checks", key, lambda: run(model, dataset, function, threat))

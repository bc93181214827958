"""What the released code of the paper does, one fault at a time: changes to the arguments of `train`, kept out of its way.

    fine_tune(..., change=ablations.change("gradient_leak"))

Described from its behaviour (design pages: traps), written anew.
"""

import hashlib
import json
from dataclasses import replace

import torch
import torch.nn.functional as F

from mmcoa import defenses
from mmcoa.attacks.ball import project, random_start, step_direction
from mmcoa.attacks.candidates import embedded_table
from mmcoa.attacks.words import split_words
from mmcoa.cache import cache_folder
from mmcoa.errors import unknown
from mmcoa.threat import preset
from mmcoa.training.fault_names import FAULTS


def change(fault):
    """The function that `fine_tune` takes as `change`; None for no fault. Raises `UserError` for an unknown one."""
    if not fault:
        return None
    if fault not in FAULTS:
        raise unknown("fault", fault, FAULTS)
    parts = [name for name in FAULTS if name != "all_faults"] if fault == "all_faults" else [fault]

    def changed(arguments):
        for part in parts:
            arguments = CHANGES[part](arguments)
        return {**arguments, "variant": fault}

    return changed


def gradient_leak(arguments):
    """The attack's steps call `backward` on trainable weights: the sum over steps of its loss is added to the loss."""
    own = defenses.load(arguments["config"].defense).objective

    def objective(model, frozen, batch, threat, settings):
        loss, logs = own(model, frozen, batch, threat, settings)
        return loss + leaked(model, batch, batch.threat(threat)), logs

    return {**arguments, "objective": objective}


def leaked(model, batch, threat):
    """Sum over the steps of an l_inf PGD of its mean cross-entropy, [] scalar, differentiable in the weights."""
    total, delta = 0.0, random_start(batch.images.shape[1:], threat, batch.sample_ids(), 0).to(batch.images)
    delta = project(delta, batch.images, threat)
    for _ in range(threat.steps):
        adversarial = (batch.images + delta).clamp(0, 1).requires_grad_()
        loss = F.cross_entropy(model.logits(adversarial, model.encode_text(batch.prompts)), batch.labels)
        (gradient,) = torch.autograd.grad(loss, adversarial, retain_graph=True)
        delta = project(delta + threat.step_size * step_direction(gradient, threat.norm), batch.images, threat)
        total = total + loss
    return total


FUNCTION_WORDS = [
    "the",
    "one",
    "some",
    "this",
    "any",
    "every",
    "each",
    "another",
    "that",
    "no",
]  # what a model says in place of `a`


def misaligned_candidates(arguments):
    """The language model's start token is not counted: word i is replaced by candidates of word i - 1.

    In a class prompt that is mostly an article or a preposition, whose candidates are words like it.
    """
    prompts = arguments["source"].dataset.prompts
    table = embedded_table("train")

    def before(words, i):
        word = words[i - 1].core.lower() if i else ""
        return table.get(word, FUNCTION_WORDS)

    split = {prompt: split_words(prompt) for prompt in prompts}
    shifted = {prompt: {str(i): before(words, i) for i in range(len(words))} for prompt, words in split.items()}
    text = json.dumps({"prompts": shifted}, sort_keys=True)
    path = cache_folder() / f"misaligned-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return {**arguments, "threat": arguments["threat"].changed(candidate_source=str(path))}


def index_positives(arguments):
    return {**arguments, "config": replace(arguments["config"], positives="index")}


def corner_steps(arguments):
    return {**arguments, "threat": preset(arguments["threat"], "reference")}


def coupled_decay(arguments):
    """Adam, whose weight decay is added to the gradient of every tensor."""

    def optimizer(parameters, config):
        return torch.optim.Adam(parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)

    return {**arguments, "optimizer": optimizer}


CHANGES = {
    function.__name__: function
    for function in (gradient_leak, misaligned_candidates, index_positives, corner_steps, coupled_decay)
}

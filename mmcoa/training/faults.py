"""What the released code of the paper does, one fault at a time: changes to the arguments of `train`, kept out of its way.

    fine_tune(..., change=faults.change("gradient_leak"))

Described from its behaviour (design pages: traps), written anew. Torch is imported where it is used: names are read without it.
"""

import functools
import json
from dataclasses import replace

from mmcoa.errors import UserError, unknown
from mmcoa.store.files import digest, write_text
from mmcoa.threat import preset


def gradient_leak(arguments):
    """the inner image attack's gradients of the weights are added to the update (T1)"""
    needs(arguments, "image")
    own = arguments["defense"].objective

    def objective(model, frozen, batch, threat, settings):
        loss, logs = own(model, frozen, batch, threat, settings)
        return loss + leaked(model, batch, batch.threat(threat)), logs

    return {**arguments, "defense": replace(arguments["defense"], objective=objective)}


def misaligned_candidates(arguments):
    """each word gets the candidates of the word before it (X1)"""
    needs(arguments, "text")
    from mmcoa.attacks.candidates import embedded_table
    from mmcoa.attacks.words import split_words
    from mmcoa.cache import cache_folder

    table = embedded_table("train")

    def before(words, i):  # the language model's start token is not counted
        word = words[i - 1].core.lower() if i else ""
        return table.get(word, FUNCTION_WORDS)

    split = {prompt: split_words(prompt) for prompt in arguments["source"].dataset.prompts}
    shifted = {prompt: {str(i): before(words, i) for i in range(len(words))} for prompt, words in split.items()}
    path = cache_folder() / f"misaligned-{digest({'prompts': shifted})[:16]}.json"
    write_text(path, json.dumps({"prompts": shifted}, sort_keys=True))
    return {**arguments, "threat": arguments["threat"].changed(candidate_source=str(path))}


def index_positives(arguments):
    """pictures of one class are each other's negatives (T2)"""
    defense = arguments["defense"]
    if "positives" not in defense.own:
        raise UserError(
            f"impossible combination: fault 'index_positives' changes 'positives', which '{defense.name}' does not have"
        )
    return {**arguments, "defense": replace(defense, settings=replace(defense.settings, positives="index"))}


def corner_steps(arguments):
    """inner attack with steps of the size of the ball, last iterate (I2)"""
    needs(arguments, "image")
    return {**arguments, "threat": preset(arguments["threat"], "reference")}


def coupled_decay(arguments):
    """Adam with L2 on every tensor, logit scale included (T3)"""
    import torch

    def optimizer(parameters, config):
        return torch.optim.Adam(parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)

    return {**arguments, "optimizer": optimizer}


CHANGES = {
    function.__name__: function
    for function in (gradient_leak, misaligned_candidates, index_positives, corner_steps, coupled_decay)
}
# {name: what it does}; numbers as on the design page of traps
FAULTS = {name: function.__doc__ for name, function in CHANGES.items()} | {"all_faults": "all of these together"}


def change(fault):
    """The function that `fine_tune` takes as `change`; None for no fault. Raises `UserError` for an unknown one."""
    if not fault:
        return None
    if fault not in FAULTS:
        raise unknown("fault", fault, FAULTS)
    parts = [*CHANGES.values()] if fault == "all_faults" else [CHANGES[fault]]

    def changed(arguments):
        arguments = functools.reduce(lambda before, part: part(before), parts, arguments)
        return {**arguments, "defense": replace(arguments["defense"], variant=fault)}

    return changed


def needs(arguments, attack):
    """`UserError` where a defence runs no inner attack of the kind that a fault changes."""
    if attack not in arguments["defense"].inner:
        name = arguments["defense"].name
        raise UserError(
            f"impossible combination: the fault changes the {attack} attack inside training, and '{name}' runs none"
        )


def leaked(model, batch, threat):
    """Sum over the steps of an l_inf PGD of its mean cross-entropy, [] scalar, differentiable in the weights.

    The attack's steps call `backward` on trainable weights: this is what they add to the loss.
    """
    import torch
    import torch.nn.functional as F

    from mmcoa.attacks.ball import project, random_start, step_direction

    total, delta = 0.0, random_start(batch.images.shape[1:], threat, batch.sample_ids(), 0).to(batch.images)
    delta = project(delta, batch.images, threat)
    for _ in range(threat.steps):
        adversarial = (batch.images + delta).clamp(0, 1).requires_grad_()
        loss = F.cross_entropy(model.logits(adversarial, model.encode_text(batch.prompts)), batch.labels)
        (gradient,) = torch.autograd.grad(loss, adversarial, retain_graph=True)
        delta = project(delta + threat.step_size * step_direction(gradient, threat.norm), batch.images, threat)
        total = total + loss
    return total


# what a model says in place of `a`
FUNCTION_WORDS = ["the", "one", "some", "this", "any", "every", "each", "another", "that", "no"]

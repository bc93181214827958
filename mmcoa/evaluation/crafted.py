"""Transfer from model to model: pictures and prompts are made on one, and judged on the one that is evaluated.

The adversary has the weights of the model that it crafts on, and knows of the other which pictures it gets right. A search
goes on after its own model is broken, as a larger margin there may carry over; on the very model that is judged it need not.
"""

import torch

from mmcoa.attacks.catalog import find
from mmcoa.attacks.multimodal import AttackedBatch
from mmcoa.errors import UserError
from mmcoa.evaluation.at_test import Undefended


def check_craft(model, craft, threats, defense):
    """`UserError` where two models cannot be combined."""
    if defense is not None:
        raise UserError(
            f"pictures made on '{craft.name}' and a test-time defence do not go together: a defence has its own "
            "`transfer` adversary; leave one of them out"
        )
    if craft.image_size != model.image_size and any(threat.attacked_space == "model" for threat in threats):
        (one, two), (name, other) = (f"{m.image_size[0]}x{m.image_size[1]}" for m in (craft, model)), (craft.name, model.name)
        raise UserError(
            f"attacked space 'model' is the input of one model, but '{name}' takes {one} pixels and '{other}' {two}; use native"
        )


class Crafted(Undefended):
    """What an evaluation does with each batch and row where attacks are made on another model.

    Arguments:
        model, craft: the model that answers, and the one that is attacked.
        features: {"clean" or attack on prompts: unit embeddings [C, D] of its prompts by `model`}.
    """

    def __init__(self, model, craft, features):
        super().__init__(craft)
        self.judge, self.features = model, features
        self.same = (model.fingerprint(), model.resize) == (craft.fingerprint(), craft.resize)

    def batches(self, *arguments, **named):
        return {"": AttackedBatch(self.model, *arguments, judge=self, answered=self.features, **named)}

    def logits(self, images, text_features, sample_ids):
        """Logits [N, C] of the model that is evaluated, in fp32."""
        with torch.no_grad(), self.judge.exactly():
            return self.judge.logits(images, text_features)

    def finished(self, row, attack, about, parts, outcomes, dead):
        leaves = list(map(find, parts or (attack.name,)))
        kinds = {"pictures": any(leaf.image for leaf in leaves), "prompts": any(leaf.text for leaf in leaves)}
        made = " and ".join(kind for kind, there in kinds.items() if there)
        said = [row["threat_text"], *([f"{made} made on {self.model.name}"] if made else [])]
        return row | {"threat_text": "; ".join(said), "crafted_on": self.model.name if made else ""}

"""Names of the attacks, what they perturb and where they come from. Imports nothing heavy: lists must be fast."""

from dataclasses import dataclass

from mmcoa.errors import unknown


@dataclass(frozen=True)
class Attack:
    """One attack, or with `parts` the per-sample worst case of several.

    image: key of `mmcoa.attacks.images.FUNCTIONS`, None where pictures stay as they are.
    sees: prompts that the image attack knows: `clean`, `text` (after the text attack) or `joint` (after the alternation).
    judged: prompts that the prediction is made with, one of the same three.
    preset: of the threat model, see `mmcoa.threat.preset`.
    budget: field of the threat model that counts the steps of the image attack.
    """

    name: str
    summary: str
    source: str
    image: str | None = None
    sees: str = "clean"
    judged: str = "clean"
    preset: str = "protocol"
    budget: str = "steps"
    parts: tuple = ()

    @property
    def text(self):
        """Whether prompts are perturbed."""
        return self.judged != "clean" or any(ATTACKS[part].text for part in self.parts)


MADRY, AUTOATTACK = "Madry et al., ICLR 2018", "Croce and Hein, ICML 2020"
PAPER = "arXiv 2404.19287"
ATTACKS = {
    attack.name: attack
    for attack in (
        Attack("clean", "no attack", "zero-shot classification, Radford et al., ICML 2021"),
        Attack("image", "PGD against the clean prompts, best iterate", MADRY, "pgd"),
        Attack("pgd", "another name of `image`", MADRY, "pgd"),
        Attack(
            "pgd-reference",
            "PGD as published code has it: step = epsilon, last iterate",
            "TeCoA, MMCoA, PMG-AFT",
            "pgd",
            preset="reference",
        ),
        Attack("fgsm", "one step of size epsilon", "Goodfellow et al., ICLR 2015", "fgsm"),
        Attack("cw", "PGD on the margin", "Carlini and Wagner, S&P 2017", "cw"),
        Attack("apgd-ce", "PGD with adaptive steps, cross-entropy", AUTOATTACK, "apgd-ce", budget="apgd_steps"),
        Attack(
            "apgd-dlr",
            "PGD with adaptive steps, difference of logits ratio; 3 classes or more",
            AUTOATTACK,
            "apgd-dlr",
            budget="apgd_steps",
        ),
        Attack(
            "apgd-dlr-t",
            "the same, aimed at the likeliest wrong classes; 4 classes or more",
            AUTOATTACK,
            "apgd-dlr-t",
            budget="apgd_steps",
        ),
        Attack("feature", "PGD away from the clean embedding, cosine; label-free", "FARE and Co-Attack family", "feature"),
        Attack("feature-l2", "the same, l2 before normalisation", "Schlarmann et al., ICML 2024", "feature-l2"),
        Attack("square", "random search, black box", "Andriushchenko et al., ECCV 2020", "square", budget="queries"),
        Attack("auto", "worst case of apgd-ce, apgd-dlr-t and square", AUTOATTACK, parts=("apgd-ce", "apgd-dlr-t", "square")),
        Attack("text", "words of each class prompt, largest embedding distance", f"{PAPER}; BERT-Attack", judged="text"),
        Attack(
            "independent", "image attack on the clean prompts, and text attack", f"{PAPER}, public code", "pgd", "clean", "text"
        ),
        Attack("sequential", "text attack, then image attack on its prompts", "protocol, adaptive", "pgd", "text", "text"),
        Attack(
            "joint",
            "text attack by margin and image attack alternate, then image attack",
            "protocol, adaptive",
            "pgd",
            "joint",
            "joint",
        ),
        Attack(
            "co_attack",
            "text attack, then away from clean picture and changed prompt",
            "Zhang et al., MM 2022",
            "co_attack",
            "text",
            "text",
        ),
        Attack(
            "multimodal",
            "per-sample worst case of its parts",
            "protocol",
            parts=("clean", "text", "image", "sequential", "joint", "independent"),
        ),
    )
}


def find(name):
    """The `Attack` of that name; `UserError` with the nearest names otherwise."""
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    return ATTACKS[name]


def usable_parts(attack, classes, joint=True):
    """Parts of an attack that exist for a data set: targeted DLR needs 4 classes, DLR 3, `joint` a train split."""
    parts = attack.parts or (attack.name,)
    if classes < 4:
        stand_in = ("apgd-dlr",) if classes == 3 else ()
        parts = tuple(other for part in parts for other in (stand_in if part == "apgd-dlr-t" else (part,)))
    return tuple(part for part in parts if joint or part != "joint")


def versions(names):
    """SHIM until the attacks branch is merged."""
    return {leaf: 1 for name in names for leaf in (find(name).parts or (name,))}

"""Names of the attacks, what they perturb and where they come from. Imports nothing heavy: lists must be fast."""

from dataclasses import dataclass

from mmcoa.errors import unknown


@dataclass(frozen=True)
class Attack:
    """`image`: name of a function in attacks/image.py, or None; `sees`: which prompts the image attack knows."""

    name: str
    summary: str
    source: str
    image: str | None = None
    sees: str = "clean"
    text: bool = False
    parts: tuple = ()


ATTACKS = {
    attack.name: attack
    for attack in (
        Attack("clean", "no attack", "zero-shot classification, Radford et al., ICML 2021"),
        Attack("image", "PGD against the clean prompts, best iterate", "Madry et al., ICLR 2018", image="pgd"),
        Attack("pgd", "another name of `image`", "Madry et al., ICLR 2018", image="pgd"),
        Attack("fgsm", "one step of size epsilon", "Goodfellow et al., ICLR 2015", image="fgsm"),
        Attack("text", "one word of each class prompt, largest embedding distance", "arXiv 2404.19287; BERT-Attack", text=True),
        Attack("independent", "image attack on the clean prompts, and text attack", "arXiv 2404.19287, public code", "pgd", "clean", True),
        Attack("sequential", "text attack, then image attack on its prompts", "protocol, adaptive", "pgd", "adversarial", True),
        Attack(
            "multimodal",
            "per-sample worst case of its parts",
            "protocol",
            parts=("clean", "image", "text", "independent", "sequential"),
        ),
    )
}


def find(name):
    """The `Attack` of that name; `UserError` with the nearest names otherwise."""
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    return ATTACKS[name]

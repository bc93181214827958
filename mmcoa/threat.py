"""The threat model: what an adversary may do. A value that is printed beside every robust number."""

# pyright: reportOptionalOperand=false
# `step_size` may be left out, and is a number once the value is made.

from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any, Protocol, Self

from mmcoa.errors import UserError, unknown

NORMS = ("linf", "l2")
SPACES = ("native", "model")
KEEP = ("best", "last")
SCORES = ("embedding", "margin")
ATTACKABLE = ("content", "class_name")


def parse_epsilon(text: str | float) -> float:
    """`"2/255"`, `"0.5/255"`, `"0.01"` or a number -> float. Raises `UserError` for anything else."""
    over, slash, under = str(text).replace(" ", "").partition("/")
    try:
        return float(Fraction(over) / (Fraction(under) if slash else 1))
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"epsilon '{text}' is not a number such as 2/255 or 0.0078") from error


def format_epsilon(epsilon: float) -> str:
    """0.00784... -> `2/255`, 1/510 -> `0.5/255`; anything that is no whole number of half 255ths as a decimal."""
    steps = epsilon * 255
    return f"{round(2 * steps) / 2:g}/255" if abs(2 * steps - round(2 * steps)) < 1e-6 else f"{epsilon:.4g}"


@dataclass(frozen=True)
class ThreatModel:
    """Budget and knowledge of a white-box adversary.

    Image: a perturbation of at most `epsilon` (pixel units of [0,1], norm `norm`, the result again in [0,1]), applied in
    `attacked_space`: `native`, the data set's own pixels, or `model`, after the resize to the model's input.
    Text: at most `text_budget` words of each class prompt replaced by candidates of `candidate_source`; the prompts of all
    classes are edited at once. Raises `UserError` for values outside their range.
    """

    epsilon: float = 2 / 255  #: radius of the ball, in pixel units of [0,1]; text such as `"4/255"` is read
    norm: str = "linf"  #: `linf` or `l2`
    steps: int = 10  #: of PGD, CW and the feature attacks
    step_size: float | None = None  #: None means epsilon / 4
    restarts: int = 1  #: gradient attacks run from different random starts; the worst counts
    keep: str = "best"  #: iterate that PGD returns, `best` (largest margin) or `last`
    targets: int = 0  #: k > 0 aims PGD, CW and APGD-CE at each of the k likeliest wrong classes; 0 is away from the label
    apgd_steps: int = 50  #: of APGD, also inside `auto`
    queries: int = 1000  #: of the Square attack, also inside `auto`
    attacked_space: str = "native"  #: `native` or `model`, see above
    candidate_source: str = "table:eval"  #: see attacks/candidates.py
    text_budget: int = 1  #: words a prompt
    beam: int = 10  #: prompts kept by the search from one word to the next, where the budget is larger than one
    text_score: str = "embedding"  #: what the text attack maximises, see attacks/scores.py
    attackable: str = "content"  #: which words may change, all content words or those of the class name alone
    min_similarity: float | None = None  #: least cosine of clean and changed prompt in the frozen model's text tower
    attacker_images: int = 128  #: labelled pictures of the train split that `margin` and `joint` may use
    seed: int = 0  #: of the random starts, drawn for each sample by (seed, sample id)

    def __post_init__(self):
        object.__setattr__(self, "epsilon", parse_epsilon(self.epsilon))
        if not 0 < self.epsilon <= 1 and self.norm == "linf":
            raise UserError(
                f"epsilon must lie in (0, 1], in pixel units of [0,1]; got {self.epsilon:g} "
                f"(did you mean {self.epsilon:g}/255?)"
            )
        if self.epsilon <= 0:
            raise UserError(f"epsilon must be positive, got {self.epsilon:g}")
        choices = {"norm": NORMS, "attacked_space": SPACES, "keep": KEEP, "text_score": SCORES, "attackable": ATTACKABLE}
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise unknown(name.replace("_", " "), getattr(self, name), valid)
        for name in ("steps", "restarts", "apgd_steps", "queries", "text_budget", "beam", "attacker_images"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.targets < 0:
            raise UserError(f"targets must be 0 (untargeted) or more, got {self.targets}")
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise UserError(f"min_similarity is a cosine, in [-1, 1]; got {self.min_similarity:g}")
        step_size = self.epsilon / 4 if self.step_size is None else parse_epsilon(self.step_size)
        object.__setattr__(self, "step_size", step_size)

    def describe(self):
        """One line for captions: `l_inf ball of 2/255 in native pixels, 10 steps of 0.5/255, ...`."""
        return f"{self.describe_image()}; {self.describe_text()}"

    def describe_image(self):
        """The image half of `describe`."""
        name = "l_inf" if self.norm == "linf" else "l_2"
        aimed = f", aimed at each of the {self.targets} likeliest wrong classes" if self.targets else ""
        last = ", last iterate" if self.keep == "last" else ""
        return (
            f"{name} ball of {format_epsilon(self.epsilon)} in {self.attacked_space} pixels, {self.steps} steps of "
            f"{self.step_size * 255:.3g}/255, {self.restarts} restart{'s' * (self.restarts > 1)}{aimed}{last}"
        )

    def describe_text(self):
        """The text half of `describe`."""
        words = "one word" if self.text_budget == 1 else f"at most {self.text_budget} words"
        which = " of the class name" if self.attackable == "class_name" else ""
        floor = "" if self.min_similarity is None else f", similarity at least {self.min_similarity:g}"
        score = "" if self.text_score == "embedding" else f", score {self.text_score}"
        return f"{words} a prompt{which} from {self.candidate_source}{score}{floor}"

    def changed(self, **values: Any) -> Self:
        """A copy with other values; a step size that followed epsilon goes on following it."""
        unknown_names = set(values) - {field.name for field in fields(self)}
        if unknown_names:
            raise unknown("threat model field", unknown_names.pop(), [field.name for field in fields(self)])
        if "epsilon" in values and "step_size" not in values and self.step_size == self.epsilon / 4:
            values["step_size"] = None
        return replace(self, **values)

    def asdict(self) -> dict[str, Any]:
        """{field: value}."""
        return asdict(self)


def preset(threat: ThreatModel, name: str) -> ThreatModel:
    """`threat` with a named preset: `protocol` (as it is) or `reference`, settings that TeCoA, MMCoA and PMG-AFT publish with.

    `reference`: step of the size of the ball and last iterate, so that published settings can be run again.
    """
    if name not in PRESETS:
        raise unknown("preset", name, PRESETS)
    return threat if name == "protocol" else threat.changed(step_size=threat.epsilon, keep="last")


PRESETS = ("protocol", "reference")


class HasMetadata(Protocol):
    """A model that may state its headline epsilon: `mmcoa.ImageTextModel`."""

    metadata: dict[str, Any]


def default_threat(model: HasMetadata, **changes: Any) -> ThreatModel:
    """`ThreatModel` with the headline epsilon that the model's checkpoint states, else CLIP's usual 1/255."""
    epsilon = model.metadata.get("epsilon", "1/255")
    return ThreatModel(**{"epsilon": epsilon, **{k: v for k, v in changes.items() if v is not None}})

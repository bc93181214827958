"""The threat model: what an adversary may do. A value that is printed beside every robust number."""

from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction

from mmcoa.errors import UserError, unknown

NORMS = ("linf", "l2")
SPACES = ("native", "model")


def parse_epsilon(text):
    """`"2/255"`, `"0.01"` or a number -> float. Raises `UserError` for anything else."""
    try:
        return float(Fraction(str(text).replace(" ", "")))
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"epsilon '{text}' is not a number such as 2/255 or 0.0078") from error


def format_epsilon(epsilon):
    """0.00784... -> `2/255`; anything that is no whole number of 255ths as a decimal."""
    steps = epsilon * 255
    return f"{round(steps)}/255" if abs(steps - round(steps)) < 1e-6 else f"{epsilon:.4g}"


@dataclass(frozen=True)
class ThreatModel:
    """Budget and knowledge of a white-box adversary.

    Image: a perturbation of at most `epsilon` (pixel units of [0,1], norm `norm`, the result again in [0,1]), applied in
    `attacked_space`: `native`, the data set's own pixels, or `model`, after the resize to the model's input.
    Text: one content word of each class prompt replaced by a candidate of `candidate_source`; the prompts of all classes
    are edited at once. Raises `UserError` for values outside their range.
    """

    epsilon: float = 2 / 255
    norm: str = "linf"
    steps: int = 10
    step_size: float | None = None  # None: epsilon / 4
    restarts: int = 1  # attack runs from different random starts; the worst counts
    attacked_space: str = "native"
    candidate_source: str = "table:eval"  # see attacks/candidates.py
    seed: int = 0  # of the random starts, drawn for each sample by (seed, sample id)

    def __post_init__(self):
        object.__setattr__(self, "epsilon", parse_epsilon(self.epsilon))
        if not 0 < self.epsilon <= 1 and self.norm == "linf":
            raise UserError(f"epsilon must lie in (0, 1], in pixel units of [0,1]; got {self.epsilon:g} (did you mean {self.epsilon:g}/255?)")
        if self.epsilon <= 0:
            raise UserError(f"epsilon must be positive, got {self.epsilon:g}")
        if self.norm not in NORMS:
            raise unknown("norm", self.norm, NORMS)
        if self.attacked_space not in SPACES:
            raise unknown("attacked space", self.attacked_space, SPACES)
        for name in ("steps", "restarts"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.step_size is None:
            object.__setattr__(self, "step_size", self.epsilon / 4)
        object.__setattr__(self, "step_size", parse_epsilon(self.step_size))

    def describe(self):
        """One line for captions: `l_inf ball of 2/255 in native pixels, 10 steps of 0.5/255, ...`."""
        name = "l_inf" if self.norm == "linf" else "l_2"
        return (
            f"{name} ball of {format_epsilon(self.epsilon)} in {self.attacked_space} pixels, {self.steps} steps of "
            f"{self.step_size * 255:.3g}/255, {self.restarts} restart{'s' * (self.restarts > 1)}; "
            f"one word a prompt from {self.candidate_source}"
        )

    def changed(self, **values):
        """A copy with other values; a step size that followed epsilon goes on following it."""
        unknown_names = set(values) - {field.name for field in fields(self)}
        if unknown_names:
            raise unknown("threat model field", unknown_names.pop(), [field.name for field in fields(self)])
        if "epsilon" in values and "step_size" not in values and self.step_size == self.epsilon / 4:
            values["step_size"] = None
        return replace(self, **values)

    def asdict(self):
        return asdict(self)


def default_threat(model, **changes):
    """`ThreatModel` with the headline epsilon that the model's checkpoint states, else CLIP's usual 1/255."""
    epsilon = model.metadata.get("epsilon", "1/255")
    return ThreatModel(**{"epsilon": epsilon, **{k: v for k, v in changes.items() if v is not None}})

"""The threat model: what an adversary may do. A value that is printed beside every robust number."""

# pyright: reportOptionalOperand=false
# `step_size` may be left out, and is a number once the value is made.

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from fractions import Fraction
from typing import Any, Protocol, Self

from mmcoa.errors import UserError, unknown

NORMS = ("linf", "l2")
SPACES = ("native", "model")
KEEP = ("best", "last")
SCORES = ("embedding", "margin")
ATTACKABLE = ("content", "class_name")
TEXT_THREATS = {
    "any": "any candidate of the source, whatever it makes of the meaning: the paper's",
    "synonym": "synonyms alone, as WordNet has them; a word without one stays, and no other source steps in",
    "meaning": "any candidate whose changed prompt a frozen sentence encoder finds similar to the clean one (at least 0.8)",
}
WORDS = ("unseen", "seen")
HALVES = {"table:eval": "unseen", "table:train": "seen"}  # of the table in the package
LEAST_SIMILARITY = 0.8  # of `meaning`
ENCODERS = {"minilm": "MiniLM", "own": "the model's own frozen text tower"}


def parse_epsilon(text: str | float) -> float:
    """`"2/255"`, `"0.5/255"`, `"0.01"` or a number -> float. Raises `UserError` for anything else."""
    over, slash, under = str(text).replace(" ", "").partition("/")
    try:
        return float(Fraction(over) / (Fraction(under) if slash else 1))
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"epsilon '{text}' is not a number such as 2/255 or 0.0078") from error


def hint(epsilon: float, norm: str = "linf") -> str | None:
    """What to say of a radius that nobody means: half of the range of pixels or more, where papers write 8 for 8/255."""
    if norm != "linf" or epsilon < 0.5:
        return None
    meant = f"; where papers say {epsilon:g} they mean {epsilon:g}/255" if epsilon == int(epsilon) else ""
    return f"epsilon {epsilon:g} lets every pixel take {'any value' if epsilon == 1 else 'nearly any value'}{meant}"


def format_epsilon(epsilon: float) -> str:
    """0.00784... -> `2/255`, 1/510 -> `0.5/255`; anything that is no whole number of half 255ths as a decimal."""
    steps = epsilon * 255
    return f"{round(2 * steps) / 2:g}/255" if abs(2 * steps - round(2 * steps)) < 1e-6 else f"{epsilon:.4g}"


@dataclass(frozen=True)
class ThreatModel:
    """Budget and knowledge of a white-box adversary.

    Image: a perturbation of at most `epsilon` (pixel units of [0,1], norm `norm`, the result again in [0,1]), applied in
    `attacked_space`: `native`, the data set's own pixels, or `model`, after the resize to the model's input.
    Text: at most `text_budget` words of each class prompt replaced by candidates of `candidate_source`, as far as the level
    `text_threat` allows; the prompts of all classes are edited at once. Raises `UserError` for values outside their range,
    and for a level or a half that the candidate source does not have.
    """

    epsilon: float = 2 / 255  #: radius of the ball, in pixel units of [0,1]; text such as `"4/255"` is read
    norm: str = "linf"  #: `linf` or `l2`
    steps: int = 10  #: of PGD, CW and the feature attacks
    step_size: float | None = None  #: None means epsilon / 4
    restarts: int = 1  #: gradient attacks run from different random starts; the worst counts
    keep: str = "best"  #: iterate that PGD returns, `best` (largest margin) or `last`
    targets: int = 0  #: k > 0 aims PGD, CW and APGD-CE at each of the k likeliest wrong classes; 0 is away from the label
    #: class that PGD, CW and APGD lead every picture to, its name or the number that `aimed` makes of it; None means any other
    target: str | int | None = None
    apgd_steps: int = 50  #: of APGD, also inside `auto`
    queries: int = 1000  #: of the Square attack, also inside `auto`
    attacked_space: str = "native"  #: `native` or `model`, see above
    text_threat: str = "any"  #: which candidates are allowed, `any`, `synonym` or `meaning`, see `TEXT_THREATS`
    candidate_source: str = "table:eval"  #: see attacks/candidates.py
    words: str = "unseen"  #: half of the package's table, `unseen` in training or `seen`, the half that defences train on
    text_budget: int = 1  #: words a prompt
    beam: int = 10  #: prompts kept by the search from one word to the next, where the budget is larger than one
    text_score: str = "embedding"  #: what the text attack maximises, see attacks/scores.py
    attackable: str = "content"  #: which words may change, all content words or those of the class name alone
    min_similarity: float | None = (
        None  #: least cosine of clean and changed prompt; None means 0.8 for `meaning`, else no limit
    )
    #: what measures it, `minilm` or `own`, the model's frozen text tower; None means `own`, for `meaning` MiniLM if installed
    similarity_encoder: str | None = None
    attacker_images: int = 128  #: labelled pictures of the train split that `margin`, `joint` and `universal` may use
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
        choices |= {"text_threat": TEXT_THREATS, "words": WORDS}
        choices |= {} if self.similarity_encoder is None else {"similarity_encoder": ENCODERS}
        for name, valid in choices.items():
            if getattr(self, name) not in valid:
                raise unknown(name.replace("_", " "), getattr(self, name), valid)
        for name in ("steps", "restarts", "apgd_steps", "queries", "text_budget", "beam", "attacker_images"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.targets < 0:
            raise UserError(f"targets must be 0 (untargeted) or more, got {self.targets}")
        if self.target is not None and self.targets:
            raise UserError(
                f"targets {self.targets} are the likeliest wrong classes, target '{self.target}' is one; leave one of them out"
            )
        if self.min_similarity is not None and not -1 <= self.min_similarity <= 1:
            raise UserError(f"min_similarity is a cosine, in [-1, 1]; got {self.min_similarity:g}")
        step_size = self.epsilon / 4 if self.step_size is None else parse_epsilon(self.step_size)
        object.__setattr__(self, "step_size", step_size)
        self._settle_words()
        if self.text_threat == "meaning" and self.min_similarity is None:
            object.__setattr__(self, "min_similarity", LEAST_SIMILARITY)

    def _settle_words(self):
        """Make `words` and `candidate_source` say the same half: `seen` moves `table:eval`, `table:train` itself is `seen`."""
        source = self.candidate_source
        if self.text_threat == "synonym" and source.partition(":")[0] not in ("table", "wordnet"):
            raise UserError(f"text threat 'synonym': source '{source}' knows none; use table:eval, table:train or wordnet")
        if self.words == "seen" and source not in HALVES:
            raise UserError(f"words 'seen' are a half of the package's table; candidate source '{source}' has none")
        if self.words == "seen":
            object.__setattr__(self, "candidate_source", "table:train")
        object.__setattr__(self, "words", HALVES.get(self.candidate_source, "unseen"))

    def describe(self):
        """One line for captions: `l_inf ball of 2/255 in native pixels, 10 steps of 0.5/255, ...`."""
        return f"{self.describe_image()}; {self.describe_text()}"

    def describe_image(self):
        """The image half of `describe`."""
        return in_words({name: getattr(self, name) for name in IMAGE})

    def describe_text(self):
        """The text half of `describe`."""
        return in_words({name: getattr(self, name) for name in TEXT if name not in self.idle})

    @property
    def idle(self):
        """Fields that mean nothing beside the others, such as the beam for one word, pictures where the score asks for none."""
        unused = {"beam": self.text_budget == 1, "attacker_images": self.text_score != "margin"}
        unused |= {"target": self.target is None, "targets": self.target is not None}
        unused |= {"words": not self.candidate_source.startswith("table:"), "similarity_encoder": self.min_similarity is None}
        return {name for name, idle in unused.items() if idle}

    def changed(self, **values: Any) -> Self:
        """A copy with other values; what followed another field goes on following it: step size, words, least similarity."""
        unknown_names = set(values) - {field.name for field in fields(self)}
        if unknown_names:
            raise unknown("threat model field", unknown_names.pop(), [field.name for field in fields(self)])
        if "epsilon" in values and "step_size" not in values and self.step_size == self.epsilon / 4:
            values["step_size"] = None
        if "words" in values and "candidate_source" not in values and self.candidate_source in HALVES:
            values["candidate_source"] = "table:eval"
        if "candidate_source" in values and "words" not in values:
            values["words"] = "unseen"
        if "text_threat" in values and "min_similarity" not in values and self.min_similarity == self._floor_of_level:
            values["min_similarity"] = None
        return replace(self, **values)

    @property
    def _floor_of_level(self):
        return LEAST_SIMILARITY if self.text_threat == "meaning" else None

    def aimed(self, class_names: Sequence[str]) -> Self:
        """A copy whose target is the number of its class, as searches take it; `UserError` with the nearest names otherwise."""
        if self.target is None:
            return self
        numbers = {name: number for number, name in reversed([*enumerate(class_names)])}
        number = self.target if isinstance(self.target, int) else numbers.get(self.target, -1)
        if not 0 <= number < len(class_names):
            raise unknown("target class", self.target, class_names)
        return self.changed(target=number)

    def asdict(self) -> dict[str, Any]:
        """{field: value}; no `target` where there is none, so that kept work is known by the same values as before it."""
        return {name: value for name, value in asdict(self).items() if name != "target" or value is not None}


# Fields that `in_words` puts into its two halves; PGD's share of the first is what `ThreatModel.describe` speaks of.
IMAGE = ("epsilon", "norm", "attacked_space", "steps", "step_size", "restarts", "targets", "target", "keep")
TEXT = ("text_threat", "candidate_source", "words", "text_budget", "beam", "text_score", "attackable", "min_similarity")
TEXT += ("similarity_encoder", "attacker_images")
SAID = {*IMAGE, *TEXT, "apgd_steps", "queries", "seed"}


def in_words(used: dict[str, Any]):
    """One sentence about {field: value} of a threat model; fields that are not used are not spoken of, the seed never."""
    image, text = _image_words(used), _text_words(used)
    others = [f"{name.replace('_', ' ')} {value}" for name, value in used.items() if name not in SAID]
    return "; ".join(", ".join(words) for words in (image, text, others) if words)


def _image_words(used: dict[str, Any]):
    words = []
    if "epsilon" in used:
        norm = {"linf": "l_inf ", "l2": "l_2 "}.get(str(used.get("norm")), "")
        space = f" in {used['attacked_space']} pixels" if "attacked_space" in used else ""
        words.append(f"{norm}ball of {format_epsilon(used['epsilon'])}{space}")
    elif "attacked_space" in used:
        words.append(f"in {used['attacked_space']} pixels")
    if "steps" in used:
        size = f" of {used['step_size'] * 255:.3g}/255" if "step_size" in used else ""
        words.append(_counted(used["steps"], "step") + size)
    if "apgd_steps" in used:
        words.append(f"{_counted(used['apgd_steps'], 'step')} of adaptive size")
    if "queries" in used:
        words.append(_counted(used["queries"], "query", "queries"))
    if "restarts" in used:
        words.append(_counted(used["restarts"], "restart"))
    if used.get("targets"):
        words.append(f"aimed at each of the {used['targets']} likeliest wrong classes")
    if used.get("target") is not None:
        words.append(f"aimed at the class '{used['target']}'")
    if "last" in used.get("keep", ""):
        words.append("last iterate")
    return words


def _text_words(used: dict[str, Any]):
    words = []
    if "text_budget" in used:
        count = "one word" if used["text_budget"] == 1 else f"at most {used['text_budget']} words"
        which = " of the class name" if used.get("attackable") == "class_name" else ""
        source = f" from {used['candidate_source']}" if "candidate_source" in used else ""
        level = ", synonyms alone," if used.get("text_threat") == "synonym" else ""
        words.append(f"{count} a prompt{which}{level}{source}")
    if "beam" in used:
        words.append(f"beam of {used['beam']}")
    if used.get("text_score", "embedding") != "embedding":
        words.append(f"score {used['text_score']}")
    if "attacker_images" in used:
        words.append(f"{used['attacker_images']} labelled train pictures")
    if used.get("min_similarity") is not None:
        by = f" by {ENCODERS[used['similarity_encoder']]}" if used.get("similarity_encoder") else ""
        words.append(f"similarity at least {used['min_similarity']:g}{by}")
    return words


def _counted(number: int, one: str, several: str | None = None):
    """`1 step`, `1,000 queries`."""
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


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

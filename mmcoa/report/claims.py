"""The paper's claims C1 to C5 as tests on result files.

    for found in claims.judge(results.load("openmoji")):
        found.claim.key, found.verdict, found.parts

Each claim is one function that lists its parts: those that decide, second ones with a verdict of their own beside the
claim's, and comparisons that are only shown.
The claims are Zhou et al.'s (arXiv 2404.19287), in our words.
"""

from dataclasses import dataclass, replace
from functools import partial

from mmcoa.report import claim_pairs
from mmcoa.report.claim_pairs import IN, MATCHED, OUT, UNDEFENDED, NotJudged
from mmcoa.report.claim_tests import (
    DECIDES,
    MARGIN,
    MIN_SEEDS,
    NO_VERDICT,
    NOT_JUDGED,
    RESAMPLES,
    SECOND,
    SHOWN,
    Ask,
    Contrast,
    adjusted,
    combined,
    contrast,
    measure,
)
from mmcoa.report.names import attack_label, method_label

BASE = (UNDEFENDED,)
IMAGE_DEFENCES = ("tecoa", "fare", "pmg_aft", "image_only")  # trained against image attacks alone
TEXT_DEFENCES = ("text_only", "leaf")  # against text attacks alone
OURS = ("mmcoa",)
COMBINED = ("independent", "sequential")  # not the worst case of all attacks, which no single attack can beat
SUFFIX = " (direction)"  # as long as the paper's own tables are not at hand, verdicts are about the direction of an effect
SIDES = ((1, "defended"), (0, "undefended"))
TASKS = {OUT: "out of distribution", IN: "in distribution"}


@dataclass(frozen=True)
class Claim:
    """statement: the claim in our words; test: what is measured; mind: what would change our mind; asks: Found -> [Ask,
    ...]."""

    key: str
    statement: str
    test: str
    mind: str
    asks: object


@dataclass(frozen=True)
class Judged:
    """A claim with its measured parts and its verdict."""

    claim: Claim
    parts: list
    verdict: str

    @property
    def words(self):
        """The verdict as it is printed."""
        return self.verdict if self.verdict in (NOT_JUDGED, NO_VERDICT) else self.verdict + SUFFIX

    @property
    def deciding(self):
        return [part for part in self.parts if part.role == DECIDES]

    @property
    def weakest(self):
        """The measured deciding part with the smallest effect, or None."""
        return min((part for part in self.deciding if part.measured), key=lambda part: part.points, default=None)


def judge(study, chance_rule="both", resamples=RESAMPLES):
    """[Judged, ...] of C1 to C5; p-values are adjusted over all their parts.

    chance_rule: whose clean accuracy has to be three times chance, see `claim_pairs.CHANCE_RULES`.
    """
    found = claim_pairs.find(study, chance_rule)
    asks = [(claim, ask) for claim in CLAIMS for ask in claim.asks(found)]
    parts = adjusted([measure(ask, is_smoke(found), resamples) for _, ask in asks])
    judged = []
    for claim in CLAIMS:
        own = [part for (of, _), part in zip(asks, parts, strict=True) if of is claim]
        judged.append(Judged(claim, own, combined(own)))
    return judged


def is_smoke(found):
    """Whether a study fine-tunes models, but none with three seeds: it then gives no verdicts at all."""
    seeds = [len(pair.seeds) for (name, _), sets in found.pairs.items() if name != UNDEFENDED for pair in sets.values()]
    return bool(seeds) and max(seeds) < MIN_SEEDS


def c1(found):
    """Multimodal attacks on the undefended model, against one input attacked alone."""

    def beyond_single(attack):
        def make(base):
            single = min((base(name) for name in ("image", "text")), key=lambda correct: correct.mean())
            return single - base(attack)

        return contrast(found, OUT, (BASE,), make, {name: (0, name) for name in ("image", "text", attack)})

    def beyond_union(attack):
        def make(base):
            return base("image") * base("text") - base(attack)

        return contrast(found, OUT, (BASE,), make, {"union": (0, "image", "text"), attack: (0, attack)})

    for attack in COMBINED:
        yield Ask(f"{attack_label(attack)}, beyond the stronger single attack", attack, DECIDES, partial(beyond_single, attack))
    for attack in COMBINED:
        yield Ask(f"{attack_label(attack)}, beyond the union", attack, SECOND, partial(beyond_union, attack))


def c2(found):
    """Models defended against image attacks only, under attacks that touch the prompts."""

    def drop_left(attack):
        def make(base, defended):
            return (defended("clean") - defended(attack)) - (base("clean") - base(attack)) / 2

        levels = {
            f"{who} {word}": (side, name) for side, who in SIDES for word, name in (("clean", "clean"), ("attacked", attack))
        }
        return contrast(found, OUT, (BASE, IMAGE_DEFENCES), make, levels)

    for attack in ("text", *COMBINED):
        yield Ask(f"{attack_label(attack)}, drop beyond half of undefended's", attack, DECIDES, partial(drop_left, attack))
    for attack in ("text", *COMBINED):
        build = partial(minus, found, OUT, BASE, IMAGE_DEFENCES, attack)
        yield Ask(f"{attack_label(attack)}, undefended minus defended", attack, SHOWN, build)


def c3(found):
    """MMCoA minus undefended, in both tasks."""
    for task, words in TASKS.items():
        for attack in ("image", "text", *COMBINED):
            build = partial(minus, found, task, OURS, BASE, attack)
            yield Ask(f"{attack_label(attack)}, {words}", attack, DECIDES, build, most=True)


def c4(found):
    """MMCoA minus a model trained against image attacks only; where there is one that had the same compute, minus that too."""
    matched = [(MATCHED, SHOWN)] if (MATCHED, OUT) in found.pairs else []
    for other, role in (("image_only", DECIDES), *matched, ("tecoa", SECOND)):
        for attack in ("image", "text", *COMBINED):
            build = partial(minus, found, OUT, OURS, (other,), attack)
            yield Ask(f"{attack_label(attack)}, against {method_label(other)}", attack, role, build)


def c5(found):
    """Clean accuracy that defended models lose. A defended model that loses nearly all stays in: it is what the claim is
    about."""
    found = replace(found, chance_rule="undefended")
    defended = tuple(name for name in found.defences() if name != "clean")

    def lost(names):
        return minus(found, OUT, BASE, names, "clean")

    yield Ask("all defences, out of distribution", "clean", DECIDES, partial(lost, defended))
    yield Ask("out of minus in distribution", "clean", DECIDES, partial(shift, found))
    yield Ask("defended against images only", "clean", SECOND, partial(lost, IMAGE_DEFENCES))
    yield Ask("defended against text only", "clean", SECOND, partial(lost, TEXT_DEFENCES))
    yield Ask("MMCoA", "clean", SECOND, partial(lost, OURS))
    yield Ask("for comparison: clean fine-tuning", "clean", SHOWN, partial(lost, ("clean",)))


def minus(found, task, ours, theirs, attack, only=None):
    """Accuracy of some methods minus that of others under one attack."""
    levels = {side_label(names): (side, attack) for side, names in enumerate((ours, theirs))}
    return contrast(found, task, (ours, theirs), lambda a, b: a(attack) - b(attack), levels, only)


def shift(found):
    """Clean accuracy lost out of distribution minus that lost in distribution, same defences and seeds on both sides."""
    names = [name for name in found.defences(IN) if name != "clean" and (name, OUT) in found.pairs]
    sets = {dataset for name in names for dataset in found.pairs[name, IN]}
    names = tuple(name for name in names if sets == found.pairs[name, IN].keys())
    if not names:
        raise NotJudged("no defended model fine-tuned on a data set that it is judged on")
    both = [minus(found, task, BASE, names, "clean") for task in TASKS]
    seeds = set(both[0].seeds) & set(both[1].seeds)
    out, within = (minus(found, task, BASE, names, "clean", seeds) for task in TASKS)
    lost = {
        f"lost {TASKS[task]}": each.levels["undefended"] - each.levels[side_label(names)]
        for task, each in ((OUT, out), (IN, within))
    }
    return Contrast(out.sets, lost, out.seeds, within.sets)


def side_label(names):
    """What levels call a group of methods."""
    return method_label(names[0]) if len(names) == 1 else "defended"


CLAIMS = (
    Claim(
        "C1",
        "A multimodal attack hurts CLIP more than an attack on either modality alone.",
        "Undefended model. Effect: accuracy left by the stronger of the image and the text attack (chosen on each data set) "
        "minus accuracy left by the multimodal attack, on the same pictures. It is tested for the two attacks that are "
        "searches of their own, independent and sequential; the worst case of all attacks would make the claim true by "
        "construction. Beside it stands the union: a picture survives it if it survives the image attack and the text attack, "
        "each made alone. What goes beyond the union is interaction; a negative number says that the two perturbations, put "
        "together, undo part of each other.",
        f"An interval wholly below {MARGIN:.0f} point for either attack. A longer search on one input alone (more steps, more "
        "words) that reaches what the multimodal attack reaches would also do.",
        c1,
    ),
    Claim(
        "C2",
        "Models defended against image attacks only stay vulnerable to text and multimodal attacks.",
        "Mean over the models trained against image attacks only: TeCoA, FARE, PMG-AFT and image only, as far as the study "
        "has them. Vulnerable means that an attack still takes more than half of what it takes from the undefended model. "
        "Effect: drop from clean accuracy minus half of the undefended model's drop, on the same pictures. Beside it stands "
        "undefended minus defended under the same attack: a negative number is what the image defence gained against this "
        "attack.",
        "An interval wholly below the margin under the text, the independent or the sequential attack: image defences that "
        "halve the damage. A small gain does not; it is in the rows beside.",
        c2,
    ),
    Claim(
        "C3",
        "MMCoA raises robust accuracy under image, text and multimodal attacks over undefended CLIP, on most data sets, in "
        "both tasks.",
        "Effect: accuracy of MMCoA minus that of the undefended model under the same attack, on the same pictures, in each "
        "task. For supported, the effect also has to be above zero on more than half of the data sets.",
        f"Intervals wholly above +{MARGIN:.0f} point under all four attacks, in both tasks. Other training might bring that: "
        "longer, or with the paper's model and data.",
        c3,
    ),
    Claim(
        "C4",
        "The model trained against multimodal attacks is more robust than the one trained against image attacks only, even "
        "under image attacks.",
        "Effect: accuracy of MMCoA minus that of image only, which trains the same two encoders with the same loss and "
        "pictures but leaves out the text attack; out of distribution. Beside it stands TeCoA, which trains the image encoder "
        "alone.",
        f"Intervals wholly above +{MARGIN:.0f} point under all four attacks. Both methods see the same number of pictures, "
        "not the same compute: where the study has image only at equal compute, that comparison stands beside it.",
        c4,
    ),
    Claim(
        "C5",
        "Robustness is paid for in clean accuracy, more so under a large distribution shift.",
        "Effect: clean accuracy of the undefended model minus that of the defended ones (mean over all defences of the "
        "study), on the same pictures, out of distribution. Second half: the same loss on data sets that the model was not "
        "fine-tuned on, minus the loss on those that it was; both kinds are needed to judge it, and as the data sets differ, "
        "so may their difficulty. Beside it stand the kinds of defence, and clean fine-tuning, which tells what fine-tuning "
        "costs without any attack. Whether the loss buys robustness is not asked here: see C3 and the page on fine-tuning.",
        f"An interval of the loss wholly below {MARGIN:.0f} point, or a loss in distribution that is as large as the one out "
        f"of distribution.",
        c5,
    ),
)

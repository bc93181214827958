"""What a data set is to a model: met in pre-training, the base of its fine-tuning, or unseen. Imports no torch.

role("photos/cifar10", "lite-clip", base="photos/tiny-imagenet")      # unseen
"""

from collections.abc import Collection, Mapping

from mmcoa.datasets.records import records

PICTURES, NAMES = "pre-training pictures", "pre-training names"
BASE, UNSEEN, UNKNOWN = "base", "unseen", "not known"
ROLES = (BASE, PICTURES, NAMES, UNSEEN, UNKNOWN)
TIMES_CHANCE = 3  # clean accuracy that the undefended model must exceed, as a multiple of chance


def known_models() -> list[str]:
    """Models whose pre-training the records tell."""
    return list(dict.fromkeys(model for record in records().values() for model in record.roles))


def role(dataset: str, model: str, base: str = "") -> str:
    """One of `ROLES`: what a data set is to a model that was fine-tuned on `base` (empty: not fine-tuned).

    model: name of the pre-trained model, or its folder; `not known` where no record speaks of its pre-training, as for
    models that were trained on pictures of the web.
    """
    if base and dataset == base:
        return BASE
    name = model.rstrip("/").rpartition("/")[2]
    record = records().get(dataset)
    if record is None or name not in known_models():
        return UNKNOWN
    return record.roles.get(name, UNSEEN)


def out_of_distribution(
    model: str, bases: Collection[str], classes: Mapping[str, int], clean: Mapping[str, float]
) -> tuple[str, ...]:
    """The data sets of "out of distribution, macro": the one list that tables, figures and claims take their means over.

    Of those in `classes`, in its order, the unseen ones that are no base and on which the undefended model is over three
    times chance: below that a model cannot lose, and a mean would hide what it does elsewhere. A model that has met all of
    them in pre-training (the embedded ones) is judged on those that it was not fine-tuned on.

    Arguments:
        model: name of the pre-trained model.
        bases: data sets that one of the compared models was fine-tuned on.
        classes: {data set: number of classes}.
        clean: {data set: clean accuracy of the undefended model in percent}; one that is missing was not measured, and stays.
    """
    others = [name for name in classes if name not in bases]
    unseen = [name for name in others if role(name, model) in (UNSEEN, UNKNOWN)]
    floor = {name: TIMES_CHANCE * 100 / classes[name] for name in others}
    return tuple(name for name in unseen or others if name not in clean or clean[name] > floor[name])

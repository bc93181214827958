"""The positive control: does a bed (model, base, data) show what is known, before it is asked what is not?

Known: an undefended model falls to a few percent under the image attack, and TeCoA (Mao et al., ICLR 2023), fine-tuned on a
base set, wins much of it back, in distribution and out of it. `evaluation.statistics.control_holds` is the rule for macro
means. Where it fails, verdicts on other defences say nothing.
"""

from dataclasses import dataclass

import pandas as pd

from mmcoa.datasets import load_dataset
from mmcoa.datasets.records import records
from mmcoa.datasets.roles import out_of_distribution, role
from mmcoa.errors import UserError
from mmcoa.evaluation.loop import evaluate
from mmcoa.evaluation.statistics import CONTROL_GAIN, CONTROL_LEVEL, control_holds, macro_interval
from mmcoa.model.loading import load_model
from mmcoa.threat import default_threat
from mmcoa.training.config import TrainConfig
from mmcoa.training.finetune import fine_tune

ATTACKS = ("clean", "image")


@dataclass(frozen=True)
class Verdict:
    """One task's control. Accuracies in percent, macro means over `datasets`; gain and interval in points."""

    task: str
    datasets: tuple
    undefended: float
    defended: float
    gain: float
    low: float
    high: float

    @property
    def passes(self):
        return control_holds(self.undefended, self.gain, self.low)

    def __str__(self):
        return (
            f"{self.task}: undefended {self.undefended:.1f} % (at most {CONTROL_LEVEL:g}), TeCoA {self.gain:+.1f} points "
            f"({self.low:+.1f} to {self.high:+.1f}; at least {CONTROL_GAIN:g}, interval above 0), {len(self.datasets)} data "
            f"sets: {'passes' if self.passes else 'fails'}"
        )


def default_datasets(model, base):
    """The data sets of the base's family ("photos", "openmoji") that it and the model's pre-training did not see."""
    family, slash, _ = base.partition("/")
    named = [name for name in records() if slash and name.startswith(f"{family}/") and name != base]
    if not named:
        raise UserError(f"'{base}' has no family of data sets; name some with --dataset")
    return [name for name in named if role(name, model, base) == "unseen"] or named


def control(model, base, output, datasets=None, samples=200, config=None, device="auto", say=None, training=None):
    """(table, verdicts) of TeCoA's control on a bed.

    Arguments:
        model: name of a model; base: data set that TeCoA is fine-tuned on; output: checkpoint folder of that training,
            which is continued or, where it is finished, used.
        datasets: those to judge out of distribution; None: `default_datasets`.
        samples: test pictures of each data set.
        config: `TrainConfig`; None: the model's own defaults.
        say: called with a line of text as work goes on; training: `progress` of `fine_tune`.

    The table has a row a data set: dataset, role, classes, n, clean and image accuracy (percent) of the undefended model and
    of TeCoA. Out of distribution enter the unseen sets on which the undefended model is over three times chance.
    """
    config = config or TrainConfig()
    datasets = [base, *(name for name in (datasets or default_datasets(model, base)) if name != base)]
    folder = fine_tune("tecoa", model, base, output, config, device=device, progress=training)
    found, table = {}, [{"dataset": name, "role": role(name, model, base)} for name in datasets]
    for label, suffix, name in (("undefended", "", model), ("tecoa", "_tecoa", str(folder))):
        loaded = load_model(name, device)
        threat = default_threat(loaded)
        threat = threat.changed(seed=config.seed, **({} if config.epsilon is None else {"epsilon": config.epsilon}))
        for row in table:
            dataset = row["dataset"]
            rows = found[label, dataset] = evaluate(loaded, load_dataset(dataset, samples=samples), ATTACKS, threat)
            accuracy = {each["attack"]: each["accuracy"] for each in rows}
            row |= {key: rows[0][key] for key in ("classes", "n")} | {f"{a}{suffix}": accuracy[a] for a in ATTACKS}
            if say is not None:
                say(label, dataset, accuracy)
    table = pd.DataFrame(table)
    judged = table[table.dataset != base].set_index("dataset")
    outside = out_of_distribution(model, [base], judged.classes.to_dict(), judged.clean.to_dict())
    tasks = {"in distribution": (base,), "out of distribution": outside}
    return table, [_verdict(found, task, names) for task, names in tasks.items() if names]


def _verdict(found, task, names):
    right = {key: one.outcomes["image_correct"].to_numpy(float) for key, one in found.items()}
    pairs = [(right["tecoa", name] - right["undefended", name], found["tecoa", name].outcomes["label"]) for name in names]
    levels = [100 * sum(right[label, name].mean() for name in names) / len(names) for label in ("undefended", "tecoa")]
    return Verdict(task, tuple(names), *levels, *macro_interval(pairs))

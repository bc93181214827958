"""Are the attacks as strong, and is the clean accuracy the same, as independent implementations have them?

    python benchmarks/strength.py --data DIR --auto-attack PATH        # DIR: photographs; PATH: a checkout of fra31/auto-attack

Writes into FOLDER (default results/strength):

    image.csv   robust accuracy on the same model, samples, ball and number of steps, ours through `mmcoa.evaluate`, against
                torchattacks and, with --auto-attack, the package of the authors of AutoAttack. `agrees`: ours is at most one
                point higher, that is, weaker, beyond the luck of random starts where both were run several times.
                torchattacks' CW looks for the smallest perturbation, not for the worst in a ball, and has no counterpart here.
    pairs.csv   the same on the models and data sets of --pairs, such as those of a study, with `Settings.pair_samples` pictures
                and the first ball alone; robust accuracies are means of `runs` runs of each side, one seed each
    text.csv    adversarial prompts against a loop over one prompt at a time at the full context length
    clean.csv   zero-shot predictions, sample by sample, against clip-benchmark: on generated pictures, and with --data on
                wds_cifar10

About 5 minutes on two idle cores, and as long again for each two pairs.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from statistics import mean, variance

import baselines
import clean
import memory
import torch
from common import pooled, print_table, version, write_csv

import mmcoa
from mmcoa.attacks.candidates import embedded_table
from mmcoa.attacks.text import attack_prompts
from mmcoa.model.loading import embedded_folder
from mmcoa.runtime import tune_allocator
from mmcoa.threat import ThreatModel, format_epsilon

IMAGE = ("attack", "norm", "epsilon", "steps", "dataset", "model", "n", "runs")
IMAGE += ("ours_robust", "theirs_robust", "difference_points", "luck_points")
IMAGE += ("implementation", "version", "agrees", "command")
TEXT = ("source", "dataset", "prompts", "identical", "differing")
CLEAN = ("dataset", "n", "agree", "ours", "theirs", "implementation", "version")
TOLERANCE = 1.0  # points by which our robust accuracy may be higher
PARTS = ("image", "pairs", "text", "clean")


@dataclass(frozen=True)
class Settings:
    """Budgets of the image attacks. `QUICK`: seconds, to see that everything runs."""

    samples: int = 105  # of all OpenMoji data sets
    pair_samples: int = 50  # of the data set of one of --pairs
    pair_runs: int = 2  # of each attack there: where a start is random, single pictures fall by luck
    attacks: tuple = ("fgsm", "pgd", "apgd-ce", "apgd-dlr", "apgd-dlr-t", "square", "auto")
    balls: tuple = (  # norm, radius, which of the slow attacks are run too, whether against AutoAttack's own package too
        ("linf", "1/255", ("square", "auto"), True),
        ("l2", "0.3", (), False),
    )
    steps: int = 10  # of PGD
    apgd_steps: int = 20
    targets: int = 2  # classes of the targeted APGD
    queries: int = 100  # of Square
    text_datasets: tuple = ("openmoji/birds", "openmoji/clothing", "openmoji/prepared-food")
    sources: tuple = ("table:eval", "table:train", "table:synonyms")
    pictures: int = 210  # of the generated WebDataset folders
    pixels: tuple = (64, 160)  # the model's input size, and larger


QUICK = Settings(
    samples=15,
    pair_samples=6,
    balls=(("linf", "2/255", ("square", "auto"), True),),
    steps=2,
    apgd_steps=2,
    targets=1,
    queries=2,
    text_datasets=("openmoji/birds",),
    sources=("table:synonyms",),
    pictures=12,
    pixels=(96,),
)


def pair_rows(settings, pairs, auto_attack=None, command=""):
    """`image_rows` of each (model, data set) by their names, in the first ball."""
    rows, settings = [], replace(settings, balls=settings.balls[:1])
    for name, of in pairs:
        model, dataset = mmcoa.load_model(name), mmcoa.load_dataset(of, samples=settings.pair_samples)
        rows += image_rows(settings, model.requires_grad_(False), dataset, auto_attack, command, settings.pair_runs)
    return rows


def image_rows(settings, model, dataset, auto_attack=None, command="", runs=1):
    """One row for each ball, attack and implementation. `auto_attack`: version of the package, None where there is none."""
    rows, images, labels = [], dataset.images.float() / 255, dataset.labels
    classifier = baselines.Classifier(model, model.encode_text(dataset.prompts))
    with torch.no_grad():
        right = (classifier(images).argmax(dim=1) == labels).nonzero()[:, 0]  # the others are wrong under every attack
    for norm, epsilon, slow, both in settings.balls:
        threat = ThreatModel(
            epsilon=epsilon, norm=norm, steps=settings.steps, apgd_steps=settings.apgd_steps, queries=settings.queries
        )
        others = [("torchattacks", version("torchattacks"), torchattacks_of(classifier, threat, settings.targets))]
        if both and auto_attack is not None:
            others.append(("auto-attack", auto_attack, auto_attack_of(classifier, threat, settings.targets)))
        for name in settings.attacks:
            if name in ("square", "auto") and name not in slow:
                continue
            found = [(*other, functions[name]) for *other, functions in others if name in functions]
            if not found:
                continue
            own = threat.changed(targets=settings.targets * (name == "apgd-dlr-t"))
            ours = [mmcoa.evaluate(model, dataset, [name], own.changed(seed=seed))[0]["accuracy"] for seed in range(runs)]
            for implementation, installed, function in found:
                theirs = []
                for seed in range(runs):
                    adversarial = function(images[right], labels[right], seed).detach()
                    check_ball(adversarial - images[right], threat, f"{implementation} {name}")
                    with torch.no_grad():
                        standing = int((classifier(adversarial).argmax(dim=1) == labels[right]).sum())
                    theirs.append(100 * standing / len(labels))
                row = image_row(name, threat, dataset, model, ours, theirs, implementation, installed)
                rows.append(row | {"command": command})
                print("  ".join(str(row[key]) for key in IMAGE[:-1]), flush=True)
    return rows


def emoji(settings):
    """The embedded model, and pictures of all its data sets."""
    return mmcoa.load_model("openmoji-clip").requires_grad_(False), pooled(settings.samples)


def image_row(name, threat, dataset, model, ours, theirs, implementation, installed):
    """One row from the robust accuracies of each run of ours and of theirs."""
    difference = mean(ours) - mean(theirs)
    luck = 1.96 * sqrt(sum(variance(side) / len(side) for side in (ours, theirs) if len(side) > 1))  # of the random starts
    budgets = {
        "fgsm": 1,
        "pgd": threat.steps,
        "square": threat.queries,
        "auto": f"{threat.apgd_steps} and {threat.queries} queries",
    }
    return {
        "attack": name,
        "norm": threat.norm,
        "epsilon": format_epsilon(threat.epsilon) if threat.norm == "linf" else f"{threat.epsilon:g}",
        "steps": budgets.get(name, threat.apgd_steps),
        "dataset": dataset.name,
        "model": model.name,
        "n": len(dataset),
        "runs": len(ours),
        "ours_robust": round(mean(ours), 2),
        "theirs_robust": round(mean(theirs), 2),
        "difference_points": round(difference, 2),
        "luck_points": round(luck, 2) if len(ours) > 1 else "",  # of one run it is not known
        "implementation": implementation,
        "version": installed,
        "agrees": difference - luck <= TOLERANCE,
    }


def check_ball(delta, threat, who):
    """Stop where the other side left the ball: its robust accuracy would be of another threat model."""
    size = delta.abs().amax() if threat.norm == "linf" else delta.flatten(1).norm(dim=1).amax()
    if size > threat.epsilon * 1.001:
        raise SystemExit(f"{who}: perturbation of {size:.5f} outside the ball of {threat.epsilon:.5f}")


def seeded(attack, call):
    """Function (images, labels, seed) -> what `call(images, labels)` returns; several attacks seed themselves."""

    def run(images, labels, seed):
        torch.manual_seed(seed)
        if hasattr(attack, "seed"):
            attack.seed = seed
        return call(images, labels)

    return run


def torchattacks_of(classifier, threat, targets):
    """{name: function(images, labels, seed) -> adversarial images} from torchattacks, same ball, steps and step size."""
    import torchattacks as ta

    eps, steps, apgd = threat.epsilon, threat.steps, threat.apgd_steps
    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]
    pgd = ta.PGD if threat.norm == "linf" else ta.PGDL2
    attacks = {
        **({"fgsm": ta.FGSM(classifier, eps=eps)} if threat.norm == "linf" else {}),
        "pgd": pgd(classifier, eps=eps, alpha=threat.step_size, steps=steps),
        "apgd-ce": ta.APGD(classifier, norm=norm, eps=eps, steps=apgd, loss="ce"),
        "apgd-dlr": ta.APGD(classifier, norm=norm, eps=eps, steps=apgd, loss="dlr"),
        "apgd-dlr-t": ta.APGDT(classifier, norm=norm, eps=eps, steps=apgd, n_classes=targets + 1),
        "square": ta.Square(classifier, norm=norm, eps=eps, n_queries=threat.queries),
    }
    return {name: seeded(attack, attack) for name, attack in attacks.items()}


def auto_attack_of(classifier, threat, targets):
    """The same from the package of Croce and Hein; `auto`: its ensemble of the three attacks that ours consists of."""
    from autoattack import AutoAttack

    norm = {"linf": "Linf", "l2": "L2"}[threat.norm]

    def ensemble(attacks, target_classes):
        attack = AutoAttack(
            classifier,
            norm=norm,
            eps=threat.epsilon,
            version="custom",
            attacks_to_run=attacks,
            seed=0,
            verbose=False,
            device="cpu",
        )
        shorten(attack.apgd, threat.apgd_steps)
        shorten(attack.apgd_targeted, threat.apgd_steps)
        attack.apgd_targeted.n_target_classes = target_classes
        attack.square.n_queries, attack.square.rescale_schedule = threat.queries, True
        return seeded(attack, lambda images, labels: attack.run_standard_evaluation(images, labels, bs=len(images)))

    single = {"apgd-ce": "apgd-ce", "apgd-dlr": "apgd-dlr", "apgd-dlr-t": "apgd-t", "square": "square"}
    functions = {name: ensemble([theirs], targets) for name, theirs in single.items()}
    return functions | {"auto": ensemble(["apgd-ce", "apgd-t", "square"], min(9, len(classifier.text_features) - 1))}


def shorten(apgd, steps):
    """AutoAttack's APGD, made for 100 steps, with one run of `steps`.

    Its checkpoints are fixed when it is made: left as they are, a run of 20 steps would end before the first of them at 22, no
    step size would ever shrink, and the attack would be weaker than it is.
    """
    apgd.n_restarts, apgd.n_iter = 1, steps
    apgd.n_iter_2, apgd.n_iter_min, apgd.size_decr = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))


def auto_attack_version(path):
    """`0.1 a392200`: what its setup.py says and the commit of the checkout; puts the checkout on Python's path."""
    path = Path(path).resolve()
    if not (path / "autoattack" / "__init__.py").is_file():
        raise SystemExit(f"no folder autoattack in {path}; --auto-attack names a checkout of github.com/fra31/auto-attack")
    sys.path.insert(0, str(path))
    found = re.search(r"version\s*=\s*['\"]([^'\"]+)", (path / "setup.py").read_text())
    commit = subprocess.run(["git", "-C", str(path), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return " ".join(text for text in (found[1] if found else "", commit.stdout.strip()) if text)


def text_rows(settings):
    """One row for each candidate source and data set; prompts of a tie, equally far to 1e-6, count as identical."""
    model, rows = mmcoa.load_model("openmoji-clip").requires_grad_(False), []
    for source in settings.sources:
        table = embedded_table(source.removeprefix("table:"))
        for name in settings.text_datasets:
            # Words that the table does not know fall back to a model's neighbours: here they have no candidates on both sides.
            known = [p for p in mmcoa.load_dataset(name, samples=1).prompts if knows_all(table, p)]
            ours = attack_prompts(model, known, ThreatModel(candidate_source=source)).prompts
            theirs = baselines.attack_prompts_slowly(model, known, lambda word, table=table: table.get(word, [])[:10])
            same = [
                a == b or abs(baselines.distance(model, p, a) - score) < 1e-6
                for p, a, (b, score) in zip(known, ours, theirs, strict=True)
            ]
            rows.append(
                dict(source=source, dataset=name, prompts=len(known), identical=sum(same), differing=len(same) - sum(same))
            )
            print("  ".join(map(str, rows[-1].values())), flush=True)
    return rows


def knows_all(table, prompt):
    """Whether every content word of a prompt is in the table."""
    from mmcoa.attacks.words import split_words

    return all(word.core.lower() in table for word in split_words(prompt) if word.is_content)


def clean_rows(settings, data=None):
    """Zero-shot predictions on generated pictures at the model's size and larger, and on wds_cifar10 under `data`."""
    rows, checkpoint = [], embedded_folder("openmoji-clip")
    with tempfile.TemporaryDirectory() as temporary:
        folders = []
        for pixels in settings.pixels:
            folders.append(Path(temporary) / f"wds_openmoji_birds_{pixels}px")
            memory.write_folder(folders[-1], settings.pictures, settings.pictures, pixels)
        folders += [Path(data) / "wds_cifar10"] if data else []
        for folder in folders:
            prediction, labels = clean.ours(folder, checkpoint)
            for transform, what in (
                (None, "its transform (PIL, 8 bit)"),
                (clean.same_pixels(checkpoint), "the same resized pixels"),
            ):
                logits, again = clean.theirs(folder, checkpoint, transform=transform)
                if not torch.equal(labels, again):
                    raise SystemExit(f"{folder.name}: labels differ")
                other = logits.argmax(dim=1)
                accuracy = [round(100 * (guess == labels).float().mean().item(), 2) for guess in (prediction, other)]
                row = [folder.name, len(labels), int((prediction == other).sum()), *accuracy]
                rows.append(dict(zip(CLEAN, [*row, f"clip-benchmark, {what}", version("clip-benchmark")], strict=True)))
                print("  ".join(map(str, rows[-1].values())), flush=True)
    return rows


def pair(text):
    """`MODEL@DATASET` -> [model, data set]."""
    if len(found := text.rsplit("@", 1)) < 2:
        raise argparse.ArgumentTypeError(f"'{text}' is not MODEL@DATASET")
    return found


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="some of the parts")
    parser.add_argument("--output", type=Path, default=Path("results/strength"), metavar="FOLDER")
    parser.add_argument("--auto-attack", metavar="PATH", help="checkout of github.com/fra31/auto-attack")
    parser.add_argument("--data", metavar="DIR", help="folder that holds wds_cifar10")
    parser.add_argument("--pairs", metavar="MODEL@DATASET", nargs="+", default=[], type=pair)
    parser.add_argument("--pair-samples", metavar="N", type=int, help="pictures of each pair, 50 unless said")
    parser.add_argument("--pair-runs", metavar="N", type=int, help="runs of each side on each pair, 2 unless said")
    parser.add_argument(
        "--attacks", metavar="NAME", nargs="+", choices=Settings.attacks, help="some of the attacks on pictures"
    )
    parser.add_argument("--quick", action="store_true", help="tiny budgets, seconds: shows that it runs; into FOLDER/quick")
    options = parser.parse_args(arguments)
    settings = QUICK if options.quick else Settings()
    said = {name: getattr(options, name) for name in ("pair_samples", "pair_runs", "attacks") if getattr(options, name)}
    settings = replace(settings, **said)
    folder = options.output / ("quick" if options.quick else "")
    others = " --auto-attack PATH" if options.auto_attack else ""
    image, pairs = (f"python benchmarks/strength.py --only {part}{others}" for part in ("image", "pairs"))
    image += f" --attacks {' '.join(options.attacks)}" if options.attacks else ""
    for name, value in said.items():
        pairs += f" --{name.replace('_', '-')} {' '.join(value) if name == 'attacks' else value}"
    pairs += " --pairs " + " ".join("@".join(pair) for pair in options.pairs)
    installed = auto_attack_version(options.auto_attack) if options.auto_attack else None
    tables = {
        "image": (IMAGE, lambda: image_rows(settings, *emoji(settings), installed, image)),
        "pairs": (IMAGE, lambda: pair_rows(settings, options.pairs, installed, pairs)),
        "text": (TEXT, lambda: text_rows(settings)),
        "clean": (CLEAN, lambda: clean_rows(settings, options.data)),
    }
    for part in PARTS:
        if part in options.only and (part != "pairs" or options.pairs):
            columns, rows = tables[part][0], tables[part][1]()
            write_csv(folder / f"{part}.csv", rows, columns)
            print_table(rows, [name for name in columns if name != "command"])
            print(f"written: {folder / part}.csv\n")


if __name__ == "__main__":
    tune_allocator()
    main()

"""How fast attacks and evaluation are here, beside the way public code does it: `python benchmarks/speed.py`, or `mmcoa bench`.

Each line is measured side by side in one run, in turn, best of several, and fails if both sides did not find the same
thing. `seconds` are of one PGD step or one whole search; the quick model is tiny and its ratios mean nothing.

    image       a PGD step with 100 class prompts on ViT-B/32, random weights; PGD of the embedded model
    precision   the gradient of the image tower alone, fp32 and bf16, beside open_clip's own code
    text        the exhaustive text attack on 100 prompts, ViT-B/32
    training    the same on the 256 prompts of a training batch over 100 classes
    step        an MMCoA training step on ViT-B/32; on a GPU also its share of the measured peak
    epoch       an epoch of MMCoA, embedded model
    lite        PGD on a convolutional tower, its batch norms folded; a batch from shards beside its attack; MMCoA beside TeCoA
    evaluation  PGD-20 of the embedded model against torchattacks
    memory      peak memory of evaluating 500 and 5,000 samples
    reading     many small pictures, first and from the cache; 224-pixel JPEGs beside torchvision's decoder
    gpu         PGD and MMCoA steps in both precisions, compiled and as CUDA graphs (gpu.py); on a CPU only if asked for

Writes FOLDER/<hardware>.csv; with --only the other lines of an earlier run stay. All: about 30 minutes on two idle cores.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import baselines
import convolutional
import gpu
import memory
import open_clip
import precision
import reading
import torch
import training_step
from common import hardware, line, pooled, print_table, race, require, slug, timed, usual, versions, write_csv

import mmcoa
from mmcoa.attacks.ball import project, random_start
from mmcoa.attacks.candidates import embedded_table
from mmcoa.attacks.pgd import pgd
from mmcoa.attacks.prefix import encode_texts
from mmcoa.attacks.text import attack_prompts
from mmcoa.attacks.words import split_words
from mmcoa.datasets import openmoji, openmoji_names
from mmcoa.errors import UserError
from mmcoa.model.clip import ImageTextModel
from mmcoa.model.loading import resolve_device
from mmcoa.runtime import tune_allocator
from mmcoa.threat import ThreatModel

COLUMNS = ("what", "setting", "ours", "baseline", "ratio", "unit", "target", "versions", "hardware")
PARTS = ("image", "precision", "text", "training", "step", "epoch", "lite", "evaluation", "memory", "reading", "gpu")


@dataclass(frozen=True)
class Settings:
    """Sizes and repeats. `QUICK`: seconds, to see that everything runs."""

    architecture: str = "ViT-B-32"
    classes: int = 100
    batches: tuple = ((16, "10x"), (64, "3.5x"))  # pictures, target
    steps: int = 10  # of ours, prompts encoded once for all of them
    baseline_steps: int = 2
    repeats: int = 3
    baseline_repeats: int = 2
    one_by_one: int = 10  # prompts attacked one variant at a time
    training_batch: int = 256
    step_batch: int = 32  # of an MMCoA step
    step_classes: int = 200  # of the one beside a TeCoA step
    lite_batches: tuple = (32, 256)  # its pictures: those of the study `main`, those of the public code
    inner_steps: int = 10
    step_repeats: int = 2
    epoch: int = 2000  # pictures
    evaluated: int = 210  # samples of the PGD-20 lines
    evaluation_steps: int = 20
    embedded_batch: int = 64
    memory: tuple = (500, 5000)
    small: int = 20_000  # pictures of 32 px
    streamed: int = 1024  # of 224 px
    gpu_batches: tuple = (16, 64, 256)
    gpu_step_batches: tuple = (32, 128)
    gpu_seconds: int = 480  # after which no further line is begun
    matrix: int = training_step.MATRIX
    compared: int = 42  # samples whose outcomes are compared with the CPU's
    compiler: str = "inductor"


QUICK = Settings(
    architecture="tiny",
    classes=6,
    batches=((2, "10x"), (4, "3.5x")),
    steps=2,
    repeats=1,
    baseline_repeats=1,
    one_by_one=1,
    training_batch=8,
    step_batch=4,
    step_classes=20,
    lite_batches=(4,),
    inner_steps=2,
    step_repeats=1,
    epoch=16,
    evaluated=15,
    evaluation_steps=2,
    embedded_batch=4,
    memory=(4, 8),
    small=64,
    streamed=16,
    gpu_batches=(2,),
    gpu_step_batches=(4,),
    matrix=128,
    compared=6,
    compiler="aot_eager",
)
TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def random_model(architecture, device):
    """An open_clip architecture (or `tiny`) with weights drawn with seed 0: nothing is downloaded."""
    torch.manual_seed(0)
    config = TINY if architecture == "tiny" else open_clip.get_model_config(architecture)
    preprocess = {
        "size": config["vision_cfg"]["image_size"],
        "mean": open_clip.OPENAI_DATASET_MEAN,
        "std": open_clip.OPENAI_DATASET_STD,
    }
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    whole = {"model_cfg": config, "preprocess_cfg": preprocess}
    return ImageTextModel(open_clip.CLIP(**config), tokenizer, f"{architecture}, random weights", whole).to(device).eval()


def class_prompts(count):
    """`This is a photo of a {}` for so many OpenMoji names whose words are all in the candidate table."""
    table = embedded_table("eval")
    groups = {name.removeprefix("openmoji/") for name in openmoji_names()}
    names = dict.fromkeys(record["name"].lower() for record in openmoji.glyph_records() if record["group"] in groups)
    known = [name for name in names if all(word.core in table for word in split_words(name) if word.is_content)]
    if len(known) < count:
        raise UserError(f"only {len(known)} names are in the candidate table, {count} were asked for")
    return [f"This is a photo of a {name}" for name in known[:count]]


def candidates(word):
    return embedded_table("eval").get(word, [])[:10]


def image_lines(settings, device):
    """PGD steps on a large model with random weights, and PGD of the embedded model."""
    model, prompts = random_model(settings.architecture, device), class_prompts(settings.classes)
    rows = [step_line(model, prompts, batch, target, settings, device) for batch, target in settings.batches]
    return [*rows, embedded_line(settings, device)]


def step_line(model, prompts, batch, target, settings, device):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, *model.image_size, generator=generator).to(device)
    labels = torch.randint(len(prompts), (batch,), generator=generator).to(device)
    short_run = ThreatModel(epsilon="1/255", steps=settings.baseline_steps, keep="last")

    def attack(threat):
        model.requires_grad_(False)
        with torch.no_grad():
            return pgd(model, images, labels, encode_texts(model, prompts), threat)

    def ours():
        return attack(short_run.changed(steps=settings.steps, keep="best"))

    start = project(random_start(images.shape[1:], short_run, range(batch)).to(device), images, short_run)

    def public():
        model.requires_grad_(True)
        found = baselines.pgd_public(model, images, labels, prompts, short_run, start)
        model.zero_grad(set_to_none=True)
        return found

    seconds, baseline, _, theirs = race(ours, public, settings.repeats, settings.baseline_repeats, device)
    same = attack(short_run)
    with torch.no_grad():
        text = model.encode_text(prompts)
        losses = [torch.nn.functional.cross_entropy(model.logits(x, text), labels).item() for x in (same, theirs)]
    differing = ((same - theirs).abs() > 1e-6).float().mean().item()
    print(
        f"batch {batch}: loss after {short_run.steps} steps {losses[0]:.6f} and {losses[1]:.6f}, "
        f"{100 * differing:.3f} % of pixels differ"
    )
    require(abs(losses[0] - losses[1]) < 1e-3 * abs(losses[1]) and differing < 0.01, f"PGD, batch {batch}")
    setting = f"{settings.architecture}, {len(prompts)} class prompts, batch {batch}, encoding the prompts once included"
    return line("PGD step", setting, seconds / settings.steps, baseline / short_run.steps, "s a step", target)


def embedded_line(settings, device):
    model = mmcoa.load_model("openmoji-clip", device).requires_grad_(False)
    dataset = mmcoa.load_dataset("openmoji/clothing", samples=settings.embedded_batch)
    images, labels = dataset.images[:].to(device).float() / 255, dataset.labels.to(device)
    text, threat = model.encode_text(dataset.prompts), ThreatModel(epsilon="2/255", steps=10)
    seconds = min(timed(lambda: pgd(model, images, labels, text, threat), device)[0] for _ in range(settings.repeats))
    setting = f"openmoji-clip, PGD-10, batch {len(labels)}"
    return line(
        "PGD, embedded model", setting, len(labels) * threat.steps / seconds, None, "image-steps/s", "250 image-steps/s"
    )


def compare_prompts(model, ours, theirs, classes):
    """Number of prompts that differ; a difference is let pass only where both are equally far (a tie, up to rounding)."""
    differing = [(prompt, a, b, score) for prompt, a, (b, score) in zip(classes, ours, theirs, strict=True) if a != b]
    for prompt, a, b, score in differing:
        require(abs(baselines.distance(model, prompt, a) - score) < 1e-6, f"'{prompt}' became '{a}' and '{b}'")
    return len(differing)


def text_lines(settings, device):
    """The text attack on distinct prompts."""
    model = random_model(settings.architecture, device).requires_grad_(False)
    prompts, threat = class_prompts(settings.classes), ThreatModel()
    seconds, baseline, ours, theirs = race(
        lambda: attack_prompts(model, prompts, threat).prompts,
        lambda: baselines.attack_prompts_slowly(model, prompts, candidates),
        *(settings.repeats, settings.baseline_repeats, device),
    )
    ties = compare_prompts(model, ours, theirs, prompts)
    taken = {prompt.lower() for prompt in prompts}
    count = sum(len(baselines.variants_of(prompt, candidates, taken)) for prompt in prompts)
    print(f"text attack: {len(prompts)} prompts, {count} variants, {len(prompts) - ties} identical, {ties} tied")
    some = prompts[:: len(prompts) // settings.one_by_one][: settings.one_by_one]
    single, found = usual(lambda: baselines.attack_prompts_slowly(model, some, candidates, prompts, one_by_one=True), device)
    compare_prompts(model, [ours[prompts.index(prompt)] for prompt in some], found, some)
    setting = f"{settings.architecture}, {len(prompts)} prompts, {count} variants"
    per_prompt = f"{setting}; baseline one variant at a time, {len(some)} prompts measured"
    return [
        line("text attack", f"{setting}; baseline one prompt at a time, 77 tokens", seconds, baseline, "s", "10x"),
        line("text attack, variants one by one", per_prompt, seconds, single * len(prompts) / len(some), "s", ""),
    ]


def training_lines(settings, device):
    """The text attack on the prompts of a training batch, most of which occur more than once."""
    model = random_model(settings.architecture, device).requires_grad_(False)
    classes, threat = class_prompts(settings.classes), ThreatModel()
    labels = torch.randint(len(classes), (settings.training_batch,), generator=torch.Generator().manual_seed(0)).tolist()
    batch = [classes[label] for label in labels]
    distinct = list(dict.fromkeys(batch))

    def ours():
        found = dict(zip(distinct, attack_prompts(model, distinct, threat).prompts, strict=True))
        return [found[prompt] for prompt in batch]

    def public():
        return baselines.attack_prompts_slowly(model, batch, candidates)

    seconds, baseline, found, theirs = race(ours, public, settings.repeats, 1, device)
    ties = compare_prompts(model, found, theirs, batch)
    print(f"training batch: {len(batch)} prompts, {len(distinct)} distinct, {len(batch) - ties} identical, {ties} tied")
    setting = (
        f"{settings.architecture}, {len(batch)} prompts over {len(classes)} classes; baseline one prompt at a time, 77 tokens"
    )
    return [line("text attack of a training batch", setting, seconds, baseline, "s", "20x")]


def step_lines(settings, device):
    return training_step.step_lines(settings, device, random_model, class_prompts(settings.classes), candidates)


def precision_lines(settings, device):
    return precision.lines(settings, device, random_model)


def evaluation_lines(settings, device):
    """PGD-20 of the undefended embedded model: samples leave as they break, against all samples for all steps.

    What is gained depends on how many break and when: with the classes of all data sets nearly all do, with few classes less.
    """
    model = mmcoa.load_model("openmoji-clip", device).requires_grad_(False)
    sets = ((pooled(settings.evaluated), "4x"), (mmcoa.load_dataset("openmoji/birds", samples=settings.evaluated), ""))
    return [evaluation_line(model, dataset, target, settings, device) for dataset, target in sets]


def evaluation_line(model, dataset, target, settings, device):
    import torchattacks

    images, labels = dataset.images[:].to(device).float() / 255, dataset.labels.to(device)
    threat, text = ThreatModel(epsilon="4/255", steps=settings.evaluation_steps), model.encode_text(dataset.prompts)
    attack = torchattacks.PGD(baselines.Classifier(model, text), eps=threat.epsilon, alpha=threat.step_size, steps=threat.steps)
    batches = torch.arange(len(labels), device=device).split(64)

    @torch.no_grad()
    def standing(pictures, at):
        return model.logits(pictures, text).argmax(dim=1) == labels[at]

    def ours():
        robust = torch.zeros(len(labels), dtype=torch.bool, device=device)
        for at in batches:
            at = at[standing(images[at], at)]
            robust[at] = standing(pgd(model, images[at], labels[at], text, threat, dataset.ids[at.cpu()], stop=True), at)
        return robust

    def theirs():
        torch.manual_seed(0)
        return torch.cat([standing(images[at], at) & standing(attack(images[at], labels[at]).detach(), at) for at in batches])

    seconds, baseline, *robust = race(ours, theirs, settings.repeats, settings.baseline_repeats, device)
    accuracy = [100 * flags.float().mean().item() for flags in robust]
    found = f"robust accuracy {accuracy[0]:.1f} % and {accuracy[1]:.1f} %"
    print(f"PGD-{threat.steps} on {dataset.name}, n = {len(labels)}: {found}")
    require(accuracy[0] <= accuracy[1] + 1, found)
    setting = (
        f"openmoji-clip, {dataset.name}, {len(dataset.prompts)} classes, n = {len(labels)}, eps 4/255, PGD-{threat.steps}, "
        f"{found}; baseline torchattacks"
    )
    return line("PGD evaluation", setting, seconds, baseline, "s", target)


def gpu_lines(settings, device):
    return gpu.lines(settings, device, random_model, class_prompts(settings.classes), candidates)


def memory_lines(settings, device):
    """Peak memory of a small and a large data set; here `ratio` is large over small."""
    small, large = (memory.measure(samples, device)["peak"] / 1e6 for samples in settings.memory)
    few, many = settings.memory
    setting = f"openmoji-clip, clean and PGD-2, {memory.PIXELS} px; ours: {many} samples, baseline: {few} samples"
    return [line("peak memory of an evaluation", setting, large, small, "MB", "at most 1.1x", ratio=large / small)]


LINES = {
    "image": image_lines,
    "precision": precision_lines,
    "text": text_lines,
    "training": training_lines,
    "step": step_lines,
    "epoch": training_step.epoch_lines,
    "lite": convolutional.lines,
    "evaluation": evaluation_lines,
    "memory": memory_lines,
    "reading": reading.reading_lines,
    "gpu": gpu_lines,
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", help="some of the parts; default: all, gpu on a GPU")
    parser.add_argument("--output", type=Path, default=Path("results/speed"), metavar="FOLDER")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, seconds: shows that it runs, measures nothing; into FOLDER/quick"
    )
    options = parser.parse_args(arguments)
    settings = QUICK if options.quick else Settings()
    device = str(resolve_device(options.device))
    machine = hardware(device)
    print(f"{machine}; {versions('torchattacks', 'mmcoa')}")
    chosen = options.only or [part for part in PARTS if part != "gpu" or device.startswith("cuda")]
    rows = [row for part in PARTS if part in chosen for row in LINES[part](settings, device)]
    rows = [row | {"versions": versions("torchattacks", "mmcoa"), "hardware": machine} for row in rows]
    path = options.output / ("quick" if options.quick else "") / f"{slug(machine)}.csv"
    write_csv(path, rows, COLUMNS, key=("what",))
    print()
    print_table(rows, COLUMNS[:-2])
    print(f"written: {path}")


if __name__ == "__main__":
    tune_allocator()
    main()

"""What one GPU does in one call of at most ten minutes: `python benchmarks/gpu.py`, or `mmcoa bench --only gpu`.

On ViT-B/32 with drawn weights, in fp32 (no TF32) and bf16, beside the public way in fp32, for several batches:

    PGD step     also with the image tower under torch.compile, and as a CUDA graph: both are off, and say why, where they fail
    MMCoA step   text search, image attack and update; its weights move, so that there is nothing to compile once
    rate         of the bf16 steps: TFLOP/s, FLOPs as torch counts them, and the share of a large bf16 product's rate

Before that: are outcomes and signs of gradients those of the CPU in fp32? A line that fails, or for which no time is left, is
left out and said. On a CPU it runs too, half an hour and without the large batches; `--device cpu --quick` at tiny sizes.
"""

import contextlib
import sys
import time

import baselines
import torch
import training_step
from common import line, race, require, timed

import mmcoa
from mmcoa.attacks.ball import project, random_start
from mmcoa.attacks.pgd import pgd
from mmcoa.attacks.prefix import encode_texts
from mmcoa.model.clip import PRECISIONS
from mmcoa.threat import ThreatModel

WAYS = ("", "compiled", "CUDA graph")
CPU = {"seconds": 6, "pgd": 64, "step": 32}  # on a CPU: times as long, largest batches
LOSSES = {"fp32": 2e-3, "bf16": 2e-2}  # largest relative difference from the public way's loss


def lines(settings, device, random_model, prompts, candidates):
    """All lines; those of bf16 come in pairs, seconds and rate."""
    fast = str(device).startswith("cuda")
    seconds = settings.gpu_seconds * (1 if fast else CPU["seconds"])
    deadline = time.monotonic() + seconds
    peak = training_step.product_rate(device, settings.matrix)
    setting = f"{settings.matrix} x {settings.matrix}"
    rows = [line("bf16 product", setting, peak / 1e12, None, "TFLOP/s", "")]
    tasks = [
        ("outcomes", lambda: [outcomes_line(settings, device)]),
        ("signs", lambda: [signs_line(settings, device, random_model)]),
    ]
    for batch in [size for size in settings.gpu_batches if fast or size <= CPU["pgd"]]:
        tasks += [
            (f"PGD step, batch {batch}", lambda batch=batch: pgd_lines(batch, peak, settings, device, random_model, prompts))
        ]
    for batch in [size for size in settings.gpu_step_batches if fast or size <= CPU["step"]]:
        more = (settings, device, random_model, prompts, candidates)
        tasks += [(f"MMCoA step, batch {batch}", lambda batch=batch, more=more: step_lines(batch, peak, *more))]
    for what, task in tasks:
        if time.monotonic() > deadline:
            print(f"{what}: left out, {seconds} seconds are over", flush=True)
            continue
        rows += attempt(what, task) or []
    return rows


def attempt(what, task):
    """What `task()` gives; None, and the reason said, where it fails: the other lines are not lost."""
    try:
        return task()
    except (Exception, SystemExit) as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        print(f"{what}: off, {type(error).__name__}: {reason}", flush=True)
        return None


def outcomes_line(settings, device):
    """Percent of outcomes (sample and attack) that are those of the CPU."""
    data, frames = mmcoa.load_dataset("openmoji/birds", samples=settings.compared), []
    attacks, threat = ["clean", "image", "text"], ThreatModel(epsilon="1/255", steps=settings.steps)
    for where in ("cpu", device):
        frames.append(mmcoa.evaluate(mmcoa.load_model("openmoji-clip", where), data, attacks, threat).outcomes)
    right = [frame[[f"{name}_correct" for name in attacks]].to_numpy() for frame in frames]
    setting = f"openmoji-clip, {data.name}, n = {len(data)}, {', '.join(attacks)}, fp32"
    return line("outcomes as on the CPU", setting, 100 * float((right[0] == right[1]).mean()), None, "%", "100 %")


def signs_line(settings, device, random_model):
    """Percent of the signs of an image gradient that are those of the CPU."""
    found = []
    for where in ("cpu", device):
        model = random_model(settings.architecture, where).requires_grad_(False)
        pixels = torch.rand(4, 3, *model.image_size, generator=torch.Generator().manual_seed(0)).to(where).requires_grad_()
        with model.fixed():
            found.append(torch.autograd.grad(model.encode_image_raw(pixels).square().sum(), pixels)[0].sign().cpu())
    setting = f"{settings.architecture}, image gradient, batch 4, fp32"
    return line("signs as on the CPU", setting, 100 * (found[0] == found[1]).float().mean().item(), None, "%", "99.9 %")


def pgd_lines(batch, peak, settings, device, random_model, prompts):
    """A PGD step in both precisions and all ways that work, encoding the prompts once included."""
    model = random_model(settings.architecture, device)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(batch, 3, *model.image_size, generator=generator).to(device)
    labels = torch.randint(len(prompts), (batch,), generator=generator).to(device)
    few = ThreatModel(epsilon="1/255", steps=settings.baseline_steps, keep="last")
    many = few.changed(steps=settings.steps, keep="best")
    start = project(random_start(images.shape[1:], few, range(batch)).to(device), images, few)

    def public():
        model.requires_grad_(True)
        model.precision = "fp32"
        found = baselines.pgd_public(model, images, labels, prompts, few, start)
        model.zero_grad(set_to_none=True)
        return found

    def attack(threat, precision):
        model.requires_grad_(False)
        model.precision = precision
        with torch.no_grad():
            return pgd(model, images, labels, encode_texts(model, prompts), threat)

    def loss(pictures):
        model.precision = "fp32"
        with torch.no_grad():
            return torch.nn.functional.cross_entropy(model.logits(pictures, model.encode_text(prompts)), labels).item()

    def measured(precision, way):
        with tower(model, precision, way, images, settings):
            attack(few, precision)  # compiles
            seconds, baseline, _, theirs = race(
                lambda: attack(many, precision), public, settings.repeats, settings.baseline_repeats, device
            )
            ours = attack(few, precision)
        losses = loss(ours), loss(theirs)
        require(abs(losses[0] - losses[1]) < LOSSES[precision] * abs(losses[1]), f"{what}: losses {losses}")
        return [line(what, setting, seconds / many.steps, baseline / few.steps, "s a step", "10x")], seconds

    rows = []
    for precision in PRECISIONS:
        flops = training_step.flops(lambda precision=precision: attack(many, precision))
        for way in WAYS:
            what = ", ".join(filter(None, ("PGD step", precision, way)))
            setting = f"{settings.architecture}, {len(prompts)} class prompts, batch {batch}"
            found = attempt(f"{what}, batch {batch}", lambda precision=precision, way=way: measured(precision, way))
            if found:
                rows += found[0]
                if precision == "bf16":
                    rows.append(rate_line(f"{what}: rate", setting, flops, found[1], peak, settings))
    return rows


@contextlib.contextmanager
def tower(model, precision, way, images, settings):
    """Within: the model's image tower runs in a precision and in one of `WAYS`; raises where that cannot be."""
    model.requires_grad_(False)
    model.precision = precision
    with model.fixed():
        with torch.no_grad():
            model.encode_image_raw(images)  # reads the weights
        plain = model.fixed_towers[precision]
        if way == "compiled":
            torch._dynamo.reset()
            model.fixed_towers[precision] = torch.compile(lambda x: plain(x), backend=settings.compiler, dynamic=False)
        elif way == "CUDA graph":
            sample = images.clone().requires_grad_()
            with torch.enable_grad():
                graph = torch.cuda.make_graphed_callables(lambda x: plain(x), (sample,))

            def repeated(x):
                return graph(x) if x.shape == sample.shape and x.requires_grad and torch.is_grad_enabled() else plain(x)

            model.fixed_towers[precision] = repeated
        try:
            yield
        finally:
            model.precision = "fp32"


def step_lines(batch_size, peak, settings, device, random_model, prompts, candidates):
    """An MMCoA step in both precisions; each starts from the same weights."""
    threat, config = training_step.setting_of(settings)
    setting = f"{settings.architecture}, {len(prompts)} classes, batch {batch_size}, PGD-{threat.steps}, one-word text attack"

    def prepared(precision="fp32"):
        found = training_step.prepared(settings, device, random_model, prompts, config, batch_size)
        found[0].precision = found[0].text_precision = precision
        return found

    model, batch, optimizer = prepared()
    baseline, expected = timed(lambda: training_step.public(model, batch, threat, optimizer, candidates), device)
    rows = []
    for precision in PRECISIONS:
        model, batch, optimizer = prepared(precision)
        step = lambda model=model, batch=batch, optimizer=optimizer: training_step.ours(model, model, batch, threat, optimizer)  # noqa: E731
        times, losses = zip(*(timed(step, device) for _ in range(settings.step_repeats + 1)), strict=True)
        found = f"MMCoA step, {precision}: losses {losses[0]} and {expected}"
        require(abs(losses[0] - expected) < LOSSES[precision] * abs(expected), found)
        rows.append(line(f"MMCoA step, {precision}", setting, min(times), baseline, "s", "10x"))
        if precision == "bf16":
            what = f"MMCoA step, {precision}: rate"
            rows.append(rate_line(what, setting, training_step.flops(step), min(times), peak, settings))
    return rows


def rate_line(what, setting, flops, seconds, peak, settings):
    """TFLOP/s, and beside it the large product's; `ratio` is the share."""
    side, rate = settings.matrix, flops / seconds
    setting = f"{setting}; baseline: a {side} x {side} bf16 product"
    return line(what, setting, rate / 1e12, peak / 1e12, "TFLOP/s", "at least 0.4", ratio=rate / peak)


if __name__ == "__main__":
    import speed

    speed.main(["--only", "gpu", *sys.argv[1:]])

"""How fast MMCoA trains: one step on ViT-B/32 beside the way public code does it, an epoch of the embedded model, and on a GPU
the share of its measured peak. Called by speed.py (`mmcoa bench --only step` or `epoch`)."""

import tempfile

import baselines
import torch
from common import line, require, synchronize, timed, usual

import mmcoa
from mmcoa import defenses
from mmcoa.attacks.ball import project, random_start
from mmcoa.datasets.batches import Batch, ShuffledDataset
from mmcoa.defenses._losses import contrastive
from mmcoa.threat import ThreatModel
from mmcoa.training.config import TrainConfig
from mmcoa.training.loop import train
from mmcoa.training.schedule import make_optimizer

MMCOA = defenses.choose("mmcoa")
MATRIX = 8192  # side of the bf16 product that says what the device can do


def random_batch(model, prompts, size, device):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(size, 3, *model.image_size, generator=generator).to(device)
    labels = torch.randint(len(prompts), (size,), generator=generator).to(device)
    return Batch(images, labels, prompts, step=0, seed=0)


def ours(model, frozen, batch, threat, optimizer):
    """One step of the library; the loss."""
    optimizer.zero_grad(set_to_none=True)
    loss, _ = MMCOA.objective(model, frozen, batch, threat, MMCOA.settings)
    loss.backward()
    optimizer.step()
    return loss.item()


def public(model, batch, threat, optimizer, candidates):
    """One step as public code does it: prompts through the text tower at each step of the inner attack, gradients of all
    weights (that these are added to the update is undone, for the same result), one prompt after another in the text attack."""
    start = project(
        random_start(batch.images.shape[1:], threat, batch.sample_ids().tolist()).to(batch.images), batch.images, threat
    )
    adversarial = baselines.pgd_public(model, batch.images, batch.labels, batch.prompts, threat, start)
    optimizer.zero_grad(set_to_none=True)
    texts = [batch.prompts[label] for label in batch.labels.tolist()]
    found = [text for text, _ in baselines.attack_prompts_slowly(model, texts, candidates, batch.prompts)]
    _, labels = batch.present()
    first = {label: place for place, label in reversed(list(enumerate(labels.tolist())))}
    rows = [first[label] for label in range(len(first))]
    clip = model.clip

    def encode(prompts):
        return torch.nn.functional.normalize(clip.encode_text(model.tokenizer(prompts).to(batch.images.device)), dim=-1)

    clean, attacked = encode(texts)[rows], encode(found)[rows]
    image = contrastive(model.encode_image(adversarial), clean, labels, model.scale, MMCOA.settings.positives)
    text = contrastive(model.encode_image(batch.images), attacked, labels, model.scale, MMCOA.settings.positives)
    loss = MMCOA.settings.lambda_image * image + MMCOA.settings.lambda_text * text
    loss.backward()
    optimizer.step()
    return loss.item()


def setting_of(settings):
    """(threat model of the inner attack, settings of the training) of the measured step."""
    threat = ThreatModel(epsilon="1/255", steps=settings.inner_steps, keep="last", candidate_source="table:eval")
    return threat, TrainConfig(lr=1e-6).for_model({})


def prepared(settings, device, random_model, prompts, config, batch_size):
    """(model, batch, optimizer), the same at each call."""
    model = random_model(settings.architecture, device)
    parameters = [p.requires_grad_(True) for p in model.clip.parameters()]
    return model, random_batch(model, prompts, batch_size, device), make_optimizer(parameters, config)


def product_rate(device, side=MATRIX):
    """FLOP/s of a large bf16 product, the best of some: what the device can do."""
    matrix = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    for _ in range(2):
        matrix @ matrix
    return 2 * side**3 / min(timed(lambda: matrix @ matrix, device)[0] for _ in range(5))


def flops(step):
    """FLOPs of `step()` as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def step_lines(settings, device, random_model, prompts, candidates):
    """An MMCoA step; both sides start from the same weights and end at the same loss."""
    threat, config = setting_of(settings)
    start = (settings, device, random_model, prompts, config, settings.step_batch)
    model, batch, optimizer = prepared(*start)
    best, losses = float("inf"), []
    for _ in range(settings.step_repeats):
        seconds, loss = timed(lambda: ours(model, model, batch, threat, optimizer), device)
        best, losses = min(best, seconds), [*losses, loss]
    model, batch, optimizer = prepared(*start)
    baseline, loss = usual(lambda: public(model, batch, threat, optimizer, candidates), device)
    print(f"MMCoA step: loss {losses[0]:.5f} and {loss:.5f}")
    require(abs(losses[0] - loss) < 1e-3 * abs(loss), f"MMCoA step: {losses[0]} and {loss}")
    setting = f"{settings.architecture}, {len(prompts)} classes, batch {settings.step_batch}, PGD-{threat.steps}, "
    setting += "one-word text attack"
    target = "10x" if str(device).startswith("cuda") else "3x"
    rows = [line("MMCoA step", setting, best, baseline, "s", target)]
    if str(device).startswith("cuda"):
        rows.append(peak_line(model, batch, threat, config, device, setting))
    return rows


def peak_line(model, batch, threat, config, device, setting, side=MATRIX):
    """Share of a measured bf16 matrix product's rate that a bf16 step achieves; FLOPs as torch counts them."""
    peak = product_rate(device, side)
    model.precision = model.text_precision = "bf16"
    optimizer = make_optimizer([p for p in model.clip.parameters() if p.requires_grad], config)
    count = flops(lambda: ours(model, model, batch, threat, optimizer))
    synchronize(device)
    seconds = min(timed(lambda: ours(model, model, batch, threat, optimizer), device)[0] for _ in range(3))
    model.precision = model.text_precision = "fp32"
    achieved = count / seconds
    setting = f"{setting}, bf16; baseline: a {side} x {side} bf16 product"
    return line(
        "rate of an MMCoA step", setting, achieved / 1e12, peak / 1e12, "TFLOP/s", "at least 0.25", ratio=achieved / peak
    )


def epoch_lines(settings, device):
    """One epoch of MMCoA on the embedded model, PGD-3, checkpoints and log included."""
    data = mmcoa.load_dataset("openmoji/others", "train", samples=settings.epoch)
    data = data.prefix(settings.epoch)
    model, frozen = (mmcoa.load_model("openmoji-clip", device) for _ in range(2))
    source = ShuffledDataset(data, settings.embedded_batch, 0, device)
    config = TrainConfig(steps=-(-len(data) // source.batch_size), batch_size=source.batch_size)
    threat = ThreatModel(epsilon="2/255", steps=3, candidate_source="table:train")
    with tempfile.TemporaryDirectory() as folder:
        seconds, _ = timed(lambda: train(model, source, MMCOA, config, f"{folder}/run", frozen=frozen, threat=threat), device)
    setting = (
        f"openmoji-clip, {len(data)} pictures of {data.name} ({len(data.prompts)} classes), PGD-3, batch {source.batch_size}"
    )
    return [line("MMCoA epoch, embedded model", setting, seconds, None, "s", "60 s")]

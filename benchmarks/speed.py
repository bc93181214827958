"""How fast the image attack and the text attack are here: `python benchmarks/speed.py`.

Prints ratios measured side by side in one run, best of `repeats`:

- image attack: PGD image-steps a second of the embedded model, and against a loop that encodes all class prompts again at
  each step (what the public code does, trap I1);
- text attack: the exhaustive search in large trimmed batches, against the same search one prompt at a time at full length.
"""

import time

import torch

import mmcoa
from mmcoa.attacks.candidates import CandidateTable
from mmcoa.attacks.image import pgd
from mmcoa.attacks.text import enumerate_variants, search
from mmcoa.runtime import tune_allocator
from mmcoa.threat import ThreatModel


def best(function, repeats=5):
    """Shortest of `repeats` runs, in seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        function()
        times.append(time.perf_counter() - began)
    return min(times)


def pgd_with_text_every_step(model, images, labels, prompts, threat):
    """The same number of gradient steps, prompts encoded at each."""
    delta = torch.zeros_like(images)
    for _ in range(threat.steps):
        x = (images + delta).requires_grad_()
        text = model.encode_tokens(model.tokenizer(prompts))
        (gradient,) = torch.autograd.grad(torch.nn.functional.cross_entropy(model.logits(x, text), labels), x)
        delta = (delta + threat.step_size * gradient.sign()).clamp(-threat.epsilon, threat.epsilon)
    return images + delta


def slow_search(model, variants):
    """One variant at a time through the full-length text encoder."""
    with torch.no_grad():
        clean = [model.clip.encode_text(model.tokenizer([p]), normalize=True) for p in variants.prompts]
        return [
            1 - (model.clip.encode_text(model.tokenizer([text]), normalize=True) @ clean[owner].T).item()
            for text, owner in zip(variants.texts, variants.owner.tolist(), strict=True)
        ]


def main():
    tune_allocator()
    model = mmcoa.load_model("openmoji-clip").requires_grad_(False)
    dataset = mmcoa.load_dataset("openmoji/clothing", samples=64)
    images, labels = dataset.images.float() / 255, dataset.labels
    text = model.encode_text(dataset.prompts)
    threat = ThreatModel(epsilon="2/255", steps=10)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    for size in (16, 64):
        ours = best(lambda size=size: pgd(model, images[:size], labels[:size], text, threat))
        naive = best(lambda size=size: pgd_with_text_every_step(model, images[:size], labels[:size], dataset.prompts, threat))
        print(f"image attack, batch {size}: {size * threat.steps / ours:.0f} image-steps/s, {naive / ours:.1f} x the loop")
    variants = enumerate_variants(dataset.prompts, CandidateTable("table:eval"))
    ours, naive = best(lambda: search(model, variants)), best(lambda: slow_search(model, variants), repeats=1)
    print(f"text attack, {len(variants.texts)} variants: {len(variants.texts) / ours:.0f} variants/s, {naive / ours:.1f} x the loop")


if __name__ == "__main__":
    main()

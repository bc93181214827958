"""The other side of the comparisons: attacks the way public code runs them, and a text attack too simple to be wrong.

Written from the papers and from what public training code of this field does (class prompts encoded again at each step,
gradients of all weights computed, every sample attacked for all steps, one prompt at a time at the full context length).
Slow on purpose. Needs the library only for the list of stop words.
"""

import torch
import torch.nn.functional as F

from mmcoa.attacks.words import STOP_WORDS


def logits(model, pixels, text_features):
    """Logits [N, C] through open_clip's own image tower, all rows of the last block included."""
    embeddings = model.clip.encode_image((model.resized(pixels) - model.mean) / model.std)
    return model.scale * F.normalize(embeddings, dim=-1) @ text_features.T


def pgd_public(model, images, labels, prompts, threat, start):
    """l_inf PGD from `start` [N, 3, H, W], last iterate: prompts through the text tower at each step, `loss.backward()`.

    Weights must require gradients, as in training: they are computed, added up and not used.
    """
    delta = start.clone()
    for _ in range(threat.steps):
        delta.requires_grad_()
        text = F.normalize(model.clip.encode_text(model.tokenizer(prompts).to(images.device)), dim=-1)
        loss = F.cross_entropy(logits(model, images + delta, text), labels)
        loss.backward()
        with torch.no_grad():
            delta = (delta + threat.step_size * delta.grad.sign()).clamp(-threat.epsilon, threat.epsilon)
            delta = (images + delta).clamp(0, 1) - images
    return (images + delta).detach()


def variants_of(prompt, candidates, taken):
    """All prompts with one content word replaced, in the order of words and candidates.

    `candidates`: word -> list; `taken`: prompts of all classes in lower case, which no variant may spell.
    """
    words, found = prompt.split(" "), []
    for position, word in enumerate(words):
        core = word.strip(".,;:!?()'\"")
        if len(core) < 2 or not core.isalpha() or core.lower() in STOP_WORDS:
            continue
        for candidate in candidates(core.lower()):
            new = candidate.capitalize() if core[0].isupper() else candidate
            variant = " ".join([*words[:position], word.replace(core, new, 1), *words[position + 1 :]])
            if variant.lower() not in taken:
                found.append(variant)
    return found


@torch.no_grad()
def attack_prompts_slowly(model, prompts, candidates, classes=None, one_by_one=False):
    """Exhaustive one-word text attack, one prompt at a time at the full context length: [(prompt, its cosine distance)].

    A prompt and its variants are one batch, or with `one_by_one` each variant is a batch of its own. `classes`: prompts of
    all classes, where `prompts` are only some of them.
    """
    taken = {prompt.lower() for prompt in classes or prompts}
    return [_furthest(model, prompt, variants_of(prompt, candidates, taken), one_by_one) for prompt in prompts]


def _furthest(model, prompt, variants, one_by_one):
    if not variants:
        return prompt, 0.0
    texts = [prompt, *variants]
    batches = [[text] for text in texts] if one_by_one else [texts]
    features = torch.cat([F.normalize(model.clip.encode_text(model.tokenizer(b).to(model.device)), dim=-1) for b in batches])
    distances = 1 - features[1:] @ features[0]
    best = int(distances.argmax())
    return variants[best], float(distances[best])


@torch.no_grad()
def distance(model, first, second):
    """Cosine distance of two prompts at the full context length."""
    features = F.normalize(model.clip.encode_text(model.tokenizer([first, second]).to(model.device)), dim=-1)
    return 1 - float(features[0] @ features[1])


class Classifier(torch.nn.Module):
    """A model and the features of class prompts as one map from pixels to logits: what torchattacks and AutoAttack take."""

    def __init__(self, model, text_features):
        super().__init__()
        self.model, self.text_features = model, text_features
        self.eval()  # torchattacks brings back the mode it found, and batch norms must not learn from attacked pictures

    def forward(self, pixels):
        return logits(self.model, pixels, self.text_features)

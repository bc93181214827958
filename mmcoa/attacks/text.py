"""The text attack: one word of each class prompt replaced, so that the prompt's embedding moves furthest.

    t' = argmax over allowed substitutions of  1 - <g(t'), g(t)>

The public code's KL between softmaxed embeddings orders candidates as this cosine distance does (protocol). The search is
exhaustive over (prompt, position, candidate), in a few large batches: at least as strong as BERT-Attack's importance
order, and label- and image-free. The prompts of all classes are edited at once.
"""

from dataclasses import dataclass

import torch

from mmcoa.attacks.candidates import CandidateTable
from mmcoa.attacks.words import split_words, substitute

CHUNK = 2048  # variants encoded at once


@dataclass(frozen=True)
class Variants:
    """All allowed one-word substitutions of a list of prompts; variant v belongs to prompt `owner[v]`."""

    prompts: list
    texts: list
    owner: torch.Tensor  # int64 [V], non-decreasing
    positions: list
    old_words: list
    new_words: list
    sources: list
    collisions: list  # per prompt: substitutions left out because they spell another class's prompt

    def of(self, prompts):
        """The variants of some of the prompts, in the order given."""
        wanted = {prompt: i for i, prompt in enumerate(self.prompts)}
        chosen = [wanted[prompt] for prompt in prompts]
        bounds = torch.searchsorted(self.owner, torch.arange(len(self.prompts) + 1)).tolist()
        rows = [v for i in chosen for v in range(bounds[i], bounds[i + 1])]
        counts = torch.tensor([bounds[i + 1] - bounds[i] for i in chosen])
        columns = {key: [getattr(self, key)[v] for v in rows] for key in ("texts", "positions", "old_words", "new_words", "sources")}
        owner = torch.repeat_interleave(torch.arange(len(chosen)), counts)
        return Variants(list(prompts), owner=owner, collisions=[self.collisions[i] for i in chosen], **columns)


def enumerate_variants(prompts, table):
    """Allowed substitutions of each prompt: content words only, never another class's prompt (trap X5)."""
    taken = {prompt.lower() for prompt in prompts}
    columns = {key: [] for key in ("texts", "owner", "positions", "old_words", "new_words", "sources")}
    collisions = [0] * len(prompts)
    for index, prompt in enumerate(prompts):
        for position, word in enumerate(split_words(prompt)):
            candidates, source = table(word.core.lower()) if word.is_content else ([], "")
            for candidate in candidates:
                text = substitute(prompt, position, candidate)
                if text.lower() in taken:
                    collisions[index] += text.lower() != prompt.lower()
                    continue
                values = (text, index, position, word.core, candidate, source)
                for key, value in zip(columns, values, strict=True):
                    columns[key].append(value)
    owner = torch.tensor(columns.pop("owner"), dtype=torch.int64)
    return Variants(prompts=list(prompts), owner=owner, collisions=collisions, **columns)


@dataclass(frozen=True)
class TextAttack:
    """Adversarial prompts and, for each, what was changed (trap X6)."""

    prompts: list
    changes: list

    @property
    def share_changed(self):
        """Percent of the prompts that could be changed at all."""
        return 100 * sum(change["changed"] for change in self.changes) / max(1, len(self.changes))


@torch.no_grad()
def embedding_distance(model, variants, clean_features):
    """Score of each variant, float [V]: cosine distance of its embedding from its clean prompt's."""
    scores = []
    for start in range(0, len(variants.texts), CHUNK):
        part = slice(start, start + CHUNK)
        features = model.encode_text(variants.texts[part])
        scores.append(1 - (features * clean_features[variants.owner[part].to(features.device)]).sum(dim=-1))
    return torch.cat(scores).float().cpu() if scores else torch.zeros(0)


def search(model, variants, clean_features=None):
    """`TextAttack`: for each prompt the variant of the largest score (the first one of equals)."""
    if clean_features is None:
        clean_features = model.encode_text(variants.prompts).detach()
    scores = embedding_distance(model, variants, clean_features)
    prompts, changes = [], []
    bounds = torch.searchsorted(variants.owner, torch.arange(len(variants.prompts) + 1)).tolist()
    for index, prompt in enumerate(variants.prompts):
        first, last = bounds[index], bounds[index + 1]
        change = {"prompt": prompt, "variants": last - first, "collisions_avoided": variants.collisions[index]}
        if first == last:
            change |= dict(adversarial_prompt=prompt, position=-1, old_word="", new_word="", score=0.0, source="", changed=False)
        else:
            v = first + int(scores[first:last].argmax())
            change |= dict(adversarial_prompt=variants.texts[v], position=variants.positions[v], score=float(scores[v]))
            change |= dict(old_word=variants.old_words[v], new_word=variants.new_words[v], source=variants.sources[v])
            change["changed"] = True
        prompts.append(change["adversarial_prompt"])
        changes.append(change)
    return TextAttack(prompts, changes)


def attack_prompts(model, prompts, threat, frozen=None):
    """Attack all prompts of a data set at once.

    Arguments
        model: the attacked `ImageTextModel`.
        prompts: list of C strings, one a class.
        threat: `ThreatModel`; its `candidate_source` names the candidates.
        frozen: function without arguments that returns the model whose token embedding gives `neighbours`, called only
            where they are needed; default: the attacked model.
    """
    table = CandidateTable(threat.candidate_source, frozen or (lambda: model))
    return search(model, enumerate_variants(prompts, table))

"""The text attack: words of each class prompt replaced so that a score is largest.

    t' = argmax over allowed substitutions of  score(t')        (scores.py; default: 1 - <g(t'), g(t)>)

For one word the search is exhaustive over (position, candidate): at least as strong as BERT-Attack's importance order. For
more words a beam of the best prompts of n words is widened by one word at a time; the one-word prompts stay in the race, so
that a larger budget never scores less. The prompts of all classes are edited at once.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch

from mmcoa.attacks.candidates import CandidateTable
from mmcoa.attacks.floor import make_floor
from mmcoa.attacks.prefix import encode_texts
from mmcoa.attacks.relations import RELATIONS, relation
from mmcoa.attacks.scores import EmbeddingScore, by_owner, make_score
from mmcoa.attacks.words import class_name_positions, content_positions, split_words, substitute_all
from mmcoa.errors import UserError

BLOCK = 128  # prompts whose variants are in memory together


class Edit(NamedTuple):
    """One replaced word; `source`: where its candidates came from."""

    position: int
    old_word: str
    new_word: str
    source: str

    def told(self):
        """As a dict, with the `relation` of the two words."""
        related = relation(self.source, self.old_word.lower(), self.new_word) if self.source else ""
        return self._asdict() | {"relation": related}


@dataclass(frozen=True)
class Variants:
    """Allowed substitutions of a list of prompts; variant v belongs to prompt `owner[v]`.

    texts, edits: per variant, its prompt and the tuple of `Edit` that made it.
    owner: int64 [V], non-decreasing.
    collisions: per prompt, substitutions left out because they spell another class's prompt (trap X5).
    choices: per prompt {position: (word, candidates, source)}.
    taken: prompts of all classes, lower case.
    source: the candidate source that was asked for; None: not known.
    floor: `Floor` or None; similarity: what it measured, float [V] or None.
    tokens: int64 [V, L], the texts in tokens, or None.
    """

    prompts: list
    texts: list
    owner: torch.Tensor
    edits: list
    collisions: list
    choices: list
    taken: frozenset
    floor: object = None
    source: str | None = None
    similarity: torch.Tensor | None = None
    tokens: torch.Tensor | None = None

    def of(self, prompts):
        """The variants of some of the prompts, in the order given."""
        known = {prompt: i for i, prompt in enumerate(self.prompts)}
        chosen = [known[prompt] for prompt in prompts]
        rows = by_owner(self.owner, len(self.prompts))
        kept = torch.cat([self.owner[:0], *(rows[i] for i in chosen)])
        owner = torch.cat([self.owner[:0], *(torch.full_like(rows[i], place) for place, i in enumerate(chosen))])
        lists = {key: [getattr(self, key)[i] for i in chosen] for key in ("collisions", "choices")}
        return replace(self.rows(kept), prompts=list(prompts), owner=owner, **lists)

    def rows(self, kept):
        """Some of the variants, int64 [K]."""
        lists = {key: [getattr(self, key)[v] for v in kept.tolist()] for key in ("texts", "edits")}
        tensors = {key: getattr(self, key) for key in ("owner", "similarity", "tokens")}
        return replace(self, **lists, **{key: tensor[kept] for key, tensor in tensors.items() if tensor is not None})

    def widened(self, parents):
        """All variants with one more word changed than `parents`: per prompt, a list of tuples of `Edit`."""
        texts, owner, edits, collisions = [], [], [], []
        for index, prompt in enumerate(self.prompts):
            seen, itself, avoided = set(), " ".join(prompt.lower().split()), set()
            for parent in parents[index]:
                for edit in self._further(index, parent):
                    made = tuple(sorted((*parent, edit)))
                    text = substitute_all(prompt, {e.position: e.new_word for e in made})
                    if text in seen:
                        continue
                    seen.add(text)
                    if text.lower() in self.taken:
                        avoided |= {text.lower()} - {itself}
                        continue
                    texts.append(text)
                    owner.append(index)
                    edits.append(made)
            collisions.append(len(avoided))
        owner = torch.tensor(owner, dtype=torch.int64)
        wider = replace(self, texts=texts, owner=owner, edits=edits, collisions=collisions, similarity=None, tokens=None)
        if self.floor is None or not texts:
            return wider
        similarity = self.floor.similarity(texts, [self.prompts[i] for i in owner.tolist()])
        return replace(wider, similarity=similarity).rows((similarity >= self.floor.minimum).nonzero()[:, 0])

    def _further(self, index, parent):
        """Edits of the words that `parent` leaves alone."""
        changed = {edit.position for edit in parent}
        for position, (word, candidates, source) in self.choices[index].items():
            if position not in changed:
                for candidate in candidates:
                    yield Edit(position, word, candidate, source)


def enumerate_variants(prompts, table, positions=None, taken=None, floor=None):
    """All allowed one-word `Variants` of prompts: never another class's prompt (trap X5).

    Arguments:
        table: function (lower-case word, prompt, position) -> (candidates, source), such as a `CandidateTable`.
        positions: per prompt, the positions that may change; default: all content words.
        taken: prompts of all classes; default: `prompts`.
        floor: `Floor` or None.
    """
    choices = []
    for prompt, places in zip(prompts, content_positions(prompts) if positions is None else positions, strict=True):
        words = split_words(prompt)
        choices.append({i: (words[i].core, *table(words[i].core.lower(), prompt, i)) for i in places})
    taken = frozenset(" ".join(prompt.lower().split()) for prompt in (prompts if taken is None else taken))
    source = getattr(table, "source", None)
    nothing = Variants(list(prompts), [], torch.zeros(0, dtype=torch.int64), [], [], choices, taken, floor, source)
    return nothing.widened([[()] for _ in prompts])


@dataclass(frozen=True)
class TextAttack:
    """Adversarial prompts and, for each, what was changed (trap X6).

    A change has prompt, adversarial_prompt, changed, edits (list of {position, old_word, new_word, source, relation}; these
    five of the first edit also by themselves, -1 and "" where nothing changed), score, similarity (by the threat model's
    encoder, None where no floor was set), variants (number tried, 0 where the threat model allows none), collisions_avoided,
    known (whether the candidate source itself has a word for it), own (whether its word was taken, not that of a fall-back).
    """

    prompts: list
    changes: list

    @property
    def share_changed(self):
        """Percent of the prompts that were changed by words of the candidate source; of several words the first counts."""
        return self._share(change["changed"] and change.get("own", True) for change in self.changes)

    @property
    def share_fallback(self):
        """Percent of the prompts that were changed by words of another source, which stood in."""
        return self._share(change["changed"] and not change.get("own", True) for change in self.changes)

    @property
    def share_unknown(self):
        """Percent of the prompts for which the candidate source itself has no word."""
        return self._share(not change.get("known", True) for change in self.changes)

    @property
    def share_changeable(self):
        """Percent of the prompts that could be changed at all: with one allowed substitution or more."""
        return self._share(change["variants"] > 0 for change in self.changes)

    @property
    def share_by_relation(self):
        """{relation: percent of the prompts that were changed by it}, all of `RELATIONS`; of several words the first counts."""
        counts = Counter(change["relation"] for change in self.changes)
        return {name: 100 * counts[name] / max(1, len(self.changes)) for name in RELATIONS}

    def _share(self, flags):
        return 100 * sum(flags) / max(1, len(self.changes))


@torch.no_grad()
def search(model, variants, threat=None, score=None):
    """`TextAttack`: for each prompt the variant of the largest score; a prompt stays as it is where none scores more.

    Arguments:
        variants: one-word `Variants` of the prompts.
        threat: its `text_budget` and `beam` are used; default: one word.
        score: see scores.py; default: the cosine distance from the clean prompts.
    """
    budget, beam = (1, 1) if threat is None else (threat.text_budget, threat.beam)
    if score is None:
        score = EmbeddingScore(encode_texts(model, variants.prompts))
    levels, measured = [], []
    level = variants
    while level.texts:
        levels.append(level)
        measured.append(score.measure(encode_texts(model, level.texts, level.tokens), level.owner))
        if len(levels) == budget:
            break
        level = level.widened(_beam(level, score.rank(measured[-1], level.owner), beam))
    owner = torch.cat([variants.owner[:0], *(level.owner for level in levels)])
    edits = [made for level in levels for made in level.edits]
    texts = [text for level in levels for text in level.texts]
    similarity = torch.cat([level.similarity for level in levels]).tolist() if levels and variants.floor else None
    words = torch.tensor([len(made) for made in edits], dtype=torch.int64)
    chosen, scores = score.choose(torch.cat(measured) if measured else torch.zeros(0), owner, words)
    tried = torch.bincount(owner, minlength=len(variants.prompts)).tolist()
    avoided = [sum(level.collisions[i] for level in [variants, *levels[1:]]) for i in range(len(variants.prompts))]
    changes = []
    for index, (prompt, v) in enumerate(zip(variants.prompts, chosen, strict=True)):
        made = edits[v] if v >= 0 else ()
        first = made[0] if made else Edit(-1, "", "", "")
        change = {"prompt": prompt, "adversarial_prompt": texts[v] if made else prompt, "changed": bool(made)}
        change |= {"edits": [edit.told() for edit in made], **first.told(), "score": scores[index]}
        change["similarity"] = None if variants.floor is None else similarity[v] if made else 1.0
        sources = {source for _, candidates, source in variants.choices[index].values() if candidates}
        change |= {"known": variants.source in (None, *sources), "own": first.source in (variants.source or first.source, "")}
        changes.append(change | {"variants": tried[index], "collisions_avoided": avoided[index]})
    return TextAttack([change["adversarial_prompt"] for change in changes], changes)


def _beam(level, scores, beam):
    """Edits of the `beam` best variants of each prompt, a list of lists."""
    rows = by_owner(level.owner, len(level.prompts))
    best = [own[scores[own].argsort(descending=True, stable=True)[:beam]] for own in rows]
    return [[level.edits[v] for v in own.tolist()] for own in best]


@torch.no_grad()
def attack_prompts(model, prompts, threat, frozen=None, class_names=None, attacker=None, current=None, greedy=True):
    """Attack all prompts of a data set at once; classes that share a prompt share the result.

    Arguments:
        model: the attacked `ImageTextModel`.
        prompts: list of C strings, one a class.
        threat: `ThreatModel`: level, candidate source, budget, beam, score, attackable words, least similarity.
        frozen: function without arguments that returns the model whose token embedding gives `neighbours` and whose text
            tower may measure similarity, called only where they are needed; default: the attacked model.
        class_names: list of C strings, where `threat.attackable` is `class_name`; see `class_name_positions`.
        attacker: `LabelledFeatures` of the attacker's pictures, where `threat.text_score` is `margin`.
        current: unit embeddings [C, D] of the prompts as they are at the moment, for `margin`; default: the clean prompts.
        greedy: whether `margin` settles the prompts one after another; see `MarginScore`.

    Raises `UserError` for a candidate source that is unknown or cannot be reached, and where one of these is missing.
    """
    if not len(prompts):
        raise UserError("empty list of prompts: a data set needs at least one class")
    frozen = frozen or (lambda: model)
    distinct = list(dict.fromkeys(prompts))
    place = {prompt: i for i, prompt in enumerate(distinct)}
    classes = torch.tensor([place[prompt] for prompt in prompts])  # distinct prompt of each class
    first = [prompts.index(prompt) for prompt in distinct]
    if attacker is not None:
        if len(attacker.labels) and not 0 <= int(attacker.labels.min()) <= int(attacker.labels.max()) < len(prompts):
            raise UserError(f"labels of the attacker's pictures must lie in [0, {len(prompts) - 1}]")
        attacker = replace(attacker, labels=classes.to(attacker.labels.device)[attacker.labels])
    names = None if class_names is None else [class_names[i] for i in first]
    table, positions, floor = limits(distinct, threat, frozen, names)
    clean = encode_texts(model, distinct)
    current = clean.clone() if current is None else current[first].clone()
    changes = []
    for start in range(0, len(distinct), BLOCK):
        part = slice(start, start + BLOCK)
        variants = enumerate_variants(distinct[part], table, positions[part], distinct, floor)
        columns = torch.arange(len(distinct))[part]
        found = search(model, variants, threat, make_score(threat, clean[part], attacker, current, columns, greedy))
        changes += found.changes
        if greedy and threat.text_score == "margin":
            current[part] = encode_texts(model, found.prompts)
    changes = [dict(changes[i]) for i in classes.tolist()]
    return TextAttack([change["adversarial_prompt"] for change in changes], changes)


def attackable_positions(prompts, threat, class_names=None):
    """Per prompt, the positions of the words that the threat model lets an attacker change."""
    return content_positions(prompts) if threat.attackable == "content" else class_name_positions(prompts, class_names)


def limits(prompts, threat, frozen=None, class_names=None):
    """What a threat model allows in prompts: the first arguments of `enumerate_variants` (table, positions) and its floor."""
    table = CandidateTable(threat.candidate_source, frozen, prompts, threat.text_threat)
    return table, attackable_positions(prompts, threat, class_names), make_floor(frozen, threat)

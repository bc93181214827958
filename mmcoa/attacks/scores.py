"""What the text attack maximises.

- `embedding`: 1 - <g(t'), g(t)>, label- and image-free. The public code's KL between softmaxed embeddings orders candidates
  as this cosine distance does (protocol).
- `margin`: the share of an attacker's labelled pictures that the changed prompt makes wrong, the prompts of the other classes
  as they are at the moment.

A score measures variants once (`measure`), orders them (`rank`: for the beam) and picks one for each prompt (`choose`).
"""

from dataclasses import dataclass

import torch

from mmcoa.errors import UserError

ROUNDING = 1e-6  # a smaller distance is no change: the prompts are the same tokens
SWEEPS = 5  # over the prompts, at most
ROWS = 8192  # variants ranked at once
NOTHING = -1


@dataclass(frozen=True)
class LabelledFeatures:
    """Pictures of the attacker: unit embeddings [M, D], labels int64 [M] into the prompts that are attacked."""

    features: torch.Tensor
    labels: torch.Tensor


def by_owner(owner, prompts):
    """Rows of each prompt's variants, a list of int64 tensors, in order; `owner` int64 [V] in any order."""
    counts = torch.bincount(owner, minlength=prompts)
    return torch.argsort(owner, stable=True).split(counts.tolist())


class EmbeddingScore:
    """Cosine distance from each prompt's clean embedding; `clean` float [P, D], unit."""

    def __init__(self, clean):
        self.clean = clean

    def measure(self, features, owner):
        """Distance of each variant, float [V], from its prompt `owner` int64 [V]."""
        return (1 - (features * self.clean[owner.to(features.device)]).sum(dim=-1)).float().cpu()

    def rank(self, measured, owner):
        return measured

    def choose(self, measured, owner, words):
        """(variant of the largest distance int64 [P], the first of equals, -1: none moves the embedding; its distance [P])."""
        chosen, scores = [], []
        for rows in by_owner(owner, len(self.clean)):
            best = int(rows[measured[rows].argmax()]) if len(rows) else NOTHING
            moved = best != NOTHING and float(measured[best]) > ROUNDING
            chosen.append(best if moved else NOTHING)
            scores.append(float(measured[best]) if moved else 0.0)
        return chosen, scores


class MarginScore:
    """Share of pictures that are wrong once a prompt is changed, plus less than one picture's share for small mean margins.

    Arguments:
        attacker: `LabelledFeatures`, labels into the columns of `current`.
        current: embeddings of all prompts as they are at the moment, [C, D].
        clean: embeddings of the P prompts under attack, [P, D]; a prompt may stay as it is.
        columns: class of each of them, int64 [P].
        greedy: prompts are settled in turn, each against what the others have become, in sweeps until none changes: the share
            of wrong pictures never falls. False: all at once, against `current`.
    """

    def __init__(self, attacker, current, clean, columns, greedy=True):
        self.pictures, self.labels = attacker.features, attacker.labels.to(attacker.features.device)
        self.similarities = (self.pictures @ current.to(self.pictures.device).T).float()  # [M, C]
        self.unchanged = self.measure(clean)
        self.columns, self.greedy = columns, greedy

    def measure(self, features, owner=None):
        """Similarity of each variant to each picture, float [V, M]."""
        return (features.to(self.pictures.device) @ self.pictures.T).float()

    def rank(self, measured, owner):
        """Score of each variant against the prompts as they are at the moment, float64 [V]."""
        classes = self.columns[owner]
        parts = [self._rank(measured[i : i + ROWS], classes[i : i + ROWS]) for i in range(0, len(measured), ROWS)]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)

    def _rank(self, measured, classes):
        labels, classes = self.labels, classes.to(self.labels.device)[:, None]
        others = self.similarities.scatter(1, labels[:, None], -torch.inf)
        two = others.topk(min(2, others.shape[1]), dim=1)  # the nearest wrong classes of each picture
        first, nearest = two.values[:, 0], two.indices[:, 0]
        second = two.values[:, 1] if others.shape[1] > 1 else first
        rival = torch.maximum(measured, torch.where(nearest == classes, second, first))
        own = labels == classes
        margin = torch.where(own, measured - first, self.similarities.gather(1, labels[:, None])[:, 0] - rival)
        margin = margin.clamp(-2, 2).double()  # differences of cosines; without a second class the rival is -inf
        # (2 - margin) / 8 lies in [0, 1/2]: of equally many wrong pictures the smaller mean margin counts.
        pictures = max(1, len(labels))
        return ((margin < 0).double().mean(dim=1) + (2 - margin).mean(dim=1) / (8 * pictures)).cpu()

    def choose(self, measured, owner, words):
        """(variant int64 [P], -1: the clean prompt serves best; score [P] when it was chosen).

        words: number of words changed by each variant, int64 [V]. The sweeps begin with single words, so that a larger budget
        never ends with fewer wrong pictures than one word does.
        """
        rows = by_owner(owner, len(self.columns))
        chosen, scores = [NOTHING] * len(rows), [0.0] * len(rows)
        if not self.greedy:
            found = [self._best(index, rows[index], measured) for index in range(len(rows))]
            return [best for best, _ in found], [score for _, score in found]
        for most in sorted({1, int(words.max()) if len(words) else 1}):
            for _ in range(SWEEPS):
                before = list(chosen)
                for index, own in enumerate(rows):
                    allowed = own[words[own] <= most]
                    chosen[index], scores[index] = self._best(index, allowed, measured)
                    best = self.unchanged[index] if chosen[index] == NOTHING else measured[chosen[index]]
                    self.similarities[:, self.columns[index]] = best
                if chosen == before:
                    break
        return chosen, scores

    def _best(self, index, rows, measured):
        """(variant of the largest score among `rows` and the clean prompt, -1; its score)."""
        options = torch.cat([self.unchanged[index : index + 1], measured[rows.to(measured.device)]])
        scores = self.rank(options, torch.full((len(options),), index))
        best = int(scores.argmax())
        return (NOTHING if best == 0 else int(rows[best - 1])), float(scores[best])


def make_score(threat, clean, attacker=None, current=None, columns=None, greedy=True):
    """The score that `threat.text_score` names, for P prompts with clean embeddings `clean` [P, D].

    attacker, current [C, D], columns int64 [P], greedy: see `MarginScore`; default: all prompts, clean, are attacked.
    """
    if threat.text_score == "embedding":
        return EmbeddingScore(clean)
    if attacker is None:
        raise UserError("text score 'margin' needs labelled pictures of the attacker; use score embedding")
    current = clean if current is None else current
    labels = attacker.labels
    if not len(labels) or int(labels.min()) < 0 or int(labels.max()) >= len(current):
        raise UserError(f"labels of the attacker's pictures must lie in [0, {len(current) - 1}], one picture at least")
    return MarginScore(attacker, current, clean, torch.arange(len(clean)) if columns is None else columns, greedy)

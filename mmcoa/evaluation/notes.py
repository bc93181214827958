"""What a reader of an evaluation must know beside its rows, as sentences; and the requests that cannot be met."""

# pyright: reportMissingParameterType=false

from mmcoa.attacks.catalog import ATTACKS, find
from mmcoa.datasets.overlaps import overlaps_of
from mmcoa.errors import UserError

LEAST_JUDGED = 20  # samples from which a clean accuracy near chance says something


def refuse_or_note(asked, leaves, parts, dataset, attacker, threat):
    """Notes about attacks that this data set cannot have; `UserError` where such a one was asked for by name."""
    lacking = "with one prompt a class, not an ensemble" if dataset.ensemble else f"which '{dataset.name}' does not have here"
    learning = [f"attack '{a.name}'" for a in asked if a.train_pictures]
    if threat.text_score == "margin" and any(leaf.text for leaf in leaves):
        learning.append("score 'margin'")
    if attacker is None and learning:
        raise UserError(f"{learning[0]} learns from labelled pictures of a train split, {lacking}")
    if threat.target is not None and not any("target" in leaf.uses for leaf in leaves):
        able = ", ".join(name for name, attack in ATTACKS.items() if "target" in attack.uses and not attack.parts)
        raise UserError(f"no attack here leads to a target class; those that do: {able}")
    classes = len(dataset.class_names)
    for attack in asked:
        if classes < attack.classes:
            raise UserError(
                f"attack '{attack.name}' needs {attack.classes} classes, '{dataset.name}' has {classes}; use apgd-ce or auto"
            )
    notes = []
    for attack in asked:
        left_out = [name for name in attack.parts if name not in parts[attack.name]]
        if left_out:
            why = (
                "an ensemble of prompts"
                if dataset.ensemble
                else "no train split"
                if all(find(name).train_pictures for name in left_out)
                else f"{classes} classes"
            )
            notes.append(f"{attack.name} on {dataset.name}: without {', '.join(left_out)} ({why})")
    if threat.text_threat == "meaning" and threat.similarity_encoder == "own" and any(leaf.text for leaf in leaves):
        notes.append(
            "similarity of prompts by the model's own frozen text tower, not by MiniLM (a sentence encoder, extra `lite`)"
        )
    return notes


def unknown_words(texts, threat):
    """Notes about prompts of which the candidate source knows no word."""
    notes = []
    for kind, text in texts.items():
        count = sum(not change.get("known", True) for change in text.changes)
        if count:
            instead = "neighbours in the frozen model's token embedding stood in" if text.share_fallback else "nothing stood in"
            notes.append(
                f"{kind}: {threat.candidate_source} knows no word of {count} of {len(text.changes)} prompts; {instead} "
                f"({text.share_fallback:.1f} % of the prompts changed by it)"
            )
    return notes


def near_chance(model, rows):
    """A note where a model whose reading was guessed is no better than chance without an attack: perhaps guessed wrong."""
    for row in rows:
        chance = 100 / row["classes"]
        if row["attack"] == "clean" and model.assumed and row["n"] >= LEAST_JUDGED and row["ci_low"] <= chance:
            return [
                f"{model.name} is near chance on {row['dataset']} without an attack ({row['accuracy']:.1f} %, chance "
                f"{chance:.1f} %). If it should know these pictures, a guess was wrong: {'; '.join(model.assumed)}"
            ]
    return []


def shared_pictures(model, dataset):
    """Notes about pictures of the split that the model was fine-tuned on as another data set's."""
    trained_on = model.metadata.get("trained_on", "")
    shared = [one for one in overlaps_of(dataset.name, dataset.split) if one.other == trained_on]
    return [f"the model was fine-tuned on {one.other}: {one}" for one in shared]

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mmcoa.attacks import text as text_module
from mmcoa.attacks.candidates import CandidateTable, embedded_table
from mmcoa.attacks.floor import Floor
from mmcoa.attacks.scores import LabelledFeatures
from mmcoa.attacks.text import attack_prompts, enumerate_variants, search
from mmcoa.attacks.words import class_name_positions, split_words, substitute, substitute_all
from mmcoa.errors import UserError
from mmcoa.threat import ThreatModel

PROMPTS = ["This is a photo of a parrot", "This is a photo of a flamingo", "A photo of pad thai, a type of food."]


@pytest.mark.parametrize(
    "text,core,suffix,content",
    [("This", "This", "", False), ("A", "A", "", False), ("food.", "food", ".", True), ("thai,", "thai", ",", True),
     ("(cat)", "cat", ")", True), ("737-200", "737-200", "", False), ("{}.", "", "", False), ("X", "X", "", False),
     ("Café,", "Café", ",", True), ("cafe\u0301", "cafe", "\u0301", True), ("T-shirt", "T-shirt", "", False),
     ("дом.", "дом", ".", True), ("犬", "犬", "", False), ("o'", "o", "'", False), ("💐", "", "", False)],
)  # fmt: skip
def test_words_are_split_from_their_punctuation(text, core, suffix, content):
    """Trap X2: stop words whatever their case, and no full stop stuck to the last word."""
    (word,) = split_words(text)
    assert word.prefix + word.core + word.suffix == text
    assert (word.core, word.is_content) == (core, content)
    assert word.suffix == suffix or not core


def test_substitution_keeps_the_rest_of_the_prompt():
    assert substitute("A photo of pad thai, a type of food.", 4, "laotian") == "A photo of pad laotian, a type of food."
    assert substitute("Photo of it.", 0, "picture") == "Picture of it."
    assert substitute("Une photo d' un Éléphant !", 4, "âne") == "Une photo d' un Âne !"
    assert (
        substitute_all("A photo of pad thai, a type of food.", {8: "meal", 4: "laotian"})
        == "A photo of pad laotian, a type of meal."
    )


def test_a_slow_obvious_search_finds_the_same_prompts(embedded):
    """One prompt, one position, one candidate at a time, through open_clip's own text encoder at full length."""
    table = embedded_table("eval")

    def encode(prompt):
        with torch.no_grad():
            return torch.nn.functional.normalize(embedded.clip.encode_text(embedded.tokenizer([prompt])), dim=-1)[0]

    expected = []
    for prompt in PROMPTS:
        best, best_distance = prompt, -1.0
        for position, word in enumerate(prompt.split()):
            core = word.strip(".,").lower()
            if core in ("this", "is", "a", "of"):
                continue
            for candidate in table.get(core, []):
                words = prompt.split()
                words[position] = word.replace(word.strip(".,"), candidate)
                distance = 1 - float(encode(" ".join(words)) @ encode(prompt))
                if distance > best_distance + 1e-6:
                    best, best_distance = " ".join(words), distance
        expected.append(best)
    attack = attack_prompts(embedded, PROMPTS, ThreatModel())
    # `thai` is not in the table and falls back to neighbours; the slow loop covers the table alone
    known = [i for i, prompt in enumerate(PROMPTS) if all(w.core.lower() in table for w in split_words(prompt) if w.is_content)]
    assert len(known) >= 2
    assert [attack.prompts[i] for i in known] == [expected[i] for i in known]


def test_exactly_one_word_changes_and_the_record_says_which(embedded, birds):
    attack = attack_prompts(embedded, birds.prompts, ThreatModel())
    for prompt, adversarial, change in zip(birds.prompts, attack.prompts, attack.changes, strict=True):
        before, after = prompt.split(), adversarial.split()
        different = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
        assert different == ([change["position"]] if change["changed"] else [])
        if change["changed"]:
            assert after[change["position"]] == change["new_word"] and before[change["position"]] == change["old_word"]
            assert change["new_word"] in CandidateTable("table:eval", lambda: embedded)(change["old_word"].lower())[0]
            assert change["score"] > 0
    assert attack.share_changed > 90


def test_no_class_becomes_another_class():
    """Trap X5."""
    prompts = ["a photo of a violin", "a photo of a fiddle"]
    table = {"violin": ["fiddle", "cello"], "fiddle": ["violin"]}
    variants = enumerate_variants(prompts, lambda word, *place: (table.get(word, []), "test"))
    assert variants.texts == ["a photo of a cello"]
    assert variants.collisions == [1, 1]


def test_prompts_without_candidates_stay_as_they_are(tiny):
    attack = search(tiny, enumerate_variants(["of a", "a cat"], lambda word, *place: ([], "test")))
    assert attack.prompts == ["of a", "a cat"] and attack.share_changed == 0
    assert not any(change["changed"] for change in attack.changes)


def test_variants_of_some_prompts_are_those_of_the_whole(embedded):
    table = CandidateTable("table:eval")
    whole = enumerate_variants(PROMPTS, table)
    part = whole.of([PROMPTS[2], PROMPTS[0]])
    direct = enumerate_variants([PROMPTS[2], PROMPTS[0]], table)
    assert part.texts == direct.texts and part.owner.tolist() == direct.owner.tolist()


def words_of(table):
    """A candidate source that knows the words of a dict."""
    return lambda word, *place: (table.get(word, []), "test")


TABLE = {
    "photo": ["picture", "cat", "violin"],
    "violin": ["fiddle", "cello"],
    "red": ["blue", "old"],
    "fiddle": ["violin", "bow"],
}
SMALL = ["a photo of a red violin", "a photo of a red fiddle", "a red photo"]


def brute_force(model, prompts, table, budget, positions=None, floor=None):
    """Per prompt, the farthest of all prompts with 1 to `budget` words replaced, spelled out and encoded one by one."""

    def encode(prompt):
        with torch.no_grad():
            return model.clip.encode_text(model.tokenizer([prompt]), normalize=True)[0]

    best = []
    for index, prompt in enumerate(prompts):
        options = [[word, *table.get(word, [])] for word in prompt.split()]
        scored = []
        for words in itertools.product(*options):
            changed = [i for i, (old, new) in enumerate(zip(prompt.split(), words, strict=True)) if old != new]
            allowed = positions is None or set(changed) <= set(positions[index])
            if not changed or len(changed) > budget or not allowed or " ".join(words) in prompts:
                continue
            distance = 1 - float(encode(" ".join(words)) @ encode(prompt))
            if floor is None or 1 - distance >= floor:
                scored.append((distance, " ".join(words)))
        best.append(max(scored, default=(0.0, prompt)))
    return best


@pytest.mark.parametrize("budget", [1, 2, 3])
def test_a_beam_that_keeps_all_is_brute_force(embedded, budget):
    threat = ThreatModel(text_budget=budget, beam=10000)
    attack = search(embedded, enumerate_variants(SMALL, words_of(TABLE)), threat)
    expected = brute_force(embedded, SMALL, TABLE, budget)
    assert attack.prompts == [prompt for _, prompt in expected]
    assert [change["score"] for change in attack.changes] == pytest.approx([distance for distance, _ in expected], abs=1e-5)
    for prompt, change in zip(SMALL, attack.changes, strict=True):
        assert 1 <= len(change["edits"]) <= budget
        spelled = substitute_all(prompt, {edit["position"]: edit["new_word"] for edit in change["edits"]})
        assert spelled == change["adversarial_prompt"]
        assert {key: change[key] for key in change["edits"][0]} == change["edits"][0]


def test_more_words_or_a_wider_beam_never_score_less(embedded, birds):
    def scores(**changes):
        attack = attack_prompts(embedded, birds.prompts, ThreatModel(**changes))
        for prompt, adversarial in zip(birds.prompts, attack.prompts, strict=True):
            different = sum(a != b for a, b in zip(prompt.split(), adversarial.split(), strict=True))
            assert different <= changes.get("text_budget", 1)
        return torch.tensor([change["score"] for change in attack.changes])

    one = scores()
    narrow, wide = (scores(text_budget=2, beam=beam) for beam in (1, 10))
    assert (narrow >= one).all() and (wide >= narrow - 1e-6).all() and (wide > one).any()


def test_a_floor_of_similarity_holds_in_the_frozen_model(embedded, tiny):
    threat = ThreatModel(text_budget=2, beam=10000, min_similarity=0.75)
    floor = Floor(embedded.encode_text, 0.75)
    attack = search(embedded, enumerate_variants(SMALL, words_of(TABLE), floor=floor), threat)
    free = search(embedded, enumerate_variants(SMALL, words_of(TABLE)), threat)
    for change, without in zip(attack.changes, free.changes, strict=True):
        assert change["similarity"] >= 0.75 and change["similarity"] == pytest.approx(1 - change["score"], abs=1e-5)
        assert without["similarity"] is None
    assert attack.prompts != free.prompts
    assert [change["score"] for change in attack.changes if change["changed"]]
    # measured in the frozen model, whatever the attacked one
    other = attack_prompts(tiny, SMALL, threat.changed(text_budget=1, min_similarity=0.9), lambda: embedded)
    for prompt, change in zip(SMALL, other.changes, strict=True):
        with torch.no_grad():
            before, after = embedded.encode_text([prompt, change["adversarial_prompt"]])
        assert float(before @ after) == pytest.approx(change["similarity"], abs=1e-5) and change["similarity"] >= 0.9
    nothing = attack_prompts(embedded, SMALL, threat.changed(min_similarity=1.0))
    assert nothing.prompts == SMALL and all(change["similarity"] == 1 for change in nothing.changes)


def test_single_words_under_a_floor_are_brute_force(embedded):
    attack = search(embedded, enumerate_variants(SMALL, words_of(TABLE), floor=Floor(embedded.encode_text, 0.8)))
    assert attack.prompts == [prompt for _, prompt in brute_force(embedded, SMALL, TABLE, 1, floor=0.8)]


@pytest.mark.parametrize(
    "prompts,names,expected",
    [
        (["A photo of pad thai, a type of food.", "A photo of food, a type of food."], ["Pad_Thai", "food"], [[3, 4], [3]]),
        (["This is a photo of a photo", "This is a photo of a cat"], ["photo", "cat"], [[6], [6]]),
        (["a photo of a polar bear", "a photo of a brown bear"], ["polar-bear", "brown-bear"], [[4, 5], [4, 5]]),
        (["A photo of a Boeing 737-200, a type of aircraft."], ["Boeing 737-200"], [[4]]),
        (["a photo of a cat", "a photo of a cat"], ["cat", "cat"], [[4], [4]]),
        # a rule of the data set spelled the name otherwise: what differs between the prompts
        (["a photo of healthy tissue.", "a photo of tumor tissue."], ["normal", "cancer"], [[3], [3]]),
        (["a photo of healthy tissue.", "a photo of tumor tissue."], None, [[3], [3]]),
    ],
)
def test_words_of_the_class_name(prompts, names, expected):
    """Trap E3: not the last word of the prompt."""
    assert class_name_positions(prompts, names) == expected


def test_a_class_name_that_cannot_be_told_is_refused():
    with pytest.raises(UserError, match="cannot tell the class name"):
        class_name_positions(["a photo of a cat"], ["dog"])


def test_only_the_class_name_changes(embedded, birds):
    threat = ThreatModel(attackable="class_name", text_budget=2)
    attack = attack_prompts(embedded, birds.prompts, threat, class_names=birds.class_names)
    assert attack.share_changed > 90
    for prompt, adversarial in zip(birds.prompts, attack.prompts, strict=True):
        assert adversarial.split()[:6] == prompt.split()[:6] and len(adversarial.split()) == len(prompt.split())
    assert all(edit["position"] >= 6 for change in attack.changes for edit in change["edits"])
    positions = class_name_positions(SMALL[:2], ["violin", "fiddle"])
    found = search(embedded, enumerate_variants(SMALL[:2], words_of(TABLE), positions))
    assert found.prompts == [prompt for _, prompt in brute_force(embedded, SMALL[:2], TABLE, 1, positions)]


def test_classes_that_share_a_prompt_share_the_result(embedded):
    """Trap E4."""
    attack = attack_prompts(embedded, [PROMPTS[1], PROMPTS[0], PROMPTS[1]], ThreatModel())
    alone = attack_prompts(embedded, PROMPTS[:2], ThreatModel())
    assert attack.prompts == [alone.prompts[1], alone.prompts[0], alone.prompts[1]]
    assert attack.changes[0] == attack.changes[2] and attack.changes[0]["collisions_avoided"] == 0


def test_blocks_change_nothing_and_runs_repeat(embedded, birds, monkeypatch):
    pictures = LabelledFeatures(embedded.encode_image(birds.images.float() / 255), birds.labels)
    for threat in (ThreatModel(text_budget=2), ThreatModel(text_score="margin")):
        whole = attack_prompts(embedded, birds.prompts, threat, attacker=pictures, greedy=False)
        again = attack_prompts(embedded, birds.prompts, threat, attacker=pictures, greedy=False)
        assert whole == again
        with monkeypatch.context() as patch:
            patch.setattr(text_module, "BLOCK", 5)
            assert attack_prompts(embedded, birds.prompts, threat, attacker=pictures, greedy=False).prompts == whole.prompts


def right(model, prompts, pictures):
    with torch.no_grad():
        return int(((pictures.features @ model.encode_text(prompts).T).argmax(dim=1) == pictures.labels).sum())


def test_margin_breaks_more_of_the_attackers_pictures_than_embedding(embedded, birds):
    pictures = LabelledFeatures(embedded.encode_image(birds.images.float() / 255), birds.labels)
    by = {
        score: attack_prompts(embedded, birds.prompts, ThreatModel(text_score=score), attacker=pictures)
        for score in ("embedding", "margin")
    }
    still = {score: right(embedded, attack.prompts, pictures) for score, attack in by.items()}
    assert still["margin"] < still["embedding"] <= right(embedded, birds.prompts, pictures)
    wrong = max(change["score"] for change in by["margin"].changes)
    assert int(wrong * len(pictures.labels)) == len(pictures.labels) - still["margin"]
    # two words lose nothing of it
    two = attack_prompts(embedded, birds.prompts, ThreatModel(text_score="margin", text_budget=2, beam=3), attacker=pictures)
    assert right(embedded, two.prompts, pictures) <= still["margin"]


def test_margin_in_blocks_goes_on_with_the_prompts_that_were_settled(embedded, birds, monkeypatch):
    """The score of a prompt is what is measured once it and those before it are changed; a prompt may stand twice."""
    monkeypatch.setattr(text_module, "BLOCK", 1)
    prompts = [*birds.prompts, birds.prompts[3]]
    labels = torch.where(birds.labels == 3, torch.arange(len(birds)) % 2 * (len(prompts) - 4) + 3, birds.labels)
    pictures = LabelledFeatures(embedded.encode_image(birds.images.float() / 255), labels)
    attack = attack_prompts(embedded, prompts, ThreatModel(text_score="margin"), attacker=pictures)
    assert attack.prompts[-1] == attack.prompts[3] and {0, 3, len(prompts) - 1} <= set(labels.tolist())
    for index, change in enumerate(attack.changes[: len(birds.prompts)]):
        settled = [*attack.prompts[: index + 1], *birds.prompts[index + 1 :]]
        wrong = len(birds) - right(embedded, settled, LabelledFeatures(pictures.features, birds.labels))
        assert int(change["score"] * len(birds)) == wrong


def test_margin_starts_from_the_prompts_as_they_are(embedded, birds):
    """A prompt that answers the others as they are now need not answer their clean prompts."""
    pictures = LabelledFeatures(embedded.encode_image(birds.images.float() / 255), birds.labels)
    threat = ThreatModel(text_score="margin")
    moved = F.normalize(embedded.encode_text(birds.prompts) + 0.1, dim=-1)
    once = attack_prompts(embedded, birds.prompts, threat, attacker=pictures, current=moved, greedy=False)
    clean = attack_prompts(embedded, birds.prompts, threat, attacker=pictures, greedy=False)
    assert once.prompts != clean.prompts
    table = CandidateTable("table:eval", lambda: embedded)
    index = next(i for i, change in enumerate(once.changes) if change["changed"])
    shares = []
    for text in [birds.prompts[index], *enumerate_variants(birds.prompts, table).of([birds.prompts[index]]).texts]:
        columns = moved.clone()
        columns[index] = embedded.encode_text([text])[0]
        shares.append(float(((pictures.features @ columns.T).argmax(dim=1) != pictures.labels).float().mean()))
    assert int(once.changes[index]["score"] * len(birds)) == round(max(shares) * len(birds))


def test_labels_of_pictures_must_name_prompts(embedded):
    pictures = LabelledFeatures(torch.eye(3, 128), torch.tensor([0, 1, 5]))
    with pytest.raises(UserError, match=r"must lie in \[0, 2\]"):
        attack_prompts(embedded, PROMPTS, ThreatModel(text_score="margin"), attacker=pictures)
    with pytest.raises(UserError, match="needs labelled pictures"):
        attack_prompts(embedded, PROMPTS, ThreatModel(text_score="margin"))
    with pytest.raises(UserError, match="empty list of prompts"):
        attack_prompts(embedded, [], ThreatModel())


def test_a_batch_of_one_prompt(embedded):
    attack = attack_prompts(embedded, PROMPTS[:1], ThreatModel(text_budget=2))
    assert attack.prompts[0] != PROMPTS[0] and len(attack.changes) == 1
    pictures = LabelledFeatures(F.normalize(torch.ones(2, 128), dim=-1), torch.zeros(2, dtype=torch.int64))
    assert attack_prompts(embedded, PROMPTS[:1], ThreatModel(text_score="margin"), attacker=pictures).prompts


def test_given_tokens_are_used(embedded):
    variants = enumerate_variants(PROMPTS, CandidateTable("table:eval"))
    tokens = replace(variants, tokens=embedded.tokenizer(variants.texts))
    assert search(embedded, tokens) == search(embedded, variants)
    part = tokens.of([PROMPTS[1]])
    assert torch.equal(part.tokens, embedded.tokenizer(part.texts))

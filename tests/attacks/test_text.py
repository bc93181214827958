import json

import pytest
import torch

from mmcoa.attacks.candidates import CandidateTable, Neighbours, caption_table, embedded_table
from mmcoa.attacks.text import attack_prompts, enumerate_variants, search
from mmcoa.attacks.words import split_words, substitute
from mmcoa.errors import UserError
from mmcoa.threat import ThreatModel

PROMPTS = ["This is a photo of a parrot", "This is a photo of a flamingo", "A photo of pad thai, a type of food."]


@pytest.mark.parametrize(
    "text,core,suffix,content",
    [("This", "This", "", False), ("A", "A", "", False), ("food.", "food", ".", True), ("thai,", "thai", ",", True),
     ("(cat)", "cat", ")", True), ("737-200", "737-200", "", False), ("{}.", "", "", False), ("X", "X", "", False)],
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
    variants = enumerate_variants(prompts, lambda word: (table.get(word, []), "test"))
    assert variants.texts == ["a photo of a cello"]
    assert variants.collisions == [1, 1]


def test_prompts_without_candidates_stay_as_they_are(tiny):
    attack = search(tiny, enumerate_variants(["of a", "a cat"], lambda word: ([], "test")))
    assert attack.prompts == ["of a", "a cat"] and attack.share_changed == 0
    assert not any(change["changed"] for change in attack.changes)


def test_variants_of_some_prompts_are_those_of_the_whole(embedded):
    table = CandidateTable("table:eval")
    whole = enumerate_variants(PROMPTS, table)
    part = whole.of([PROMPTS[2], PROMPTS[0]])
    direct = enumerate_variants([PROMPTS[2], PROMPTS[0]], table)
    assert part.texts == direct.texts and part.owner.tolist() == direct.owner.tolist()


def test_defences_and_results_share_no_substitution():
    train, held_out = embedded_table("train"), embedded_table("eval")
    assert not any(set(train.get(word, [])) & set(candidates) for word, candidates in held_out.items())
    assert len(held_out) > 1500
    assert set(caption_table()["photo"]) == {*train["photo"], *held_out["photo"]}
    assert all(set(words) <= set(held_out[word]) for word, words in embedded_table("synonyms").items())


def test_neighbours_are_whole_words_near_in_the_embedding(embedded):
    near = Neighbours(embedded)
    found = near("train")
    assert 0 < len(found) <= 10 and "train" not in found and "trains" not in found
    unit = torch.nn.functional.normalize(embedded.clip.token_embedding.weight, dim=-1)
    token = {word: int(embedded.tokenizer([word])[0][1]) for word in [*found, "train"]}
    similarity = [float(unit[token[word]] @ unit[token["train"]]) for word in found]
    assert similarity == sorted(similarity, reverse=True)
    everything = sorted((float(unit[i] @ unit[token["train"]]) for i in near.words.values()), reverse=True)
    assert similarity[-1] >= everything[10 + 3]  # at most the word, its plural and their like were left out


def test_unknown_words_fall_back_to_neighbours_of_the_frozen_model(embedded):
    candidates, source = CandidateTable("table:eval", lambda: embedded)("zyzzyva")
    assert source == "neighbours" and candidates
    assert CandidateTable("table:eval")("zyzzyva") == ([], "none")


def test_a_table_from_disk(tmp_path, tiny):
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"parrot": ["bird"], "photo": []}))
    attack = attack_prompts(tiny, PROMPTS[:1], ThreatModel(candidate_source=str(path)))
    assert attack.changes[0]["source"] == str(path) and attack.prompts == ["This is a photo of a bird"]
    path.write_text("{")
    with pytest.raises(UserError, match="damaged candidate table"):
        CandidateTable(str(path))
    with pytest.raises(UserError, match="no candidate table"):
        CandidateTable(str(tmp_path / "absent.json"))
    with pytest.raises(UserError, match="nearest: table:eval"):
        CandidateTable("table:evla")

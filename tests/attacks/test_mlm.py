"""Candidates of a masked language model, read at the word's own place."""

import itertools
import json
import string
from types import SimpleNamespace

import pytest
import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import BertConfig, BertForMaskedLM, BertModel, BertTokenizerFast, PreTrainedTokenizerFast

from mmcoa.attacks import mlm
from mmcoa.attacks.candidates import CandidateTable
from mmcoa.attacks.text import attack_prompts
from mmcoa.attacks.words import STOP_WORDS
from mmcoa.cache import cache_folder
from mmcoa.errors import UserError
from mmcoa.threat import ThreatModel

PLACES = [f"place{letter}" for letter in string.ascii_lowercase]  # a word for each position that logits can be read at
WORDS = [
    "this",
    "is",
    "a",
    "an",
    "the",
    "photo",
    "of",
    "red",
    "blue",
    "cat",
    "dog",
    "par",
    "flam",
    "tree",
    "house",
    "ship",
    "7",
    "42",
]
PIECES = ["##rot", "##ingo", "##ty", "##ing", "##er", "##s", "##x", "##7"]
VOCABULARY = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    ".",
    ",",
    "!",
    *WORDS,
    *PIECES,
    *PLACES,
    *(f"##{word}" for word in PLACES),
]
PROMPTS = ["This is a photo, of a red parrot.", "a cat", "A photo of the blue flamingo and a tree!"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MMCOA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """Folder of a random BERT with a small vocabulary."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    save_bert(folder, BertForMaskedLM, seed=0)
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def save_bert(folder, kind, seed):
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    config = BertConfig(vocab_size=len(VOCABULARY), max_position_embeddings=64, initializer_range=1.0, **sizes)
    kind(config).save_pretrained(folder)


def slow_candidates(folder, prompt, place, pieces=1):
    """The k likeliest combinations of `pieces` tokens at token `place` of one prompt, all combinations multiplied out."""
    model, tokenizer = BertForMaskedLM.from_pretrained(folder).eval(), BertTokenizerFast.from_pretrained(folder)
    with torch.no_grad():
        probability = model(**tokenizer(prompt, return_tensors="pt")).logits[0].double().softmax(dim=-1)
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(prompt)["input_ids"])
    itself = "".join(token.removeprefix("##") for token in tokens[place : place + pieces])
    options = [
        [(VOCABULARY[i], p) for p, i in zip(*map(list, probability[place + n].topk(10)), strict=True)] for n in range(pieces)
    ]
    found = []
    for combination in itertools.product(*options):
        first, *rest = [token for token, _ in combination]
        word = first + "".join(token[2:] for token in rest)
        fits = not first.startswith("##") and all(token.startswith("##") for token in rest) and word.isalpha()
        if fits and word not in STOP_WORDS and word != itself and len(word) > 1:
            found.append((-float(torch.stack([p for _, p in combination]).prod()), word))
    return [word for _, word in sorted(found)][:10]


def test_candidates_are_the_models_at_the_words_own_place(bert):
    table = CandidateTable(f"mlm:{bert}", prompts=PROMPTS)
    # tokens: [CLS] this is a photo , of a red par ##rot . [SEP]
    for word, position, place, pieces in [("photo", 3, 4, 1), ("red", 6, 8, 1), ("parrot", 7, 9, 2)]:
        candidates, source = table(word, PROMPTS[0], position)
        assert candidates == slow_candidates(bert, PROMPTS[0], place, pieces) and source == f"mlm:{bert}"
        assert candidates and len(set(candidates)) == len(candidates) <= 10
        assert all(c.isalpha() and c not in STOP_WORDS and c != word for c in candidates)
    assert table("cat", PROMPTS[1], 1)[0] == slow_candidates(bert, PROMPTS[1], 2)
    assert table("flamingo", PROMPTS[2], 5)[0] == slow_candidates(bert, PROMPTS[2], 6, 2)
    later = "the red house"  # not among the prompts that were announced
    assert table("house", later, 2)[0] == slow_candidates(bert, later, 3)


def test_words_of_several_pieces_can_be_left_alone(bert):
    table = CandidateTable(f"mlm:{bert},whole", prompts=PROMPTS)
    assert table("parrot", PROMPTS[0], 7)[0] == []
    assert table("red", PROMPTS[0], 6)[0] == slow_candidates(bert, PROMPTS[0], 8)
    with pytest.raises(UserError, match="only ',whole'"):
        CandidateTable(f"mlm:{bert},half")


def test_every_word_is_read_at_its_own_place(bert, monkeypatch):
    """Trap X1: logits that name the token they were read at; a shift by one names the neighbour."""
    _, tokenizer = mlm._load(bert)

    def model(input_ids, **others):
        logits = torch.zeros(*input_ids.shape, len(VOCABULARY))
        for place in range(input_ids.shape[1]):
            logits[:, place, VOCABULARY.index(PLACES[place])] = 9.0
            logits[:, place, VOCABULARY.index(f"##{PLACES[place]}")] = 8.0
        return SimpleNamespace(logits=logits)

    monkeypatch.setattr(mlm, "_load", lambda folder: (model, tokenizer))
    table = CandidateTable(f"mlm:{bert}", prompts=PROMPTS)
    first = {}
    for prompt, words in zip(
        PROMPTS, [["photo,", "red", "parrot."], ["cat"], ["photo", "blue", "flamingo", "tree!"]], strict=True
    ):
        for word in words:
            position = prompt.split().index(word)
            first[word] = table(word.strip(".,!"), prompt, position)[0][0]
    # [CLS] this is a photo , of a red par ##rot . | [CLS] a cat | [CLS] a photo of the blue flam ##ingo [UNK] a tree !
    assert first == {
        "photo,": PLACES[4], "red": PLACES[8], "parrot.": PLACES[9] + PLACES[10], "cat": PLACES[2],
        "photo": PLACES[2], "blue": PLACES[5], "flamingo": PLACES[6] + PLACES[7], "tree!": PLACES[10],
    }  # fmt: skip


def test_a_model_whose_tokens_mark_the_beginning_of_a_word(tmp_path):
    """RoBERTa's byte-level BPE: no `##`, and the space belongs to the word."""
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(["a photo of a red parrot and a blue flamingo, a photo of a tree."] * 3, vocab_size=320)
    fast = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, pad_token="!", unk_token="$")
    fast.save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BertForMaskedLM(BertConfig(vocab_size=len(fast), max_position_embeddings=64, initializer_range=1.0, **sizes)).eval()
    words = fast.convert_tokens_to_ids(["Ġred", "Ġblue", "Ġtree"])  # ids differ from training to training of a tokenizer
    model.cls.predictions.bias.data[words] = 50.0
    model.save_pretrained(tmp_path)
    prompt = "a photo, of a parrot"
    tokens = fast.tokenize(prompt)
    assert tokens[:3] == ["a", "Ġphoto", ","]
    with torch.no_grad():
        top = model(**fast(prompt, return_tensors="pt")).logits[0, 1].topk(10).indices.tolist()
    spelled = [token[1:] for token in fast.convert_ids_to_tokens(top) if token.startswith("Ġ")]
    expected = [word for word in spelled if word.isalpha() and len(word) > 1 and word not in STOP_WORDS and word != "photo"]
    assert CandidateTable(f"mlm:{tmp_path}", prompts=[prompt])("photo", prompt, 1)[0] == expected
    assert set(expected) >= {"red", "blue", "tree"}


def test_batches_change_nothing(bert, monkeypatch):
    whole = mlm.prompt_table(bert, PROMPTS)
    monkeypatch.setattr(mlm, "BATCH", 1)
    assert mlm._read_prompts(*mlm._load(bert), PROMPTS, False) == whole


def test_the_table_is_computed_once(bert, cache, tmp_path, monkeypatch):
    loads = []
    load = mlm._load
    monkeypatch.setattr(mlm, "_load", lambda folder: loads.append(folder) or load(folder))
    table = mlm.prompt_table(bert, PROMPTS)
    assert mlm.prompt_table(bert, PROMPTS) == table and len(loads) == 1
    (entry,) = cache_folder().rglob("*.json")
    assert cache in entry.parents
    for damage in ("{", "[]", json.dumps({"key": {}, "value": {}})):
        entry.write_text(damage)
        assert mlm.prompt_table(bert, PROMPTS) == table
        assert mlm.prompt_table(bert, PROMPTS) == table
    assert len(loads) == 4
    mlm.prompt_table(bert, PROMPTS[:2])
    mlm.prompt_table(bert, PROMPTS, whole=True)
    assert len(loads) == 6 and not list(cache.rglob(".*"))
    # other weights in a folder of the same name: trap T6
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in bert.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert mlm.prompt_table(copy, PROMPTS) == table and len(loads) == 6
    save_bert(copy, BertForMaskedLM, seed=1)
    assert mlm.prompt_table(copy, PROMPTS) != table and len(loads) == 7


def test_a_cache_that_cannot_be_written_costs_time_only(bert, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MMCOA_CACHE", str(tmp_path / "file"))
    assert mlm.prompt_table(bert, PROMPTS)


def test_the_attack_takes_them(bert, tiny):
    source = f"mlm:{bert}"
    attack = attack_prompts(tiny, PROMPTS, ThreatModel(candidate_source=source, text_budget=2, beam=3))
    assert attack.share_changed == 100
    for change in attack.changes:
        for edit in change["edits"]:
            candidates = CandidateTable(source)(edit["old_word"].lower(), change["prompt"], edit["position"])[0]
            assert edit["new_word"] in candidates and edit["source"] == source


@pytest.mark.parametrize("source", ["mlm", "mlm:distilbert-base-uncased", "mlm:nobody/nothing"])
def test_without_a_network_the_user_learns_what_to_do(source):
    with pytest.raises(
        UserError, match=r"offline mode is on.*hf download .*mlm:FOLDER.*table:eval, neighbours, characters"
    ) as error:
        CandidateTable(source, prompts=PROMPTS)
    assert "\n" not in str(error.value)


def test_folders_that_hold_no_masked_language_model(bert, tmp_path):
    with pytest.raises(UserError, match="no folder"):
        CandidateTable("mlm:./absent", prompts=PROMPTS)
    with pytest.raises(UserError, match="it needs config.json, model.safetensors"):
        CandidateTable(f"mlm:{tmp_path}", prompts=PROMPTS)
    for file in bert.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_bert(tmp_path, BertModel, seed=0)
    with pytest.raises(UserError, match="holds no masked language model"):
        CandidateTable(f"mlm:{tmp_path}", prompts=PROMPTS)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged language model"):
        CandidateTable(f"mlm:{tmp_path}", prompts=PROMPTS)
    with pytest.raises(UserError, match="a word by itself has no candidates"):
        CandidateTable(f"mlm:{bert}")("cat")

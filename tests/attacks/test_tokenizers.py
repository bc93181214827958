"""The text attack behind any tokenizer: sentencepiece's (SigLIP), byte-level BPE (RoBERTa), one without whole words."""

import pytest
import torch
from open_clip.tokenizer import HFTokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import mmcoa
from mmcoa.attacks.candidates import CandidateTable, NoNeighbours
from mmcoa.attacks.text import attack_prompts
from mmcoa.errors import UserError
from mmcoa.model.build import build
from mmcoa.model.clip import ImageTextModel, check_prompts
from mmcoa.threat import ThreatModel

WORDS = ["this", "is", "a", "photo", "of", "dog", "violin", "zyzzyva", "qwertz", "house", "river", "stone", "cloud"]
MARKS = {"sentencepiece": "▁", "bytes": "Ġ", "letters": ""}
LENGTH = 12


def tokenizer(folder, kind):
    """Whole words with their mark; end token and padding are one, as SigLIP has them, or two."""
    mark, special = MARKS[kind], ["</s>", "<unk>", "<s>", "<pad>"]
    known = {token: i for i, token in enumerate([*special, *(f"{mark}{word}" for word in WORDS)])}
    if kind == "letters":
        known = {token: i for i, token in enumerate([*special, *"abcdefghijklmnopqrstuvwxyz"])}
    plain = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    plain.pre_tokenizer = {
        "sentencepiece": pre_tokenizers.Metaspace(),
        "bytes": pre_tokenizers.ByteLevel(add_prefix_space=True),
        "letters": pre_tokenizers.Split("", "isolated"),
    }[kind]
    start = "" if kind == "sentencepiece" else "<s> "
    ends = [(token, known[token]) for token in ("<s>", "</s>")]
    plain.post_processor = processors.TemplateProcessing(single=f"{start}$A </s>", special_tokens=ends)
    padding = "</s>" if kind == "sentencepiece" else "<pad>"
    made = PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token="</s>", bos_token="<s>", unk_token="<unk>", pad_token=padding
    )
    made.save_pretrained(folder)
    return HFTokenizer(str(folder), context_length=LENGTH)


def drawn(folder, kind):
    """A small model of SigLIP's kind with that tokenizer."""
    torch.manual_seed(0)
    made = tokenizer(folder, kind)
    text = {"context_length": LENGTH, "vocab_size": 60, "width": 32, "heads": 2, "layers": 1, "pool_type": "last"}
    config = {
        "embed_dim": 16,
        "custom_text": True,
        "init_logit_bias": -10,
        "vision_cfg": {"image_size": 16, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": text | {"no_causal_mask": True, "proj_bias": True},
    }
    preprocess = {"size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}
    return ImageTextModel(build(config).eval(), made, kind, {"model_cfg": config, "preprocess_cfg": preprocess})


@pytest.fixture(scope="module", params=MARKS)
def model(request, tmp_path_factory):
    return drawn(tmp_path_factory.mktemp(request.param), request.param)


def test_words_that_no_table_knows(model):
    """Neighbours stand in where the tokenizer has whole words, and nothing where it has none; the shares say so."""
    prompts = ["a dog", "a zyzzyva", "a zyzzyva house"]
    attack = attack_prompts(model, prompts, ThreatModel(candidate_source="table:eval"))
    assert [change["known"] for change in attack.changes] == [True, False, True]
    assert attack.share_unknown == pytest.approx(100 / 3) and attack.changes[0]["source"] == "table:eval"
    assert attack.share_changed + attack.share_fallback == pytest.approx(sum(attack.share_by_relation.values()))
    if model.name == "letters":
        assert not attack.changes[1]["changed"] and attack.share_fallback == 0 < attack.share_changed
        with pytest.raises(NoNeighbours, match="whole words, which 'letters' lacks; use table:eval"):
            CandidateTable("neighbours", lambda: model)("dog")
        return
    assert attack.changes[1]["source"] == "neighbours" and attack.changes[1]["new_word"] in WORDS
    assert attack.share_fallback >= 100 / 3 and not attack.changes[1]["own"]
    near = CandidateTable("neighbours", lambda: model)("violin")[0]
    embedding = model.clip.text.token_embedding.weight.detach()
    token = {word: embedding[4 + i] for i, word in enumerate(WORDS)}
    distance = {word: float(torch.cosine_similarity(token["violin"], token[word], dim=0)) for word in WORDS}
    others = [word for word in WORDS if word not in ("violin", "this", "is", "a", "of")]
    assert near == sorted(others, key=lambda word: -distance[word])[:10]


def test_rows_say_what_the_source_could_not_touch(model, small_birds):
    """Not one word is replaced from elsewhere in silence."""
    from dataclasses import replace

    names = ["dog", "zyzzyva"]
    data = replace(small_birds, prompts=[f"a {name}" for name in names], class_names=names, labels=small_birds.labels % 2)
    rows = mmcoa.evaluate(model, data, ["text"], ThreatModel(steps=1))
    assert rows[0]["share_unknown"] == 50 and rows[0]["share_changed"] == 50
    assert rows[0]["share_fallback"] == (0 if model.name == "letters" else 50)
    stood = "nothing stood in" if model.name == "letters" else "neighbours in the frozen model's token embedding stood in"
    assert any(f"text: table:eval knows no word of 1 of 2 prompts; {stood}" in note for note in rows.notes)


def test_a_prompt_that_is_cut_is_said(model):
    """The longest that fits passes, one more token does not, whatever marks the end."""
    one = "a" if model.name == "letters" else "dog "
    ends = 1 if model.name == "sentencepiece" else 2
    check_prompts(model, ["a", one * (LENGTH - ends)])
    for more in (1, 2, 3 * LENGTH):
        with pytest.raises(UserError, match=rf"prompt of \d+ tokens, more than the {LENGTH} of '{model.name}'"):
            check_prompts(model, ["a", one * (LENGTH - ends + more)])

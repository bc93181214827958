"""Shared prefixes give the embeddings of `encode_text`, from as few tokens as there are distinct prefixes."""

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcoa.attacks import prefix
from mmcoa.attacks.candidates import CandidateTable
from mmcoa.attacks.prefix import build_tree, encode_texts, sorted_rows
from mmcoa.attacks.text import enumerate_variants
from mmcoa.model.clip import ImageTextModel
from mmcoa.model.towers import text_is_plain

TEXTS = enumerate_variants(
    [f"This is a photo of a {name}." for name in ("parrot", "car", "polar bear")], CandidateTable("table:eval")
).texts


def small_vit(**text_cfg):
    """ViT-B-32's architecture and tokenizer, two text layers, little width."""
    config = open_clip.get_model_config("ViT-B-32")
    config["vision_cfg"] |= {"layers": 1, "width": 64, "head_width": 32}
    config["text_cfg"] |= {"layers": 2, "width": 64, "heads": 4} | text_cfg
    torch.manual_seed(0)
    clip = open_clip.CLIP(**config | {"embed_dim": 32})
    preprocess = {"size": 224, "mean": [0.5] * 3, "std": [0.5] * 3}
    model = ImageTextModel(
        clip, open_clip.get_tokenizer("ViT-B-32"), "small", {"model_cfg": config, "preprocess_cfg": preprocess}
    )
    return model.eval()


@pytest.fixture(scope="module", params=["plain", "layer scale and projection with bias", "bfloat16"])
def vit(request):
    if request.param == "bfloat16":
        return small_vit().bfloat16()
    model = small_vit(**({} if request.param == "plain" else {"ls_init_value": 0.5, "proj_bias": True}))
    if request.param != "plain":
        torch.nn.init.normal_(model.clip.text_projection.bias)
    return model


def whole(model, texts):
    """Every text at full length through open_clip's own text encoder."""
    with torch.no_grad():
        return model.clip.encode_text(model.tokenizer(texts).to(model.device), normalize=True)


def test_equals_the_text_encoder(vit):
    found, expected = encode_texts(vit, TEXTS), whole(vit, TEXTS)
    assert text_is_plain(vit.clip) and found.dtype == expected.dtype
    assert (found - expected).abs().max() < (1e-5 if found.dtype == torch.float32 else 0.02)


def test_equals_the_text_encoder_of_the_embedded_model(embedded, tiny):
    texts = [*TEXTS, TEXTS[3], "", "cat", "a " * 60, "A Café, naïve?"]
    for model in (embedded, tiny):
        found = encode_texts(model, texts)
        assert (found - whole(model, texts)).abs().max() < 1e-5
        assert torch.equal(found[3], found[len(TEXTS)])  # the same tokens are one row


def test_batches_change_nothing(embedded, monkeypatch):
    expected = whole(embedded, TEXTS)
    calls = []
    monkeypatch.setattr(prefix, "build_tree", lambda *rows: calls.append(build_tree(*rows)) or calls[-1])
    for nodes in (8, 40):
        calls.clear()
        monkeypatch.setattr(prefix, "NODES", nodes)
        assert (encode_texts(embedded, TEXTS) - expected).abs().max() < 1e-5
        assert len(calls) > 2
        assert all(len(tree.tokens) <= nodes + 32 for tree in calls)  # at most a text more than the bound
    tokens = embedded.tokenizer(TEXTS)
    assert torch.equal(encode_texts(embedded, TEXTS, tokens), encode_texts(embedded, TEXTS))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(1, 3), max_size=5), min_size=1, max_size=12))
def test_a_tree_has_one_node_for_each_distinct_prefix(texts):
    end = 9  # the largest id, as CLIP has it; what stands behind it must not matter
    tokens = torch.tensor([[0, *text, end] + [i % end] * (5 - len(text)) for i, text in enumerate(texts)])
    rows, ends, inverse = sorted_rows(tokens)
    tree = build_tree(rows, ends)
    prefixes = {tuple(full[: n + 1]) for text in texts for full in [[0, *text, end]] for n in range(len(full))}
    assert len(tree.tokens) == len(prefixes)
    paths = {tuple(tree.tokens[path].tolist()) for _, _, group in tree.groups for path in group}
    assert paths == {(0, *text, end) for text in texts}
    for _, _, group in tree.groups:
        assert all(tree.positions[path].tolist() == list(range(len(path))) for path in group)
    back = [tuple(t for t in rows[i].tolist() if t >= 0) for i in inverse]
    assert back == [(0, *text, end) for text in texts]


def test_other_text_towers_are_encoded_whole(monkeypatch):
    monkeypatch.setattr(prefix, "TEXTS", {"cpu": 16})
    for changes in ({"pool_type": "last"}, {"no_causal_mask": True}):
        model = small_vit(**changes)
        assert not text_is_plain(model.clip)
        assert (encode_texts(model, TEXTS) - whole(model, TEXTS)).abs().max() < 1e-5


def test_no_gradient_is_kept(tiny):
    tiny.requires_grad_(True)
    assert not encode_texts(tiny, TEXTS[:3]).requires_grad

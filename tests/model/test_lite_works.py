"""What works on other models works on `lite-clip`: each part trained, a killed run, each source of words, attacks on both
modalities, bf16, files for others. Most of it holds for drawn weights as for the packages'."""

from dataclasses import replace

import open_clip
import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

import mmcoa
from mmcoa.attacks.candidates import CandidateTable
from mmcoa.attacks.prefix import encode_texts
from mmcoa.attacks.text import attack_prompts, enumerate_variants
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.errors import UserError
from mmcoa.model.export import export
from mmcoa.model.loading import load_model
from mmcoa.threat import ThreatModel
from mmcoa.training.config import TrainConfig
from mmcoa.training.loop import train
from tests.attacks.test_candidates import DATA, INDEX
from tests.model.conftest import PIECES, TEXT_TOWER

THREAT = ThreatModel(epsilon="1/255", steps=1, candidate_source="table:train")
PROMPTS = ["This is a photo of a cat", "This is a photo of a red violin", "a dog"]
LONG = "a photo of the great white shark and " * 8


def tune(folder, birds, output, source=None, **settings):
    """Two steps of MMCoA on 21 pictures, unless `settings` say more; returns the model."""
    model = load_model(str(folder))
    config = TrainConfig(**{"steps": 2, "batch_size": 4, "lr": 1e-3, "warmup": 1, "held_out": 0} | settings)
    train(model, source or ShuffledDataset(birds.prefix(21), 4, 0), "mmcoa", config, output, threat=THREAT)
    return model


def assert_is_plain_open_clip(model, folder):
    """Equal on pictures and on prompts of any length, and so are texts that are encoded together by length."""
    plain, tokenizer = open_clip.create_model(f"local-dir:{folder}").eval(), open_clip.get_tokenizer(f"local-dir:{folder}")
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    prompts = ["cat", LONG, *PROMPTS]
    with torch.no_grad():
        images = plain.encode_image((pixels - 0.5) / 0.5, normalize=True)
        texts = torch.cat([plain.encode_text(tokenizer([prompt]), normalize=True) for prompt in prompts])
        assert torch.allclose(model.encode_image(pixels), images, rtol=0, atol=1e-5)
        for encoded in (model.encode_text(prompts), encode_texts(model, prompts)):
            assert torch.allclose(encoded, texts, rtol=0, atol=1e-5)


IMAGE_END = ("visual.trunk.blocks.6.", "visual.trunk.conv_head", "visual.trunk.bn2", "visual.head")


@pytest.mark.parametrize(
    "settings, still, moved",
    [
        ({"precision": "bf16"}, (), ("visual.trunk.conv_stem", *IMAGE_END, "text.transformer.embeddings", "text.proj")),
        ({"last_blocks": 1}, ("visual.trunk.blocks.5.", "text.transformer.encoder.layer.0."), (*IMAGE_END, "text.proj")),
        ({"lora_rank": 2, "trains": "text"}, ("visual.", "text.proj", "text.transformer.embeddings"), ("text.transformer",)),
    ],
)
def test_what_is_trained_moves_and_no_statistics_do(lite, birds, tmp_path, settings, still, moved):
    before = load_model(str(lite)).clip.state_dict()
    model = tune(lite, birds, tmp_path / "tuned", **settings)
    after = model.clip.state_dict()
    assert before.keys() == after.keys()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    statistics = {f"{name}.running_{what}" for name, m in model.clip.named_modules() for what in ("mean", "var") if is_norm(m)}
    assert len(statistics) > 90 and not statistics & changed and statistics < after.keys()
    assert not [name for name in changed if name.startswith(still)] or not still
    assert all(any(name.startswith(part) for name in changed) for part in moved)
    assert_is_plain_open_clip(model, tmp_path / "tuned")


def is_norm(module):
    return isinstance(module, nn.BatchNorm2d)


def test_low_rank_changes_of_the_image_tower_are_refused(lite, birds, tmp_path):
    with pytest.raises(UserError, match=r"LoRA needs transformer blocks, which a tower of .* lacks"):
        tune(lite, birds, tmp_path / "tuned", lora_rank=2)


def test_a_killed_run_ends_in_the_same_bits(lite, birds, tmp_path):
    source = ShuffledDataset(birds.prefix(21), 4, 0)
    whole = tune(lite, birds, tmp_path / "whole", source, steps=3)

    def dying(step):
        if step == 2:
            raise InterruptedError
        return source(step)

    dying.identity = source.identity
    with pytest.raises(InterruptedError):
        tune(lite, birds, tmp_path / "killed", dying, steps=3, checkpoint_every=1)
    again = tune(lite, birds, tmp_path / "killed", source, steps=3, checkpoint_every=1)
    assert all(torch.equal(value, again.clip.state_dict()[name]) for name, value in whole.clip.state_dict().items())


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """{source of candidates: as the threat model names it}; a masked language model and a WordNet of a few words among them."""
    mlm, wordnet = (tmp_path_factory.mktemp(name) for name in ("mlm", "wordnet"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForMaskedLM(BertConfig(vocab_size=len(PIECES), initializer_range=1.0, **TEXT_TOWER)).save_pretrained(mlm)
    (mlm / "vocab.txt").write_text("\n".join(PIECES))
    BertTokenizerFast(str(mlm / "vocab.txt")).save_pretrained(mlm)
    for kind in ("noun", "verb", "adj", "adv"):
        (wordnet / f"data.{kind}").write_text(DATA if kind == "noun" else "")
        (wordnet / f"index.{kind}").write_text(INDEX if kind == "noun" else "")
    for name in ("noun.exc", "cntlist.rev"):
        (wordnet / name).write_text("")
    return {"mlm": f"mlm:{mlm}", "wordnet": f"wordnet:{wordnet}"}


@pytest.mark.parametrize(
    "source", ["table:train", "table:eval", "table:synonyms", "neighbours", "characters", "mlm", "wordnet"]
)
def test_no_word_of_any_source_goes_farther_than_the_one_found(lite, words, source):
    model, source = load_model(str(lite)).requires_grad_(False), words.get(source, source)
    found = attack_prompts(model, PROMPTS, ThreatModel(candidate_source=source), frozen=lambda: model).prompts
    variants = enumerate_variants(PROMPTS, CandidateTable(source, lambda: model, prompts=PROMPTS))

    for place, (prompt, chosen) in enumerate(zip(PROMPTS, found, strict=True)):
        own = [text for text, owner in zip(variants.texts, variants.owner.tolist(), strict=True) if owner == place]
        clean, *encoded = model.clip.encode_text(model.tokenizer([prompt, *own]), normalize=True)
        distances = {text: 1 - float(clean @ each) for text, each in zip(own, encoded, strict=True)}
        assert chosen == prompt if not own else distances[chosen] == pytest.approx(max(distances.values()), abs=1e-5)
    assert found != PROMPTS


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_attacks_on_both_modalities_break_what_the_model_says(lite, birds, precision):
    """Labels are the model's own predictions: all are right without an attack, and in a ball of no size but for words."""
    model, few = load_model(str(lite), precision=precision).requires_grad_(False), birds.prefix(8)
    with model.exactly():
        labels = model.logits(few.images[:].float() / 255, model.encode_text(few.prompts)).argmax(dim=1)
    few, attacks = replace(few, labels=labels), ["clean", "image", "text", "co_attack", "joint"]
    threats = [ThreatModel(epsilon=epsilon, steps=3) for epsilon in (1e-7, "8/255")]
    rows = mmcoa.evaluate(model, few, attacks, threats, attacker=birds)
    none, some = ({row["attack"]: row["accuracy"] for row in part} for part in (rows[: len(attacks)], rows[len(attacks) :]))
    assert none["clean"] == some["clean"] == none["image"] == 100 and none["text"] == some["text"]
    assert some["image"] < 50 and some["co_attack"] < 50 and some["joint"] < 50


def test_export_to_transformers_says_why_not(lite, tmp_path):
    with pytest.raises(UserError, match=r"^'lite-clip' .*VisionTextDualEncoder.*local-dir:FOLDER[^\n]*$"):
        export(load_model(str(lite)), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()

"""Each test-time defence against its description, written down a second time; what all of them keep to; the wrong ones."""

import json
import math
from types import SimpleNamespace

import open_clip
import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig

from mmcoa.attacks.ball import sample_generator
from mmcoa.defenses import at_test
from mmcoa.defenses.at_test import ClassText, choose, names, record
from mmcoa.defenses.at_test._views import crops, straight_through
from mmcoa.defenses.at_test.clipure_cos import purified
from mmcoa.defenses.at_test.r_tpt import Words
from mmcoa.errors import UserError
from mmcoa.model.clip import ImageTextModel
from tests.golden.attacks import CLASSES, model

PROMPTS = [f"This is a photo of a {name}" for name in CLASSES]
SMALL = {"r_tpt": {"views": 8, "neighbours": 3, "kept": 0.3}, "dbd": {"crops": 4, "noisy": 2, "kept": 5}}
ATOL = 1e-6
by_name = pytest.mark.parametrize("name", names())


def generators(count=5, seed=0):
    return [sample_generator(seed, index) for index in range(count)]


@pytest.fixture(scope="module")
def case():
    """(images [5, 3, 16, 16], `ClassText`) for the model of tests/golden, in double precision."""
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return images, ClassText(model().encode_text(PROMPTS).detach(), [PROMPTS])


def answered(name, images, text, drawn=None, **given):
    """What a defence makes of pictures: pictures or logits."""
    chosen = choose(name, SMALL.get(name, {}) | given)
    return chosen.function(model(), images, text, chosen.settings, generators(len(images)) if drawn is None else drawn)


def test_ttc_is_its_equation(case):
    images, text = case
    clip, r, a = model(), 4 / 255, 1 / 255
    drifts, expected = [], {}
    for x, generator in zip(images, generators(), strict=True):
        start = ((2 * torch.rand(x.shape, generator=generator).double() - 1) * r).clamp(-x, 1 - x)
        deltas, still = [start], clip.encode_image_raw(x[None])[0]
        for _ in range(2):
            d = deltas[-1].clone().requires_grad_()
            (clip.encode_image_raw((x + d)[None])[0] - still).norm().backward()
            deltas.append((d.detach() + a * d.grad.sign()).clamp(-r, r).clamp(-x, 1 - x))
        drifts.append(float((clip.encode_image_raw((x + start)[None])[0] - still).norm() / still.norm()))
        weights = [math.exp(2 * k) for k in range(3)]
        expected[drifts[-1]] = x + start, x + sum(w * d for w, d in zip(weights, deltas, strict=True)) / sum(weights)
    threshold = sum(sorted(drifts)[2:4]) / 2  # three pictures are attacked back, two keep their noise
    found = answered("ttc", images, text, threshold=threshold)
    for drift, picture in zip(drifts, found, strict=True):
        torch.testing.assert_close(picture, expected[drift][drift < threshold], atol=ATOL, rtol=0)


@pytest.mark.parametrize("steps,step_size", [(1, 0.5), (3, 0.1), (7, 30.0)])
def test_clipure_turns_the_embedding_about_the_empty_prompt(case, steps, step_size):
    images, text = case
    u, t = model().encode_image(images), model().encode_text(["a photo of a ."])[0]
    across = F.normalize(u - (u @ t)[:, None] * t, dim=1)
    angle = torch.acos(u @ t)
    for _ in range(steps):
        angle = angle - angle.sign() * math.atan(step_size)
    turned = angle.cos()[:, None] * t + angle.sin()[:, None] * across
    expected = model().scale * turned @ text.features.T
    found = answered("clipure_cos", images, text, steps=steps, step_size=step_size)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_clipure_with_its_published_step_returns_the_embedding():
    """At cosines such as CLIP's; and its gradient is that of the identity."""
    draw = torch.randn(6, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    empty, *across = F.normalize(draw, dim=1)
    across = F.normalize(torch.stack(across) - (torch.stack(across) @ empty)[:, None] * empty, dim=1)
    cosine = torch.tensor([0.1, 0.15, 0.22, 0.3, 0.5]).double()[:, None]
    embedding = (cosine * empty + (1 - cosine**2).sqrt() * across).requires_grad_()
    found = purified(embedding, empty, choose("clipure_cos").settings)
    torch.testing.assert_close(found, embedding, atol=1e-9, rtol=0)
    aim = torch.randn(5, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((found * aim).sum(), embedding)
    aim = aim - (aim * embedding).sum(dim=1, keepdim=True) * embedding  # along the sphere
    gradient = gradient - (gradient * embedding).sum(dim=1, keepdim=True) * embedding
    torch.testing.assert_close(gradient, aim.detach(), atol=1e-6, rtol=0)


def test_r_tpt_is_its_description(case):
    images, text = case
    own = choose("r_tpt", SMALL["r_tpt"]).settings
    clip, tokens = model().clip, model().tokenizer(PROMPTS)

    def prompts(vector):
        """open_clip's own text tower, with the vector added to the words 1 to 4."""
        x = clip.token_embedding(tokens)
        x = torch.cat([x[:, :1], x[:, 1:5] + vector, x[:, 5:]], dim=1) + clip.positional_embedding
        x = clip.ln_final(clip.transformer(x, attn_mask=clip.attn_mask))
        return F.normalize(x[torch.arange(len(x)), tokens.argmax(dim=1)] @ clip.text_projection, dim=1)

    for x, generator, found in zip(images, generators(), answered("r_tpt", images, text), strict=True):
        views = torch.cat([x[None], crops(x, own.views - 1, own.least_area, generator)])
        features, vector = model().encode_image(views), torch.zeros(4, clip.token_embedding.embedding_dim).double()
        uncertain = torch.distributions.Categorical(logits=model().scale * features @ text.features.T).entropy()
        kept = uncertain.sort().indices[:2]  # int(0.3 * 8)
        vector.requires_grad_()
        logits = model().scale * features[kept].detach() @ prompts(vector).T
        torch.distributions.Categorical(logits=logits).entropy().mean().backward()
        torch.optim.AdamW([vector], lr=own.lr).step()
        cosines = features @ features.T
        near = torch.stack([torch.cat([row[:i], row[i + 1 :]]).sort().values[-3:].mean() for i, row in enumerate(cosines)])
        expected = ((near / 0.01).softmax(0)[:, None] * (model().scale * features @ prompts(vector).T)).sum(0)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("threshold,factor", [(-1.0, 2.5), (1.0, 1.0)])
def test_dbd_is_its_description(case, threshold, factor):
    images, text = case
    for x, generator, found in zip(images, generators(), answered("dbd", images, text, threshold=threshold), strict=True):
        noise = 0.1 * torch.randn(2, *x.shape, generator=generator).double()
        levels = 32 / 255  # three bits
        cuts = [(torch.floor, 0.0), (torch.floor, 0.5), (torch.ceil, 0.0)]  # half a level up: rounding
        cut = torch.stack([(cut(x / levels + shift) * levels).clamp(0, 1) for cut, shift in cuts])
        views = torch.cat([crops(x, 4, 0.5, generator), cut, (x + noise).clamp(0, 1)])
        own, features = model().encode_image(x[None])[0], model().encode_image(views)
        uncertain = torch.distributions.Categorical(logits=model().scale * features @ text.features.T).entropy()
        direction = features[uncertain.sort().indices[:5]].mean(0) - own
        expected = model().scale * F.normalize(own + factor * direction, dim=0) @ text.features.T
        torch.testing.assert_close(found, expected, atol=ATOL, rtol=0)


def test_crops_are_parts_of_the_picture():
    across = torch.linspace(0.2, 0.8, 32).expand(3, 32, 32).clone().requires_grad_()
    views = crops(across, 200, 0.25, sample_generator(1))
    assert views.shape == (200, 3, 32, 32) and views.min() >= 0.2 - ATOL and views.max() <= 0.8 + ATOL
    rows = views[:, 0, 16]
    mirrored = rows[:, 0] > rows[:, -1]
    assert 60 < mirrored.sum() < 140
    widths = (rows[:, 0] - rows[:, -1]).abs() / 0.6
    assert widths.min() > math.sqrt(0.25 * 3 / 4) - 0.07 and widths.max() > 0.9
    views.sum().backward()
    assert (across.grad > 0).all()
    assert torch.equal(views, crops(across, 200, 0.25, sample_generator(1)))


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other():
    x = torch.tensor([0.2, 0.7], requires_grad=True)
    value = straight_through(x.round(), 3 * x)
    value.sum().backward()
    assert value.tolist() == [0.0, 1.0] and x.grad.tolist() == [3.0, 3.0]


@by_name
def test_a_pictures_answer_depends_on_no_neighbour(case, name):
    images, text = case
    whole = answered(name, images, text)
    order = [3, 0, 4]
    some = answered(name, images[order], text, [generators()[index] for index in order])
    torch.testing.assert_close(some, whole[order], atol=ATOL, rtol=0)


@by_name
def test_a_gradient_reaches_every_picture_and_nothing_else(case, name):
    images, text = case
    images = images.clone().requires_grad_()
    answered(name, images, text).square().sum().backward()
    assert (images.grad.flatten(1).abs().amax(dim=1) > 0).all()
    assert all(weight.grad is None for weight in model().parameters())


@by_name
def test_the_generators_are_all_that_is_random(case, name):
    images, text = case
    torch.manual_seed(0)
    first = answered(name, images, text)
    torch.manual_seed(1)
    assert torch.equal(first, answered(name, images, text))
    other = answered(name, images, text, generators(seed=1))
    assert torch.equal(first, other) == (record(name).draws == 0)


@by_name
def test_a_statement_says_what_tables_need(name):
    of = record(name)
    assert of.label and of.source and of.summary and of.version >= 1 and of.form in at_test.FORMS
    assert choose(name).own == of.settings and choose(name).draws == max(1, of.draws)


def test_r_tpt_serves_changed_prompts_and_refuses_what_it_cannot_tune(case):
    images, _ = case
    changed = [*PROMPTS[:-1], "That was a photo of a beacon"]
    features = model().encode_text(changed).detach()
    assert answered("r_tpt", images[:1], ClassText(features, [changed])).shape == (1, len(changed))
    for prompts in (None, [changed, changed]):
        with pytest.raises(UserError, match="one prompt a class"):
            answered("r_tpt", images[:1], ClassText(features, prompts))
    own = choose("r_tpt")
    foreign = SimpleNamespace(clip=SimpleNamespace(text=object()), name="foreign")
    with pytest.raises(UserError, match="r_tpt tunes token embeddings, which 'foreign' does not have"):
        own.function(foreign, images[:1], ClassText(features, [changed]), own.settings, generators(1))
    assert isinstance(model().clip, open_clip.CLIP)


def test_r_tpt_tunes_words_of_a_sentence_encoder(tmp_path):
    """The encoder of Hugging Face, given the moved embeddings themselves, says what it is to be with the vector added."""
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "vocab_size": 50}
    (tmp_path / "config.json").write_text(json.dumps(BertConfig(**size).to_dict()))
    torch.manual_seed(0)
    text = {
        "hf_model_name": str(tmp_path),
        "hf_model_pretrained": False,
        "hf_proj_type": "linear",
        "hf_pooler_type": "mean_pooler",
    }
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    clip = open_clip.CustomTextCLIP(24, vision, text).eval()
    tokens = torch.tensor([[2, 7, 8, 9, 3, 0, 0, 0], [2, 7, 8, 9, 10, 11, 12, 3]])
    preprocess = {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}
    drawn = ImageTextModel(clip, lambda texts: tokens, "drawn", {"model_cfg": {}, "preprocess_cfg": preprocess})
    words, vector, mask = Words(drawn, ClassText(None, [["a", "b"]]), 4), torch.randn(4, 32), (tokens != 0).long()
    moved = clip.text.transformer.get_input_embeddings()(tokens)
    moved[0, 1:4] += vector[:3]  # of the short prompt three tokens are words
    moved[1, 1:5] += vector
    states = clip.text.transformer(inputs_embeds=moved, attention_mask=mask).last_hidden_state
    expected = clip.text.proj((states * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True))
    torch.testing.assert_close(words.features(vector), F.normalize(expected, dim=1), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "given,said",
    [
        (dict(name="tcc"), "unknown test-time defence 'tcc'; nearest: ttc"),
        (dict(name="ttc", given={"tau": 1}), "unknown setting 'tau'.*defence 'ttc' has: radius"),
        (dict(name="ttc", given={"steps": 0}), "steps must be at least 1"),
        (dict(name="ttc", adversary="adaptve"), "unknown adversary 'adaptve'; nearest: adaptive"),
        (dict(name="ttc", draws=0), "draws must be at least 1"),
    ],
)
def test_mistakes_are_one_line(given, said):
    with pytest.raises(UserError, match=said):
        choose(**given)


@pytest.mark.parametrize(
    "text,said",
    [
        ('LABEL = "x"\nSOURCE = "y"\nVERSION = 1\ndef purify(): ...', "states no DRAWS"),
        ('LABEL = "x"\nSOURCE = "y"\nDRAWS = 0\nVERSION = 1', "must define one of purify and scores"),
    ],
)
def test_a_flawed_file_is_named(tmp_path, monkeypatch, text, said):
    (tmp_path / "flawed.py").write_text(text)
    monkeypatch.setattr(at_test, "__path__", [str(tmp_path)])
    with pytest.raises(UserError, match=said):
        record("flawed")

"""What each family of CLIP models can do here, tried with random weights at reduced size: the rows of mmcoa/model/families.csv.

The book shows that table (page "Models and data").
"""

import copy
import csv
import io
import json
import shutil
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import timm
import torch
import transformers
from open_clip.tokenizer import HFTokenizer, SimpleTokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

import mmcoa
from mmcoa.attacks.candidates import PER_WORD, embedded_table
from mmcoa.datasets.batches import ShuffledDataset
from mmcoa.errors import UserError
from mmcoa.model import export
from mmcoa.model.build import build
from mmcoa.model.clip import ImageTextModel
from mmcoa.model.embedded import embedded_folder
from mmcoa.model.saving import save_checkpoint
from mmcoa.threat import ThreatModel
from mmcoa.training.loop import train
from tests.attacks.test_candidates import DATA, INDEX
from tests.attacks.test_mlm import VOCABULARY, save_bert

TABLE = Path(mmcoa.__file__).parent / "model" / "families.csv"
COLUMNS = ("load", "clean", "image", "words", "neighbours", "characters", "training", "resume", "export")
NAMES = ["cat", "dog", "ox"]
PROMPTS = [f"a photo of a {name}" for name in NAMES]
LENGTH = 20
VIT = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
TEXT = {"context_length": LENGTH, "vocab_size": 8192, "width": 32, "heads": 2, "layers": 1, "hf_tokenizer_name": "own"}

CLIP_TEXT = {key: value for key, value in TEXT.items() if key != "hf_tokenizer_name"} | {"vocab_size": 49408}


def tower(name, size, pool, projection, **more):
    """Image tower of timm, as open_clip's configurations of the family have it."""
    vision = {"timm_model_name": name, "timm_model_pretrained": False, "timm_pool": pool, "timm_proj": projection}
    return {"vision_cfg": {**vision, "image_size": size}, "text_cfg": TEXT, **more}


SIGLIP = {"no_causal_mask": True, "proj_bias": True, "pool_type": "last", "vocab_size": 2000, "hf_tokenizer_name": "own"}
COCA = {
    "vision_cfg": VIT | {"attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 8, "output_tokens": True},
    "text_cfg": TEXT | {"context_length": LENGTH - 1, "embed_cls": True, "output_tokens": True},
    "multimodal_cfg": {"context_length": LENGTH - 1, "vocab_size": 8192, "width": 32, "heads": 2, "layers": 1},
    "custom_text": True,
}
SMALL = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": 32, "intermediate_size": 64, "vocab_size": 2000}
SMALL_T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "vocab_size": 2000}
SMALL_M2M = {
    f"{part}_{key}": n for part in ("encoder", "decoder") for key, n in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 64))
}
SMALL_M2M |= {"d_model": 32, "init_std": 0.5, "vocab_size": 2000}
# family: configuration of open_clip, or of a text tower of Hugging Face's
FAMILIES = {
    "ViT (OpenAI, OpenCLIP)": {"vision_cfg": VIT, "text_cfg": CLIP_TEXT, "quick_gelu": True},
    "ResNet (OpenAI)": {
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "patch_size": None},
        "text_cfg": TEXT,
    },
    "ConvNeXt": tower("convnext_tiny", 64, "", "linear"),
    "other towers of timm": tower("test_efficientnet", 64, "avg", "linear"),
    "EVA-02": tower("eva02_base_patch16_clip_224", 32, "token", None, custom_text=True),
    "SigLIP": tower("vit_base_patch16_siglip_224", 32, "map", "none", custom_text=True, init_logit_bias=-10)
    | {"text_cfg": TEXT | SIGLIP},
    "MobileCLIP": tower("fastvit_mci0", 64, "avg", None, custom_text=True) | {"text_cfg": TEXT | {"no_causal_mask": True}},
    "CoCa": COCA,
    "text tower BERT": transformers.BertConfig(**SMALL),
    "text tower RoBERTa, XLM-RoBERTa": transformers.XLMRobertaConfig(**SMALL),
    "text tower mT5": transformers.MT5Config(**SMALL_T5),
    "text tower NLLB": transformers.M2M100Config(**SMALL_M2M),
}
# Towers of timm under their own names, made small.
VIT_OF_TIMM = {"depth": 1, "embed_dim": 32, "num_heads": 2, "img_size": 32}
SHRUNK = {
    "convnext_tiny": {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)},
    "eva02_base_patch16_clip_224": VIT_OF_TIMM,
    "vit_base_patch16_siglip_224": VIT_OF_TIMM,
    "fastvit_mci0": {"layers": (1, 1, 1, 1)},
}
MARKS = {
    "SigLIP": "▁",
    "text tower BERT": "",
    "text tower RoBERTa, XLM-RoBERTa": "▁",
    "text tower mT5": "▁",
    "text tower NLLB": "▁",
}


def words_known():
    """Every word of the prompts and its candidates, so that their tokens differ."""
    table = embedded_table("eval") | embedded_table("train")
    near = [word for name in ("photo", *NAMES) for word in table.get(name, [])[:PER_WORD]]
    return list(dict.fromkeys(["a", "of", "photo", *NAMES, *near]))


def tokenizer(folder, family):
    """CLIP's own, or a smaller one of its kind; else whole words with a family's mark, and single letters for all others."""
    if family not in MARKS:
        if family.startswith("ViT"):
            return SimpleTokenizer(context_length=LENGTH)
        return HFTokenizer(str(embedded_folder("openmoji-clip")), context_length=LENGTH - (family == "CoCa"))
    mark = MARKS[family]
    special, letters = ["<s>", "<pad>", "</s>", "<unk>"], [chr(n) for n in range(97, 123)]
    pieces = [f"##{letter}" for letter in letters]
    whole = [f"{mark}{word}" for word in words_known()]
    if mark:
        scores = [(token, -20.0) for token in [*special, *letters, mark]] + [(token, -5.0) for token in whole]
        plain = Tokenizer(models.Unigram(scores, unk_id=3))
        plain.pre_tokenizer = pre_tokenizers.Metaspace()
    else:
        vocabulary = {token: i for i, token in enumerate(dict.fromkeys([*special, *letters, *pieces, *whole]))}
        plain = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
        plain.pre_tokenizer = pre_tokenizers.Whitespace()
    start = "" if family in ("SigLIP", "text tower mT5") else "<s> "
    ends = [(token, plain.token_to_id(token)) for token in ("<s>", "</s>")]
    plain.post_processor = processors.TemplateProcessing(single=f"{start}$A </s>", special_tokens=ends)
    pad = "</s>" if family == "SigLIP" else "<pad>"
    names = {"eos_token": "</s>", "bos_token": "<s>", "unk_token": "<unk>", "pad_token": pad}
    PreTrainedTokenizerFast(tokenizer_object=plain, **names).save_pretrained(folder)
    return HFTokenizer(str(folder), context_length=LENGTH)


def drawn(folder, family):
    """A small model of a family, weights of seed 0."""
    folder.mkdir(parents=True)
    config, text = FAMILIES[family], tokenizer(folder, family)
    if isinstance(config, transformers.PretrainedConfig):
        config.pad_token_id, config.vocab_size = text.tokenizer.pad_token_id, max(2000, len(text.tokenizer))
        (folder / "config.json").write_text(json.dumps(config.to_dict()))
        pooler = {"hf_pooler_type": "cls_pooler" if "NLLB" in family else "mean_pooler", "hf_proj_type": "linear"}
        config = {
            "vision_cfg": VIT,
            "text_cfg": {"context_length": LENGTH, "hf_model_name": str(folder), "hf_tokenizer_name": "own", **pooler},
        }
    config = {"embed_dim": 32, **config}
    preprocess = {"size": config["vision_cfg"]["image_size"], "mean": [0.5] * 3, "std": [0.5] * 3}
    torch.manual_seed(0)
    return ImageTextModel(build(config).eval(), text, "drawn", {"model_cfg": config, "preprocess_cfg": preprocess})


@pytest.fixture(autouse=True)
def small_towers(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, **given: create(name, **{**given, **SHRUNK.get(name, {})}))


class Killed(Exception):
    pass


class Trial:
    """One family, a method a column of the table; each returns nothing, or what does not work."""

    def __init__(self, family, folder, pictures, sources):
        self.family, self.folder, self.sources = family, folder, sources
        self.model = drawn(folder / "origin", family)
        picked = pictures.prefix(6)
        self.data = replace(picked, prompts=PROMPTS, class_names=NAMES, labels=torch.arange(6) % 3)

    def load(self):
        """The folder that was written, and its weights as someone's training checkpoint."""
        model = self.model
        save_checkpoint(model, self.folder / "saved", {"name": "drawn"})
        state = {f"module.{key}": value for key, value in model.clip.state_dict().items()}
        shutil.rmtree(self.folder / "origin")  # what it was made from
        torch.save({"epoch": 1, "state_dict": state}, self.folder / "epoch_1.pt")
        self.saved = mmcoa.load_model(str(self.folder / "saved"))
        for name in (self.folder / "saved", f"{self.folder / 'epoch_1.pt'}@{self.folder / 'saved'}"):
            other = mmcoa.load_model(str(name))
            with torch.no_grad():
                assert torch.equal(other.encode_image(self.pixels()), model.encode_image(self.pixels()))
                assert torch.equal(other.encode_text(PROMPTS), model.encode_text(PROMPTS))

    def pixels(self):
        return self.data.images[:2].float() / 255

    def rows(self, *attacks, **threat):
        return mmcoa.evaluate(self.model, self.data, list(attacks), ThreatModel(steps=2, epsilon="8/255", **threat))

    def clean(self):
        """The evaluation's answers are those of open_clip's own forward pass."""
        row, model = self.rows("clean")[0], self.model
        with torch.no_grad():
            pixels = (model.resized(self.data.images.float() / 255) - model.mean) / model.std
            image = torch.nn.functional.normalize(model.clip.encode_image(pixels), dim=-1)
            text = torch.nn.functional.normalize(model.clip.encode_text(model.tokenizer(PROMPTS)), dim=-1)
            logits = model.scale * image @ text.T + (0 if model.bias is None else model.bias)
            ours = model.logits(self.data.images.float() / 255, model.encode_text(PROMPTS))
        assert torch.allclose(ours, logits, atol=1e-3) and row["n"] == 6
        assert row["accuracy"] == pytest.approx(100 * (logits.argmax(1) == self.data.labels).float().mean().item())

    def image(self):
        """The attack follows a gradient, within epsilon, to a higher loss than before."""
        from mmcoa.attacks.pgd import pgd

        model, pixels, labels = self.model, self.data.images.float() / 255, self.data.labels
        with torch.no_grad():
            text = model.encode_text(PROMPTS)
        attacked = pgd(model, pixels, labels, text, ThreatModel(epsilon="8/255", steps=4))
        loss = [torch.nn.functional.cross_entropy(model.logits(x, text), labels).item() for x in (pixels, attacked)]
        assert loss[1] > loss[0] and (attacked - pixels).abs().max() <= 8 / 255 + 1e-6
        assert self.rows("image")[0]["n"] == 6

    def words(self):
        for source in self.sources:
            row = self.rows("text", candidate_source=source)[0]
            assert row["share_changed"] + row["share_fallback"] == 100, source  # "photo" is in some alone

    def neighbours(self):
        assert self.rows("text", candidate_source="neighbours")[0]["share_changed"] == 100

    def characters(self):
        assert self.rows("text", candidate_source="characters")[0]["share_changed"] == 100

    def fine_tuned(self, folder, batches, **own):
        text = self.saved.tokenizer
        model, frozen = copy.deepcopy(self.saved, {id(text): text}), self.saved
        config = mmcoa.TrainConfig(steps=2, batch_size=3, lr=1e-3, warmup=0, inner_steps=1, checkpoint_every=1, epsilon=8 / 255)
        defense = mmcoa.defenses.choose("mmcoa", own)
        train(model, batches, defense, config, folder, frozen=frozen)
        return mmcoa.load_model(str(folder))

    def training(self):
        """MMCoA moves both towers; where there is a logit bias, the sigmoid loss moves that too, and no other does."""
        self.trained = self.fine_tuned(self.folder / "tuned", ShuffledDataset(self.data, 3, 0))
        with torch.no_grad():
            for encode, given in (("encode_image", self.pixels()), ("encode_text", PROMPTS)):
                assert not torch.equal(getattr(self.trained, encode)(given), getattr(self.model, encode)(given)), encode
        if self.model.bias is not None:
            other = self.fine_tuned(self.folder / "sigmoid", ShuffledDataset(self.data, 3, 0), loss="sigmoid")
            assert self.trained.bias == self.model.bias != other.bias

    def resume(self):
        """Killed before the second step and called again: the weights of an unbroken run."""
        whole = ShuffledDataset(self.data, 3, 0)

        def dying(step):
            if step:
                raise Killed
            return whole(step)

        dying.identity = whole.identity
        with pytest.raises(Killed):
            self.fine_tuned(self.folder / "killed", dying)
        assert self.fine_tuned(self.folder / "killed", whole).fingerprint() == self.trained.fingerprint()

    def export(self):
        from transformers import CLIPModel

        export.export(self.trained, self.folder / "exported")
        theirs = CLIPModel.from_pretrained(self.folder / "exported").eval()
        pixels = (self.trained.resized(self.pixels()) - self.trained.mean) / self.trained.std
        with torch.no_grad():
            features = theirs.get_image_features(pixel_values=pixels)
            features = getattr(features, "pooler_output", features)
            assert torch.allclose(
                torch.nn.functional.normalize(features, dim=-1), self.trained.encode_image(self.pixels()), atol=1e-4
            )


SAID = {  # the line that a user reads, and how the table puts it
    "no CLIP with a plain ViT": "plain ViT alone",
    "VisionTextDualEncoder has neither": "no place for its head",
}


def outcome(trial, column):
    """`yes`, or what the table says for the one clear line; any other error is none of these."""
    try:
        getattr(trial, column)()
    except UserError as error:
        assert "\n" not in str(error)
        return next(short for part, short in SAID.items() if part in str(error))
    return "yes"


@pytest.fixture(scope="session")
def sources(tmp_path_factory):
    """Candidate sources that know the words of the prompts: a table, a file, a WordNet database, a language model."""
    folder = tmp_path_factory.mktemp("sources")
    (folder / "own.json").write_text(json.dumps({"cat": ["dog"], "dog": ["cat"], "ox": ["dog"]}))
    (folder / "wordnet").mkdir()
    for kind in ("noun", "verb", "adj", "adv"):
        (folder / "wordnet" / f"data.{kind}").write_text(DATA if kind == "noun" else "")
        (folder / "wordnet" / f"index.{kind}").write_text(INDEX if kind == "noun" else "")
    (folder / "wordnet" / "noun.exc").write_text("")
    (folder / "wordnet" / "cntlist.rev").write_text("")
    (folder / "bert").mkdir()
    (folder / "bert" / "vocab.txt").write_text("\n".join(VOCABULARY))
    save_bert(folder / "bert", transformers.BertForMaskedLM, seed=0)
    transformers.BertTokenizerFast(str(folder / "bert" / "vocab.txt")).save_pretrained(folder / "bert")
    return ["table:eval", str(folder / "own.json"), f"wordnet:{folder / 'wordnet'}", f"mlm:{folder / 'bert'}"]


def table():
    return {row.pop("family"): row for row in csv.DictReader(io.StringIO(TABLE.read_text(encoding="utf8")))}


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=pytest.mark.slow if name == "MobileCLIP" else ()) for name in FAMILIES]
)
def test_a_family_does_what_the_table_says(family, tmp_path, birds, sources):
    trial = Trial(family, tmp_path, birds, sources)
    found = {column: outcome(trial, column) for column in COLUMNS}
    assert {column: table()[family][column] for column in COLUMNS} == found


def test_the_table_has_just_these_families():
    """And examples of them that open_clip has."""
    assert list(table()) == list(FAMILIES)
    assert {row["for example"] for row in table().values()} - {""} <= set(open_clip.list_models())

"""`lite-clip`, small: of drawn weights everywhere, of the packages' own where the extra `lite` is installed."""

import json
import string
import tempfile
from pathlib import Path

import pytest
import timm
import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from mmcoa.errors import UserError
from mmcoa.model.lite import align, build, names, packages
from mmcoa.model.lite.towers import IMAGE_MODEL

SMALL = align.Recipe(image_size=64, largest=1, pictures=1, epochs=4)
WORDS = ("this", "is", "a", "photo", "picture", "image", "of", "the", "great", "white", "shark", "cat", "cats", "dog", "bird")
WORDS += ("parrot", "violin", "fiddle", "red", "blue", "house")
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, *string.ascii_lowercase[1:]]
PIECES += [f"##{letter}" for letter in string.ascii_lowercase]
TEXT_TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def build_small(folder, weights):
    """Classes alone (no synonyms, no hypernyms), one template, 64 px. weights: `drawn`, or those of the `packages`."""
    first = [names.Name(text[0], (i,), 1.0) for i, text in enumerate(names.read_tree()[0][: names.CLASSES])]
    with pytest.MonkeyPatch().context() as context, tempfile.TemporaryDirectory() as place:
        context.setattr(build, "all_names", lambda largest, hypernyms: first)
        context.setattr(build, "TEMPLATES", ("{}",))
        if weights == "drawn":
            carry_drawn(context, Path(place))
        return build.build(folder, SMALL)


def carry_drawn(context, folder):
    """In the packages' place: EfficientNet-Lite0 and a BERT of two small layers with weights of seed 0, word pieces."""
    config = BertConfig(vocab_size=len(PIECES), max_position_embeddings=128, **TEXT_TOWER)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = list(timm.create_model(IMAGE_MODEL, num_classes=names.CLASSES).state_dict().values())
        text = BertModel(config, add_pooling_layer=False).state_dict()
    (folder / "vocab.txt").write_text("\n".join(PIECES))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    special = {f"{name}_token": f"[{name.upper()}]" for name in ("cls", "mask", "pad", "sep", "unk")}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    context.setattr(packages, "image_weights", lambda: image)
    context.setattr(packages, "text_weights", lambda: text)
    context.setattr(packages, "text_file", lambda name: (folder / name).read_bytes())


@pytest.fixture(scope="session", params=["drawn", "packages"])
def lite_weights(request):
    """Where the weights of `lite` come from; the packages' are looked at too where they are installed."""
    if request.param == "packages":
        for weights in (packages.IMAGE, packages.TEXT):
            try:
                packages.path_of(weights)
            except UserError as error:
                pytest.skip(str(error))
    return request.param


@pytest.fixture(scope="session")
def lite(lite_weights, tmp_path_factory):
    """Checkpoint folder of a small build, a few seconds."""
    return build_small(tmp_path_factory.mktemp("lite") / "lite-clip", lite_weights)

"""What the typographic attack draws: which name, where, how large; and how its row says that no ball bounds it."""

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from mmcoa.attacks.catalog import find
from mmcoa.attacks.image.typographic import attack, label
from mmcoa.errors import UserError
from mmcoa.evaluation.loop import evaluate
from mmcoa.threat import ThreatModel

NAMES = ["heron", "kettle", "lighthouse", "red apple"]
THREAT = ThreatModel()


def drawn(images, labels=None, threat=THREAT, ids=None, names=NAMES):
    labels = torch.arange(len(images)) % 4 if labels is None else labels
    return attack(None, images, labels, None, threat, ids, class_names=names)


def grey(n, size, dtype=torch.float32):
    return torch.full((n, 3, size, size), 0.5, dtype=dtype)


@pytest.mark.parametrize("size", [32, 64, 224])
def test_one_label_with_a_wrong_name_and_nothing_else(size):
    images = grey(8, size)
    found = drawn(images)
    assert found.min() >= 0 and found.max() <= 1 and torch.equal(images, grey(8, size))
    read = []
    for row, picture in enumerate(found):
        rows, columns = ((picture[0] != 0.5).any(dim=axis).nonzero()[:, 0] for axis in (1, 0))
        box = picture[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (picture != 0.5).sum() <= box.numel() <= 0.75 * picture.numel()  # 32 px: the letters cannot be smaller
        papers = {name: torch.from_numpy(label(name, size, size)).to(box) for name in NAMES}
        (name,) = (name for name, paper in papers.items() if paper.shape == box.shape[1:] and torch.equal(paper, box[0]))
        assert name != NAMES[row % 4] and torch.equal(box[0], box[2])
        read.append((name, int(rows[0]), int(columns[0])))
    assert len({name for name, *_ in read}) > 1 and len(set(read)) > 2


@pytest.mark.parametrize("size", [32, 48, 224])
@pytest.mark.parametrize("name", ["ox", "lighthouse", "black-footed albatross"])
def test_letters_can_be_read(size, name):
    """All ink of the name is on the label, in dark letters of 8 px or more."""
    paper = 1 - label(name, size, size)
    assert paper.shape[0] <= 0.7 * size and paper.shape[1] <= size and paper.max() > 0.6
    font = ImageFont.load_default(size=8)
    least = Image.new("L", (400, 20), 0)
    ImageDraw.Draw(least).text((0, 0), name.replace(" ", ""), fill=255, font=font)
    ink = sum(least.tobytes()) / 255
    assert paper.sum() >= (0.95 if size > 32 or len(name) < 12 else 0.5) * ink  # a long name is cut on the smallest pictures
    assert paper.sum() > 8 * ink or size < 224  # and larger on larger ones


def test_seed_and_sample_alone_decide():
    images = torch.rand(6, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    labels, ids = torch.tensor([0, 1, 2, 3, 0, 1]), torch.arange(6) + 50
    whole = drawn(images, labels, ids=ids)
    torch.manual_seed(7)
    backwards = [drawn(images[i], labels[i], ids=ids[i]) for i in torch.arange(6).flip(0).split(4)]
    assert torch.equal(torch.cat(backwards).flip(0), whole)
    assert not torch.equal(drawn(images, labels, ids=ids + 1), whole)
    assert not torch.equal(drawn(images, labels, THREAT.changed(seed=1), ids), whole)


def test_a_target_is_the_name_that_is_written():
    images, threat = grey(4, 64), THREAT.changed(target="kettle").aimed(NAMES)
    found, paper = drawn(images, threat=threat), torch.from_numpy(label("kettle", 64, 64)).float()
    assert torch.equal(found[1], images[1])
    for row in (0, 2, 3):
        assert (found[row, 0] != 0.5).sum() == paper.numel() and torch.isclose(
            found[row, 0][found[row, 0] != 0.5].sum(), paper.sum()
        )


def test_one_class_and_no_names():
    assert torch.equal(drawn(grey(2, 32), torch.zeros(2, dtype=torch.int64), names=["heron"]), grey(2, 32))
    with pytest.raises(UserError, match="hand it class_names"):
        drawn(grey(2, 32), names=None)


def test_a_row_claims_no_ball(embedded, birds):
    found = evaluate(embedded, birds, ["clean", "typographic"], ThreatModel(epsilon="4/255"), check=birds)
    clean, row = found
    assert row["epsilon"] is None and row["norm"] is None and row["threat"].keys() == {"attacked_space", "seed"}
    assert row["threat_text"] == f"{find('typographic').summary}; in native pixels" and row["check"] == "not run"
    assert row["accuracy"] < clean["accuracy"]
    other = evaluate(embedded, birds, ["typographic"], ThreatModel(epsilon="1/255"), batch_size=5)
    assert other[0]["config_hash"] == row["config_hash"]
    assert other.outcomes.typographic_prediction.tolist() == found.outcomes.typographic_prediction.tolist()

"""An evaluation in shards is the evaluation: same rows, same outcomes, whatever its attacks; what does not fit is refused."""

import json
import shutil
import weakref
from dataclasses import replace

import pandas as pd
import pytest
import torch

from mmcoa.datasets.dataset import Streamed
from mmcoa.defenses import at_test
from mmcoa.errors import UserError
from mmcoa.evaluation.loop import evaluate
from mmcoa.evaluation.shards import Shard, merge, parse, parts_beside, read_part
from mmcoa.threat import ThreatModel
from tests.evaluation.test_loop import assert_same_outcomes

THREAT = ThreatModel(epsilon="1/255", steps=2)
ATTACKS = ["clean", "image", "text", "multimodal"]


def shard_by_shard(count, output, *arguments, **named):
    """Evaluate all shards, the last first, through their files; {file name: part}."""
    for number in range(count, 0, -1):
        shard = Shard(number, count)
        evaluate(*arguments, shard=shard, **named).part.write(shard.beside(output))
    return {path.name: read_part(path) for path in parts_beside(output)}


def assert_same(rows, outcomes, whole):
    timed = [[row | {"seconds": 0} for row in each] for each in (rows, json.loads(json.dumps(list(whole))))]
    assert timed[0] == timed[1]
    assert_same_outcomes(outcomes, whole.outcomes)


def test_shards_make_the_rows_and_outcomes_of_one_run(tiny, small_birds, tmp_path):
    """Two threat models, self-checks, pictures that are streamed, and shards of unequal size."""
    with torch.no_grad():  # labels that the model is right about; in double precision no outcome hangs on rounding
        said = tiny.double().logits(small_birds.images.double() / 255, tiny.encode_text(small_birds.prompts)).argmax(dim=1)
    data = replace(small_birds, labels=said).prefix(20)
    streamed = replace(data, images=Streamed(data.images.__getitem__, torch.arange(20), "key"))
    threats = [THREAT, THREAT.changed(epsilon="4/255")]
    named = {"check": streamed.prefix(6), "batch_size": 5}
    whole = evaluate(tiny, streamed, ATTACKS, threats, **named)
    parts = shard_by_shard(3, tmp_path / "rows.json", tiny, streamed, ATTACKS, threats, **named)
    assert [len(part.outcomes) for part in parts.values()] == [14, 14, 12]
    assert {row["check"] for row in parts["rows.2-of-3.json"].rows} == {"", "not run"}
    assert_same(*merge(parts), whole)
    assert whole.part is None and whole[1]["check_n"] > 0 and 0 < whole[1]["correct"] < 20


def test_shards_through_a_defence_at_test_time(tiny, small_birds, tmp_path):
    """What a row says of its outcomes beside accuracy is said of all of them."""
    defense = at_test.choose("clipure_cos", {}, "worst", None)
    whole = evaluate(tiny, small_birds, ["image"], THREAT, defense=defense)
    parts = shard_by_shard(2, tmp_path / "rows", tiny, small_birds, ["image"], THREAT, defense=defense)
    assert_same(*merge(parts), whole)


@pytest.fixture
def halves(tiny, small_birds, tmp_path):
    """Both parts of a small evaluation, by name."""
    return shard_by_shard(2, tmp_path / "rows.json", tiny, small_birds, ["clean", "fgsm"], THREAT)


def test_parts_that_are_no_whole_are_refused(halves, tiny, small_birds, tmp_path):
    a, b = halves.values()
    with pytest.raises(UserError, match=r"of 2 shards these are missing: 1$"):
        merge({"b": b})
    with pytest.raises(UserError, match="a and c are both shard 1/2"):
        merge({"a": a, "b": b, "c": a})
    with pytest.raises(UserError, match="b has 9 outcomes of 10 samples"):
        merge({"a": a, "b": replace(b, outcomes=b.outcomes[1:])})
    assert a.evaluation[0]["attacked prompts"]  # on another processor a tie may fall the other way
    with pytest.raises(UserError, match="they differ in attacked prompts"):
        merge({"a": a, "b": replace(b, evaluation=[b.evaluation[0] | {"attacked prompts": "others"}])})
    others = {
        "threat": evaluate(tiny, small_birds, ["clean", "fgsm"], THREAT.changed(seed=1), shard=Shard(2, 2)),
        "attacks": evaluate(tiny, small_birds, ["clean"], THREAT, shard=Shard(2, 2)),
        "dataset": evaluate(tiny, small_birds.prefix(20), ["clean", "fgsm"], THREAT, shard=Shard(2, 2)),
        "number of shards": evaluate(tiny, small_birds, ["clean", "fgsm"], THREAT, shard=Shard(2, 3)),
    }
    for word, other in others.items():
        with pytest.raises(UserError, match=f"a and b are not of one evaluation: they differ in .*{word}"):
            merge({"a": a, "b": other.part})
    path = tmp_path / "rows.2-of-2.json"
    path.with_suffix(".parquet").unlink()
    with pytest.raises(UserError, match="no readable outcomes"):
        read_part(path)
    path.write_text("[]")
    with pytest.raises(UserError, match="is no part of an evaluation"):
        read_part(path)


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "1/0", "-1/2", "a/b", "1/2/3"])
def test_a_wrong_shard(text):
    with pytest.raises(UserError, match="from 1 to N"):
        parse(text)


def test_more_shards_than_samples(tiny, small_birds):
    with pytest.raises(UserError, match="22 shards of 21 samples"):
        evaluate(tiny, small_birds, ["clean"], shard=Shard(1, 22))
    every = [Shard(number, 21).of(small_birds).ids.item() for number in range(1, 22)]
    assert every == small_birds.ids.tolist()


def test_a_killed_shard_goes_on_and_another_does_not_take_its_work(tiny, small_birds, tmp_path):
    def die(done, total):
        assert total == 11
        raise KeyboardInterrupt

    def went_on(shard, folder):
        seen = []
        evaluate(tiny, small_birds, ["fgsm"], THREAT, 4, lambda done, _: seen.append(done), resume=folder, shard=shard)
        return seen

    with pytest.raises(KeyboardInterrupt):
        evaluate(tiny, small_birds, ["fgsm"], THREAT, 4, die, resume=tmp_path / "kept", shard=Shard(1, 2))
    shutil.copytree(tmp_path / "kept", tmp_path / "copy")
    assert went_on(Shard(1, 2), tmp_path / "kept") == [8, 11]
    assert went_on(Shard(2, 2), tmp_path / "copy") == [4, 8, 10]


@pytest.mark.parametrize("shard", [None, Shard(1, 2)])
def test_pictures_are_held_a_batch_at_a_time(tiny, small_birds, shard):
    """However many there are: nothing keeps those of earlier batches, not even their digest reads them all at once."""
    alive, most = [], []

    def read(index):
        alive[:] = [seen for seen in alive if seen() is not None]
        pictures = small_birds.images[index % 21]
        alive.append(weakref.ref(pictures))
        most.append(sum(len(one) for seen in alive if (one := seen()) is not None))
        return pictures

    for count in (300, 1200):
        most.clear()
        place = torch.arange(count)
        many = replace(small_birds, images=Streamed(read, place), labels=small_birds.labels[place % 21], ids=place)
        evaluate(tiny, many, ["clean", "fgsm"], THREAT, 50, shard=shard)
        assert len(most) > count / 50 / 2 and max(most) <= 2 * 256


def test_the_command_line(capsys, tmp_path):
    from mmcoa.cli import main as cli

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            cli.main([str(a) for a in arguments])
        return stop.value.code, "".join(capsys.readouterr())

    flags = ["evaluate", "--samples", 9, "--attack", "clean", "--attack", "fgsm", "--check-samples", 0, "--output"]
    assert call(*flags, tmp_path / "one.json")[0] == 0
    for number in (1, 2):
        code, said = call(*flags, tmp_path / "rows.json", "--shard", f"{number}/2", "--save", tmp_path / "saved")
        assert code == 0 and "mmcoa merge" in said
    assert sorted(path.name for path in (tmp_path / "saved").iterdir()) == ["1-of-2", "2-of-2"]
    assert not (tmp_path / "rows.json").exists()
    code, said = call("merge", tmp_path / "rows.json")
    assert code == 0 and "fgsm" in said and f"rows in {tmp_path / 'rows.json'}" in said
    one, rows = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one", "rows"))
    assert [row | {"seconds": 0} for row in one] == [row | {"seconds": 0} for row in rows]
    assert_same_outcomes(*(pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("one", "rows")))
    first = tmp_path / "rows.1-of-2.json"
    for wrong, words in (
        (("merge", tmp_path / "rows.json", first), "are missing: 2"),
        (("merge", tmp_path / "other.json"), "no parts of"),
        (("merge", tmp_path / "rows.json", tmp_path / "one.json"), "no part of an evaluation"),
        (("merge", tmp_path / "rows.json", tmp_path / "none.json"), "none.json"),
        (("evaluate", "--shard", "3/2", "--output", tmp_path / "x.json"), "from 1 to N"),
        (("evaluate", "--shard", "1/2"), "--output"),
    ):
        code, said = call(*wrong)
        assert code == 2 and words in said and said.count("\n") == 1

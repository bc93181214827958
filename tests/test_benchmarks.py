"""The benchmark scripts run, write well-formed tables, and stop where both sides did not compute the same thing. Not timed."""

import csv
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from mmcoa.errors import UserError
from mmcoa.threat import ThreatModel
from mmcoa.training.config import TrainConfig

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import baselines
import common
import cost
import gpu
import memory
import precision
import speed
import strength
import training_step

PROMPTS = ["a photo of a parrot.", "A photo of a Flamingo"]
TABLE = {"photo": ["picture"], "parrot": ["flamingo", "bird"], "flamingo": ["heron"]}


def read(path):
    with path.open(newline="", encoding="utf8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("flags", "named"), [("avx2 avx512f amx_bf16", "AMX"), ("avx2 avx512f", "AVX-512"), ("avx2", "AVX2")])
def test_processors_are_told_apart_by_their_widest_units(monkeypatch, tmp_path, flags, named):
    (tmp_path / "cpuinfo").write_text(f"model name : AMD EPYC\nflags : {flags}\n")
    monkeypatch.setattr(common, "Path", lambda _: tmp_path / "cpuinfo")
    assert common.hardware().startswith(f"AMD EPYC, {named}, ")


@pytest.mark.slow
def test_the_speed_table_is_complete(tmp_path, capsys):
    pytest.importorskip("torchattacks", reason="installed by `make test`")
    speed.main(["--quick", "--output", str(tmp_path), "--only", "image", "evaluation"])
    speed.main(["--quick", "--output", str(tmp_path), "--only", "text", "training"])  # the lines of the run before stay
    speed.main(["--quick", "--output", str(tmp_path), "--only", "step", "epoch", "lite", "reading"])
    (path,) = (tmp_path / "quick").iterdir()  # never among the real tables
    rows = [row for row in read(path) if row["what"] != "MMCoA step against TeCoA's"]  # where the extra `lite` is installed
    assert list(rows[0]) == list(speed.COLUMNS)
    assert [(row["what"], row["target"]) for row in rows] == [
        ("PGD step", "10x"),
        ("PGD step", "3.5x"),
        ("PGD, embedded model", "250 image-steps/s"),
        ("PGD evaluation", "4x"),
        ("PGD evaluation", ""),
        ("text attack", "10x"),
        ("text attack, variants one by one", ""),
        ("text attack of a training batch", "20x"),
        ("MMCoA step", "3x"),
        ("MMCoA epoch, embedded model", "60 s"),
        ("PGD, convolutional tower", "1.6x"),
        ("reading a training batch", "1x"),
        ("reading, first time", "8 s"),
        ("reading, from the cache", "1 s"),
        ("streaming JPEGs", "0.9x"),
    ]
    assert all(float(row["ours"]) > 0 and "torch" in row["versions"] and "threads" in row["hardware"] for row in rows)
    for row in rows:
        if row["baseline"]:
            assert float(row["ratio"]) == pytest.approx(float(row["baseline"]) / float(row["ours"]), rel=0.02)
    printed = capsys.readouterr().out
    assert "6 identical, 0 tied" in printed and "PGD-2 on openmoji/birds, n = 15: robust accuracy" in printed


def test_the_share_of_the_peak_is_counted():
    """What a GPU's run adds, at a size for this machine: FLOPs are those of the step, the rate is at most the product's."""
    model, prompts = speed.random_model("tiny", "cpu"), speed.class_prompts(4)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    batch = training_step.random_batch(model, prompts, 4, "cpu")
    threat = ThreatModel(epsilon="1/255", steps=1, candidate_source="table:eval")
    row = training_step.peak_line(model, batch, threat, TrainConfig(lr=1e-6).for_model({}), "cpu", "tiny", side=256)
    assert float(row["ours"]) > 0 and float(row["ratio"]) == pytest.approx(
        float(row["ours"]) / float(row["baseline"]), rel=0.05
    )


@pytest.mark.slow
def test_one_call_measures_a_device(tmp_path, capsys):
    """Quick on this CPU: all lines of a GPU but those of its graphs, which are off and say so."""
    speed.main(["--quick", "--device", "cpu", "--output", str(tmp_path), "--only", "gpu"])
    rows, printed = read(next((tmp_path / "quick").iterdir())), capsys.readouterr().out
    pgd = ["PGD step, fp32", "PGD step, fp32, compiled"]
    pgd += [f"PGD step, bf16{way}{rate}" for way in ("", ", compiled") for rate in ("", ": rate")]
    steps = ["MMCoA step, fp32", "MMCoA step, bf16", "MMCoA step, bf16: rate"]
    assert [row["what"] for row in rows] == ["bf16 product", "outcomes as on the CPU", "signs as on the CPU", *pgd, *steps]
    assert [float(row["ours"]) for row in rows[1:3]] == [100, 100]
    assert all(float(row["ours"]) > 0 for row in rows) and all(float(row["ratio"]) > 0 for row in rows[3:])
    assert {row["baseline"] for row in rows if row["what"].endswith("rate")} == {rows[0]["ours"]}
    assert printed.count("CUDA graph, batch 2: off") == 2


def test_what_fails_on_a_device_or_finds_no_time_is_said(capsys, monkeypatch):
    assert gpu.attempt("a line", lambda: common.require(False, "losses 1 and 2")) is None
    assert "a line: off, SystemExit: not the same result: losses 1 and 2" in capsys.readouterr().out
    rows = speed.LINES["gpu"](replace(speed.QUICK, gpu_seconds=-1), "cpu")
    assert [row["what"] for row in rows] == ["bf16 product"] and capsys.readouterr().out.count("left out") == 4


def test_another_loss_than_the_public_way_s_is_no_row(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "LOSSES", {"fp32": 2e-3, "bf16": -1.0})
    monkeypatch.setattr(gpu, "WAYS", ("",))
    rows = gpu.pgd_lines(2, 1e12, speed.QUICK, "cpu", speed.random_model, speed.class_prompts(4))
    assert [row["what"] for row in rows] == ["PGD step, fp32"] and "PGD step, bf16: losses" in capsys.readouterr().out


def test_the_memory_line(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "measure", lambda samples, device: {"peak": 6e8 + samples})
    speed.main(["--output", str(tmp_path), "--only", "memory"])
    (row,) = read(next(tmp_path.iterdir()))
    assert (row["what"], row["ours"], row["baseline"], row["ratio"]) == ("peak memory of an evaluation", "600", "600", "1")


def test_the_gradient_s_lines():
    """Both precisions agree with open_clip's own code; one that does not stops the run."""
    rows = speed.LINES["precision"](speed.QUICK, "cpu")
    assert [row["what"] for row in rows] == 2 * ["image gradient, fp32", "image gradient, bf16"]
    assert all(float(row["ours"]) > 0 and "of signs" in row["setting"] for row in rows)


def test_a_wrong_gradient_stops_the_lines(monkeypatch):
    monkeypatch.setitem(precision.LEAST, "fp32", 1.1)
    with pytest.raises(SystemExit, match="gradient in fp32"):
        speed.LINES["precision"](speed.QUICK, "cpu")


@pytest.mark.slow
def test_memory_is_measured_in_a_process_of_its_own():
    found = memory.measure(4, shard=2, pixels=64, classes=30)
    assert found["n"] == 4 and found["classes"] == 30 and len(found["accuracy"]) == 2
    assert 1e8 < found["peak"] < 4e9
    with pytest.raises(SystemExit, match="multiple"):
        memory.write_folder("nowhere", 5, shard=2)


@pytest.mark.slow
def test_growth_is_measured_once(tmp_path, capsys, monkeypatch):
    """One setting varies at a time; a point that is there is not measured again, one of other versions is."""
    arguments = ["--quick", "--output", str(tmp_path), "--only", "classes", "epsilons"]
    cost.main(arguments)
    (path,) = (tmp_path / "quick").iterdir()
    rows = read(path)
    assert tuple(rows[0]) == cost.COLUMNS and len(rows) == 2 * 2 * 3
    assert [(row["value"], row["classes"], row["epsilons"]) for row in rows if row["attack"] == "text"] == [
        ("10", "10", "2/255"),
        ("12", "12", "2/255"),
        ("1", "50", "2/255"),
        ("2", "50", "2/255 1/255"),
    ]
    assert all(0 < float(row["seconds"]) <= float(row["median"]) <= float(row["longest"]) and row["n"] == "4" for row in rows)
    assert {row["steps"] for row in rows if row["attack"] == "text"} == {"0"}
    monkeypatch.setattr(cost.mmcoa, "evaluate", None)  # nothing is run
    cost.main(arguments)
    assert "all points are there" in capsys.readouterr().out and read(path) == rows
    monkeypatch.setattr(cost, "versions", lambda *names: "torch 0.0")
    with pytest.raises(TypeError):
        cost.main(arguments)


def test_classes_grow_around_the_same_pictures():
    few, many = cost.among(10, 6), cost.among(40, 6)
    assert torch.equal(few.images, many.images) and torch.equal(few.labels, many.labels) and int(few.labels.max()) < 10
    assert len(few.prompts) == 10 and many.prompts[:10] == few.prompts and len(set(many.prompts)) == 40
    with pytest.raises(UserError, match="asked for"):
        cost.among(10_000, 6)


def test_peak_memory_is_in_bytes_and_no_less_than_what_is_held():
    assert 0.99 * psutil.Process().memory_info().rss < memory.peak_bytes() < psutil.virtual_memory().total


@pytest.mark.slow
def test_the_strength_tables_are_complete(tmp_path):
    pytest.importorskip("torchattacks", reason="installed by `make test`")
    pytest.importorskip("clip_benchmark", reason="installed by `make test`")
    strength.main(["--quick", "--output", str(tmp_path), "--pairs", "openmoji-clip@openmoji/birds"])
    image, pairs, text, clean = (read(tmp_path / "quick" / f"{part}.csv") for part in strength.PARTS)
    assert [tuple(table[0]) for table in (image, pairs, text, clean)] == [*2 * [strength.IMAGE], strength.TEXT, strength.CLEAN]
    assert [row["attack"] for row in image] == ["fgsm", "pgd", "apgd-ce", "apgd-dlr", "apgd-dlr-t", "square"]
    assert {row["dataset"] for row in pairs} == {"openmoji/birds"} and {row["n"] for row in pairs} == {"6"}
    assert {(row["runs"], row["luck_points"]) for row in image} == {("1", "")} and {row["runs"] for row in pairs} == {"2"}
    for row in image + pairs:
        difference = float(row["ours_robust"]) - float(row["theirs_robust"])
        assert abs(difference - float(row["difference_points"])) < 0.02
        assert row["agrees"] == str(difference - float(row["luck_points"] or 0) <= 1) and row["command"].startswith(
            "python benchmarks/strength.py"
        )
    assert all(int(row["identical"]) == int(row["prompts"]) > 5 and row["differing"] == "0" for row in text)
    assert all(row["agree"] == row["n"] == "12" for row in clean)


@pytest.mark.parametrize("ours,agrees", [(50.0, True), (51.0, True), (51.1, False), (20.0, True)])
def test_weaker_by_more_than_a_point_is_no_agreement(embedded, birds, ours, agrees):
    row = strength.image_row("pgd", ThreatModel(), birds, embedded, [ours], [50.0], "other", "1")
    assert row["agrees"] is agrees and row["difference_points"] == round(ours - 50, 2)
    row = strength.image_row("pgd", ThreatModel(), birds, embedded, [ours, ours + 2], [50.0, 50.0], "other", "1")
    assert row["luck_points"] == 1.96 and row["agrees"] is (ours + 1 - 50 <= 1 + 1.96)


def test_the_other_side_leaves_batch_norms_alone(tiny, small_birds):
    """torchattacks ends in the mode that it found; in training mode a convolutional model would learn from its attack."""
    pytest.importorskip("torchattacks", reason="installed by `make test`")
    classifier = baselines.Classifier(tiny, tiny.encode_text(small_birds.prompts).detach())
    images, labels = small_birds.images[:2].float() / 255, small_birds.labels[:2]
    attacks = strength.torchattacks_of(classifier, ThreatModel(steps=1), targets=1)
    first, second, other = (attacks["pgd"](images, labels, seed) for seed in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert not any(module.training for module in classifier.modules())


def test_the_other_side_stays_in_the_l2_ball_and_breaks_samples(tiny, small_birds):
    pytest.importorskip("torchattacks", reason="installed by `make test`")
    classifier = baselines.Classifier(tiny, tiny.encode_text(small_birds.prompts).detach())
    threat = ThreatModel(epsilon=1.0, norm="l2", steps=5, apgd_steps=5, queries=20)
    images = small_birds.images.float() / 255
    with torch.no_grad():
        labels = classifier(images).argmax(dim=1)  # a random model is right about nothing: attack what it says
    functions = strength.torchattacks_of(classifier, threat, targets=2)
    assert set(functions) == {"pgd", "apgd-ce", "apgd-dlr", "apgd-dlr-t", "square"}
    for name, function in functions.items():
        adversarial = function(images, labels, 0).detach()
        strength.check_ball(adversarial - images, threat, name)
        with torch.no_grad():
            assert (classifier(adversarial).argmax(dim=1) != labels).any(), name


def test_a_perturbation_outside_the_ball_stops_the_comparison():
    with pytest.raises(SystemExit, match="outside the ball"):
        strength.check_ball(torch.full((1, 3, 2, 2), 3 / 255), ThreatModel(epsilon="2/255"), "other")
    strength.check_ball(torch.full((1, 3, 2, 2), 2 / 255), ThreatModel(epsilon="2/255"), "other")


def test_some_attacks_and_more_runs_are_said_in_the_command(tmp_path):
    pytest.importorskip("torchattacks", reason="installed by `make test`")
    few = ["--pair-samples", "4", "--pair-runs", "3", "--attacks", "fgsm"]
    strength.main(["--quick", "--only", "pairs", "--output", str(tmp_path), *few, "--pairs", "openmoji-clip@openmoji/birds"])
    (row,) = read(tmp_path / "quick" / "pairs.csv")
    assert (row["attack"], row["n"], row["runs"]) == ("fgsm", "4", "3")
    assert row["command"].endswith(" ".join(few) + " --pairs openmoji-clip@openmoji/birds")


def test_a_shorter_auto_attack_has_the_checkpoints_of_its_length():
    apgd = SimpleNamespace(n_restarts=5, n_iter=100, n_iter_2=22, n_iter_min=6, size_decr=3)
    strength.shorten(apgd, 100)
    assert vars(apgd) == {"n_restarts": 1, "n_iter": 100, "n_iter_2": 22, "n_iter_min": 6, "size_decr": 3}
    strength.shorten(apgd, 20)
    assert vars(apgd) == {"n_restarts": 1, "n_iter": 20, "n_iter_2": 4, "n_iter_min": 1, "size_decr": 1}


def test_a_wrong_auto_attack_folder_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="names a checkout of"):
        strength.main(["--quick", "--only", "image", "--output", str(tmp_path), "--auto-attack", str(tmp_path)])


def test_the_slow_loop_tries_every_allowed_variant():
    taken = {prompt.lower() for prompt in [*PROMPTS, "a photo of a flamingo."]}
    variants = baselines.variants_of(PROMPTS[0], lambda word: TABLE.get(word, []), taken)
    assert variants == ["a picture of a parrot.", "a photo of a bird."]  # `flamingo` is another class
    assert baselines.variants_of(PROMPTS[1], lambda word: TABLE.get(word, []), taken)[-1] == "A photo of a Heron"


def test_the_slow_loop_takes_the_furthest_and_batches_do_not_matter(tiny):
    both = [
        baselines.attack_prompts_slowly(tiny, PROMPTS, lambda word: TABLE.get(word, []), one_by_one=one)
        for one in (True, False)
    ]
    assert [prompt for prompt, _ in both[0]] == [prompt for prompt, _ in both[1]]
    for prompt, (found, score) in zip(PROMPTS, both[0], strict=True):
        every = baselines.variants_of(prompt, lambda word: TABLE.get(word, []), {p.lower() for p in PROMPTS})
        assert score == pytest.approx(max(baselines.distance(tiny, prompt, text) for text in every), abs=1e-6)
        assert found in every
    assert baselines.attack_prompts_slowly(tiny, ["of a"], lambda word: []) == [("of a", 0.0)]


def test_the_public_loop_computes_what_it_is_blamed_for(tiny, small_birds):
    """Gradients of all weights, text tower included, and a perturbation inside the ball that raises the loss."""
    images, labels = small_birds.images[:4].float() / 255, small_birds.labels[:4]
    threat = ThreatModel(epsilon="4/255", steps=3)
    found = baselines.pgd_public(tiny, images, labels, small_birds.prompts, threat, torch.zeros_like(images))
    assert all(
        parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in tiny.clip.transformer.parameters()
    )
    assert (found - images).abs().max() <= threat.epsilon + 1e-6 and found.min() >= 0 and found.max() <= 1
    text = tiny.encode_text(small_birds.prompts)
    before, after = (torch.nn.functional.cross_entropy(tiny.logits(x, text), labels) for x in (images, found))
    assert after > before


def test_different_results_are_not_raced(tiny):
    slow = baselines.attack_prompts_slowly(tiny, PROMPTS, lambda word: TABLE.get(word, []))
    assert speed.compare_prompts(tiny, [prompt for prompt, _ in slow], slow, PROMPTS) == 0
    with pytest.raises(SystemExit, match="not the same result"):
        speed.compare_prompts(tiny, [PROMPTS[0], slow[1][0]], slow, PROMPTS)


def test_a_race_takes_turns_and_keeps_the_shortest(monkeypatch):
    order, clock = [], iter([0, 5, 5, 25, 25, 28, 28, 40, 40, 41])  # seconds before and after each call
    monkeypatch.setattr(common.time, "perf_counter", lambda: next(clock))
    result = common.race(lambda: order.append("ours") or 1, lambda: order.append("theirs") or 2, 3, 2)
    assert result == (1, 12, 1, 2)
    assert order == ["ours", "theirs", "ours", "theirs", "ours"]


def test_tables_are_whole_and_keep_other_lines(tmp_path):
    path = tmp_path / "new" / "table.csv"
    common.write_csv(path, [{"a": 1, "b": 2}, {"a": 2, "b": 3}], ("a", "b"), key=("a",))
    common.write_csv(path, [{"a": 2, "b": 4}], ("a", "b"), key=("a",))
    assert read(path) == [{"a": "1", "b": "2"}, {"a": "2", "b": "4"}]
    common.write_csv(path, [{"a": 5, "b": 6}], ("a", "b"))
    assert read(path) == [{"a": "5", "b": "6"}] and [p.name for p in path.parent.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("number,text", [(0.01234, "0.0123"), (4.5, "4.5"), (123.4, "123"), (12345.6, "12346")])
def test_short_numbers(number, text):
    assert common.short(number) == text


def test_a_table_of_known_words_only():
    assert len(speed.class_prompts(100)) == len(set(speed.class_prompts(100))) == 100
    with pytest.raises(Exception, match="asked for"):
        speed.class_prompts(10_000)

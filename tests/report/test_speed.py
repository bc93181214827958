"""The tables of the page on speed: each machine's lines, in both precisions, beside what they were measured with."""

import pandas as pd

from mmcoa.report import speed

HEAD = "what,setting,ours,baseline,unit,ratio,hardware\n"


def test_every_machine_and_precision_has_its_rows(tmp_path):
    (tmp_path / "speed").mkdir()
    gpu = [
        '"PGD step, fp32","B, batch 256",0.2,2,s a step,10,GPU',
        '"PGD step, bf16, compiled","B, batch 64",0.1,2,s a step,20,GPU',
        '"PGD step, bf16, compiled: rate","B, batch 64; baseline: a product",300,750,TFLOP/s,0.4,GPU',
        "bf16 product,8192 x 8192,750,,TFLOP/s,,GPU",
    ]
    cpu = [
        'PGD step,"B, batch 16",2,20,s a step,10,CPU',
        '"image gradient, bf16","B, bf16, batch 16, 99 % of signs",1,4,s,4,CPU',
        'PGD evaluation,"birds, n = 9; baseline torchattacks",2,8,s,4,CPU',
        "MMCoA step against TeCoA's,lite; baseline: a TeCoA step; ratio: MMCoA over TeCoA,4,2,s,2,CPU",
    ]
    for name, found in (("a", gpu), ("b", cpu), ("b-quick", cpu)):  # a trial run's is not shown
        (tmp_path / "speed" / f"{name}.csv").write_text(HEAD + "\n".join(found) + "\n")
    shown, _ = speed.steps(tmp_path)
    assert shown.values.tolist() == [
        ["CPU", "PGD", "fp32", "B, batch 16", "2", "20", "10", "–"],
        ["CPU", "image gradient", "bf16", "B, batch 16, 99 % of signs", "1", "4", "4", "–"],
        ["GPU", "PGD", "bf16, compiled", "B, batch 64", "0.1", "2", "20", "40.0 %"],
        ["GPU", "PGD", "fp32", "B, batch 256", "0.2", "2", "10", "–"],
    ]
    shown, _ = speed.others(tmp_path)
    assert shown.values.tolist() == [
        ["CPU", "PGD evaluation", "birds, n = 9", "2", "8", "s", "4", "torchattacks"],
        ["CPU", "MMCoA step against TeCoA's", "lite; ratio: MMCoA over TeCoA", "4", "2", "s", "2", "a TeCoA step"],
        ["GPU", "bf16 product", "8192 x 8192", "750", "–", "TFLOP/s", "–", "–"],
    ]


def test_no_committed_line_is_lost_or_shown_twice(committed):
    rows = pd.concat(pd.read_csv(path) for path in (committed / "speed").glob("*.csv"))
    shown = len(speed.steps(committed)[0]) + len(speed.others(committed)[0])
    assert shown == len(rows) - rows.what.str.endswith(speed.RATE).sum() > 0

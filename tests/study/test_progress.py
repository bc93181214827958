"""Following a run by its records: what is new is read once, and nothing that is there is missed."""

import os
from pathlib import Path

from mmcoa.store.finished import write_record
from mmcoa.study.compute import claim_folder
from mmcoa.study.plan import make_plan
from mmcoa.study.status import Watch


def finish(plan, cell, seconds, tick):
    """Write a record, at a tick of the file system's clock, which may be as coarse as two records are close."""
    folder = write_record(plan.runs, cell, {"seconds": seconds}).parent
    os.utime(folder, (tick, tick))


def test_a_finished_cell_is_a_line_with_its_seconds_and_the_time_left(write_profile):
    plan = make_plan(write_profile(models=[{"defense": "none"}]))
    watch, (first, second) = Watch(plan, jobs=2), plan.todo
    assert watch.finished() == []  # no folder of records yet
    finish(plan, first, 6, tick=1)
    assert watch.finished() == [f"[1/2] {first.id}: 6.0 s; time left: 3 s"]
    assert watch.finished() == []
    finish(plan, second, 6, tick=2)
    assert watch.finished() == [f"[2/2] {second.id}: 6.0 s; time left: 0 s"]


def test_the_last_look_finds_what_came_in_the_same_tick_of_the_clock(write_profile):
    plan = make_plan(write_profile(models=[{"defense": "none"}]))
    watch, (first, second) = Watch(plan, jobs=1), plan.todo
    finish(plan, first, 1, tick=1)
    watch.finished()
    finish(plan, second, 1, tick=1)
    assert watch.finished() == [] and watch.waiting == [second]
    assert len(watch.finished(last=True)) == 1 and watch.waiting == []


def test_a_model_whose_weights_are_gone_is_done_when_they_are_back(write_profile):
    profile = write_profile()
    train = next(cell for cell in make_plan(profile).todo if cell.kind == "train")
    finish(make_plan(profile), train, 9, tick=1)  # its record stays, its weights are nowhere
    plan = make_plan(profile)
    assert train.id in [cell.id for cell in plan.todo]
    watch = Watch(plan, jobs=1)
    assert watch.finished() == []
    folder = Path(next(process for process in plan.pending if process.name == train.id).output)
    claim_folder(folder, train)
    assert watch.finished(last=True) == []  # being trained
    (folder / "mmcoa.json").write_text("{}")
    (line,) = watch.finished(last=True)
    assert line.startswith(f"[1/5] {train.id}: 9.0 s; time left: unknown")

"""Run a profile: plan, lock, Snakemake, progress, and at the end what failed and rows.csv.

    runner.run("quick")            # `mmcoa run quick`: the same command starts, continues and, when all is done, does nothing

Snakemake sees the processes that hold a missing or stale cell and nothing else; what is done, the records decide.
"""

import contextlib
import signal
from pathlib import Path

import filelock

from mmcoa.console import duration
from mmcoa.errors import UserError
from mmcoa.store.files import write_json
from mmcoa.study import preflight, workflow
from mmcoa.study.machine import alive, claim, claimed, kill_tree, on_signals
from mmcoa.study.plan import KINDS, make_plan, narrowed, notebook, papermill_command, write_specs
from mmcoa.study.status import failures

INTERRUPTED = 130


def run(
    profile, jobs=None, executor="local", dry_run=False, commands=False, results=Path("results"), runs=Path("runs"),
    echo=print, cluster=None, report=False, only=None, per_gpu=1,
):  # fmt: skip
    """Run what is missing of a profile. Returns the exit code: 0 all done, 1 some cell failed, 130 interrupted.

    Arguments:
        profile: name of a shipped profile or path of a YAML file.
        jobs: processes at once; None: one here, on Slurm as many as the cluster's file says. Those that run here at once
            share the cores out and have a GPU each where there are any. per_gpu: so many share one, as small models should.
        executor: `local`, or `slurm` (needs the extra `slurm`). cluster: a Slurm cluster's settings, as in cluster/slurm.yaml.
        only: run one process alone, by its name or that of one of its cells, and what it needs.
        report: build the study's report when all its cells are done, unless what it shows and is made by is as it was.
        dry_run: print the plan and stop. commands: print each process's papermill command and stop.
        results, runs: folders, relative to the current one.

    Raises `UserError` for a mistake in the profile or in `cluster`, for what its cells need and is not here (preflight.py),
    and where another runner is at work on it.
    """
    from mmcoa.study.pack import pack_plan  # pandas, for which a status does not wait

    workflow.check(executor, cluster, per_gpu)
    jobs = workflow.jobs_at_once(jobs, executor, cluster)
    whole = make_plan(profile, results, runs)
    plan = narrowed(whole, only)
    if dry_run or commands:
        for line in describe(plan, jobs) if dry_run else []:
            echo(line)
        if commands:
            write_specs(plan)  # what the commands read
        for process in plan.pending if commands else []:
            echo(papermill_command(plan, process))
        return 0
    for process in plan.pending:
        notebook(KINDS[process.kind])  # raises where there is none
    command = plan.command + " --report" * report
    with only_runner(plan.runs):
        whole = whole.again()  # another runner may have finished while we waited
        plan = narrowed(whole, only)
        if not plan.pending and not report:
            pack_plan(whole)
            echo(f"{plan.profile.name}: all {len(plan.cells)} cells are done; packed in {plan.results}")
            return 0
        preflight.check(plan)
        try:
            with polite_interrupts():
                code = workflow.run(plan, jobs, executor, echo, cluster, report, per_gpu)
        except KeyboardInterrupt:
            echo(f"interrupted; finished cells are kept, the same command continues: {command}")
            return INTERRUPTED
        whole, started = whole.again(), {process.name for process in plan.pending}
        pending = [process for process in whole.pending if only is None or process.name in started]
        say_failures(whole, pending, command, echo)
        _, missing = pack_plan(whole)
        if done := len(whole.cells) - len(whole.todo):
            packed = f"; packed in {whole.results}" + (f" ({missing} missing)" if missing else "")
        echo(f"{whole.profile.name}: {done} of {len(whole.cells)} cells are done{packed if done else ''}")
        if code and not pending:
            echo(f"Snakemake ended with code {code}; see {whole.runs / 'snakemake.log'}")
        if report and not whole.pending:
            say_report(whole, command, echo)
        return 1 if pending or code else 0


def describe(plan, jobs=1):
    """Lines of the dry run."""
    waiting = {cell.id for cell in plan.todo}
    yield f"{plan.profile.name}: {len(plan.cells)} cells, {len(plan.cells) - len(waiting)} done, {len(waiting)} to do"
    for process in plan.pending:
        left = [cell.id for cell in process.cells if cell.id in waiting]
        after = f"  after {', '.join(needs)}" if (needs := plan.needs(process)) else ""
        work = f"{len(left)} of {len(process.cells)} cells to do" if process.cells else "the base model, if the cache lacks it"
        yield f"  {process.name}: {work}{after}"
        for cell in left if len(left) < len(process.cells) else []:
            yield f"    {cell}"
    for text in preflight.problems(plan):
        yield f"  not ready: {text}"
    if size := preflight.gigabytes(plan):
        yield f"  data on disk when all is here: about {size:,.1f} GB"
    if fetched := preflight.weights(plan.profile.base_model) if waiting and plan.profile.pretrain is None else "":
        yield f"  fetched at first use, if it is not in the cache: {fetched}"
    for text in preflight.estimate(plan):
        yield f"  {text}"
    if waiting:
        yield f"  time left, from the cells that were run here: {duration(plan.seconds_left(plan.todo, jobs))}"


@contextlib.contextmanager
def only_runner(folder):
    """Hold the lock of runs/PROFILE. What a runner that was killed left running is ended first."""
    folder.mkdir(parents=True, exist_ok=True)
    owner = folder / "runner.json"
    try:
        with filelock.FileLock(folder / "lock", timeout=0):
            if owner.is_file():
                left = (claimed(owner) or {}).get("workflow")
                if left and left["host"] == claim()["host"] and alive(left):  # on another host the number is somebody else's
                    kill_tree(left["pid"])
                workflow.cancel(folder)
            write_json(owner, claim())
            try:
                yield
            finally:
                owner.unlink(missing_ok=True)
    except filelock.Timeout as error:
        other = claimed(owner)
        who = f" (process {other['pid']} on {other['host']})" if other else ""
        away = other and other["host"] != claim()["host"]
        stale = f"; if that machine is gone, remove {folder / 'lock'}" if away else ""
        raise UserError(f"another runner is at work in {folder}{who}; see mmcoa status{stale}") from error


def polite_interrupts():
    """A polite kill ends a run as Ctrl-C does; and so does SIGINT where a shell in the background had it ignored."""

    def interrupt(*_):
        raise KeyboardInterrupt

    return on_signals(interrupt, signal.SIGTERM, signal.SIGINT)


def say_failures(plan, pending, command, echo):
    """Say which of the processes that were to run failed, and why; which did not run; and what keeps all from running."""
    failed = failures(plan.runs, [process.name for process in pending])
    for name, failure in failed.items():
        echo(f"failed: {name}: {failure['reason']}")
        echo(f"  notebook: {failure['notebook']}")
        echo(f"  retry:    {plan.command} --only {name}")
    logs = " and ".join(str(plan.runs / name) for name in ("logs", "slurm", "snakemake.log") if (plan.runs / name).exists())
    stopped = set(failed)  # and what needs one of them, which stands behind it
    for process in pending:
        needs = plan.needs(process)
        if process.name in failed:
            continue
        if any(name in stopped for name in needs):
            stopped.add(process.name)
            echo(f"not run: {process.name}: needs {', '.join(needs)}")
        else:
            echo(f"failed: {process.name}: it ended without a result; see {logs}")
    for text in preflight.crowded(plan.results, plan.runs):
        echo(f"stopped: {text}, then: {command}")


def say_report(plan, command, echo):
    """Where the report is, or why there is none."""
    log = plan.runs / "logs" / "report.log"
    said = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.is_file() else []
    page = next((line for line in reversed(said) if line.startswith("report: ")), None)
    if (plan.runs / "done" / "report").is_file() and page:
        echo(page)
        return
    echo(f"failed: report: {said[-1].removeprefix('mmcoa: ') if said else 'it ended without a word'}")
    echo(f"  log:      {log}")
    echo(f"  retry:    {command}")

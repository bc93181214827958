"""This machine, as the processes of a study share it: which of them live, and which GPUs they hold.

    with hold(1):
        ...     # CUDA_VISIBLE_DEVICES names one GPU, which no other `hold` on this machine has
    with hold(1, share=8):
        ...     # one GPU, which at most seven others have, and nobody alone

Imports no torch: the runner counts GPUs before it starts anything.
"""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import filelock
import psutil

from mmcoa.errors import UserError

VARIABLE = "CUDA_VISIBLE_DEVICES"
POLL = 1.0  # seconds between two looks for a free GPU


def threads(jobs):
    """CPU threads for each of so many processes: a share of the cores that this one may use, at most $OMP_NUM_THREADS."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores // jobs, int(asked) if asked.isdecimal() else cores))


def claim():
    """What identifies this process on any machine: {"host", "pid", "started"}."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}


def claimed(path):
    """The claim that a process left in a file; None where there is nothing whole: it may end at any moment."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"host", "pid", "started"} <= found.keys() else None


def alive(claim):
    """True where the process of a claim still runs. One on another host of a cluster counts as alive."""
    if claim["host"] != socket.gethostname():
        return True
    try:
        process = psutil.Process(claim["pid"])
        # A number is reused: a process that was born after the claim is somebody else's.
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < claim["started"] + 2
    except psutil.NoSuchProcess:
        return False


def kill_tree(pid, itself=True):
    """Kill a process and everything below it, kernels in their own sessions included.

    Not asked to end first: every file of a study is written under a temporary name, so there is nothing to tidy.
    """
    try:
        root = psutil.Process(pid)
        doomed = [*root.children(recursive=True), *([root] if itself else [])]
    except psutil.NoSuchProcess:
        return
    for process in doomed:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs([process for process in doomed if process.pid != os.getpid()], timeout=10)


@contextlib.contextmanager
def on_signals(handler, *numbers):
    """Let `handler` answer these signals meanwhile. Only the main thread may: in another one nothing changes."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in numbers if main}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def visible():
    """Names of the GPUs that a process started here would see, each fit for CUDA_VISIBLE_DEVICES.

    UUIDs where `nvidia-smi` tells them: a number means one GPU to one process and another GPU to the next. With
    CUDA_VISIBLE_DEVICES set, those that it names; its numbers count as nvidia-smi does (CUDA_DEVICE_ORDER=PCI_BUS_ID).
    """
    return chosen(os.environ.get(VARIABLE), listed())


def listed():
    """UUIDs in the order of `nvidia-smi -L`; empty where there is no such command or no driver. A GPU that is split (MIG)
    stands back for its parts.
    """
    found = []
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        told = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=True).stdout
        for line, uuid in re.findall(r"^(.*)\(UUID: ([^)]+)\)", told, re.MULTILINE):
            if line.startswith("GPU"):
                found.append([uuid])
            elif found:
                found[-1].append(uuid)
    return [name for whole, *parts in found for name in parts or [whole]]


def chosen(setting, known):
    """GPUs that a value of CUDA_VISIBLE_DEVICES (None: not set) leaves of the `known` ones; like CUDA, up to the first
    bad entry.
    """
    if setting is None:
        return known
    names = []
    for entry in filter(None, (part.strip() for part in setting.split(","))):
        if re.fullmatch(r"-?\d+", entry):
            number = int(entry)
            if number < 0 or (known and number >= len(known)):
                break
            names.append(known[number] if known else entry)
        else:  # a UUID, which may be cut short
            names.append(next((name for name in known if name.startswith(entry)), entry))
    return list(dict.fromkeys(names))


@contextlib.contextmanager
def hold(count, names=None, folder=None, share=1):
    """Wait for `count` free GPUs of those that are visible, keep them, and name them alone in CUDA_VISIBLE_DEVICES.

    count: 0 does nothing. share: processes that may be on each of them at once. names, folder: of the GPUs and of the locks,
    for tests; the locks of a user lie in one folder of the machine, so that two studies, too, count together. They are freed
    when the process ends, however it ends.

    Yields the names. Raises `UserError` where fewer GPUs are visible than asked for.
    """
    if not count:
        yield []
        return
    names = visible() if names is None else names
    if len(names) < count:
        raise UserError(f"{count} GPUs asked for, {len(names)} visible")
    folder = lock_folder() if folder is None else Path(folder)
    before = os.environ.get(VARIABLE)
    while not (held := take(count, names, folder, share)):
        time.sleep(POLL * random.uniform(0.5, 1.5))  # not in step with others that wait
    os.environ[VARIABLE] = ",".join(held)
    try:
        yield list(held)
    finally:
        os.environ.pop(VARIABLE)
        os.environ.update({} if before is None else {VARIABLE: before})
        for locks in held.values():
            release(locks)


def take(count, names, folder, share=1):
    """{name: its locks} of `count` GPUs, or {}: all or none, so that two that wait for many never hold each other up."""
    held = {}
    for name in names:
        if locks := slot(folder / re.sub(r"[^A-Za-z0-9-]", "_", name), share):
            held[name] = locks
        if len(held) == count:
            return held
    for locks in held.values():
        release(locks)
    return {}


def slot(stem, share):
    """Locks of a place on one GPU, or []. Whoever shares passes the gate STEM.lock and keeps STEM.K.lock; whoever wants it
    alone keeps the gate, and goes back where a place behind it is taken."""
    gate = locked(f"{stem}.lock")
    if gate is None:
        return []
    if share > 1:
        mine = next(filter(None, (locked(f"{stem}.{place}.lock") for place in range(share))), None)
        gate.release()
        return [mine] if mine else []
    places = [locked(path) for path in sorted(stem.parent.glob(f"{stem.name}.*.lock"))]
    if all(places):
        return [gate, *places]
    release([gate, *filter(None, places)])
    return []


def locked(path):
    """A lock that is held now, or None where another process has it."""
    lock = filelock.FileLock(path)
    with contextlib.suppress(filelock.Timeout):
        lock.acquire(timeout=0)
        return lock
    return None


def release(locks):
    for lock in locks:
        lock.release()


def lock_folder():
    """The user's folder of locks on this machine. Raises `UserError` where somebody else made it."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folder = Path(tempfile.gettempdir()) / f"mmcoa-gpus-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or (hasattr(os, "getuid") and folder.stat().st_uid != user):
        raise UserError(f"{folder} belongs to somebody else; set TMPDIR to a folder of your own")
    return folder

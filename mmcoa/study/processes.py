"""Operating-system processes of a run: is one alive, and end one with all that it started."""

import os
import socket
import time

import psutil


def claim():
    """What identifies this process on any machine: {"host", "pid", "started"}."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}


def alive(claimed):
    """True where the process of a `claim` still runs. One on another host of a cluster counts as alive."""
    if claimed["host"] != socket.gethostname():
        return True
    try:
        process = psutil.Process(claimed["pid"])
        # A number is reused: a process that was born after the claim is somebody else's.
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() < claimed["started"] + 2
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
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs([process for process in doomed if process.pid != os.getpid()], timeout=10)

"""Processes that race, and processes that are killed at seeded moments.

Children are forked from a server that has the heavy imports done, so one kill costs
milliseconds. A target is a module-level function; its first argument is `Ready`, which it calls
once its setup is over and the interesting part begins. Only children started here are killed.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

Ready = Callable[[], Any]
_PRELOAD = [
    "__main__",
    "fm_platform.store.tables",
    "fm_platform.store.models",
    "fm_platform.workspace",
]
_PATIENCE_S = 120.0


def forkserver() -> ForkServerContext:
    """Return the context that children come from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def preload(*modules: str) -> None:
    """Start the server that children come from with more imports done; no effect where it runs."""
    multiprocessing.get_context("forkserver").set_forkserver_preload([*_PRELOAD, *modules])
    multiprocessing.forkserver.ensure_running()


@dataclass(frozen=True)
class Moment:
    """When to kill: a while after the child has shown some progress.

    Progress, not time, decides how far a child comes, so a busy machine changes nothing much.
    """

    progress: int
    delay_s: float


def moments(seed: int, count: int, *, most_progress: int = 3, longest_s: float) -> list[Moment]:
    """Return `count` seeded moments: progress in [0, most_progress], delay in [0, longest_s]."""
    rng = random.Random(seed)
    return [
        Moment(rng.randint(0, most_progress), rng.uniform(0.0, longest_s)) for _ in range(count)
    ]


def run_and_kill(
    target: Callable[..., None], args: Sequence[Any], moment: Moment, progress: Callable[[], int]
) -> None:
    """Start `target(ready, *args)`, and SIGKILL it at `moment`.

    Args:
        target: Works until it is killed.
        args: Its further arguments.
        moment: When.
        progress: Counts what the child has done so far; read before it starts and while it runs.

    Raises:
        RuntimeError: If the child ended by itself, or made no progress in two minutes.
    """
    context = forkserver()
    ready = context.Event()
    goal = progress() + moment.progress
    child = context.Process(target=target, args=(ready.set, *args), daemon=True)
    child.start()
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while not ready.is_set() or progress() < goal:
            child.join(0.001)
            if child.exitcode is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no progress: exit code {child.exitcode}")
        child.join(moment.delay_s)
        if child.exitcode is not None:
            raise RuntimeError(f"the child was to be killed, but ended with {child.exitcode}")
    finally:
        child.kill()
        child.join()


def race(target: Callable[..., None], arguments: Sequence[Sequence[Any]]) -> None:
    """Run `target(ready, *args)` once for each of `arguments`, all released at one moment.

    Raises:
        RuntimeError: If a process did not end with exit code 0.
    """
    context = forkserver()
    barrier = context.Barrier(len(arguments))
    children = [
        context.Process(target=target, args=(barrier.wait, *args), daemon=True)
        for args in arguments
    ]
    for child in children:
        child.start()
    for child in children:
        child.join()
    codes = [child.exitcode for child in children]
    if any(codes):
        raise RuntimeError(f"exit codes {codes}")


class Acks:
    """What a child says is done: lines that survive its death, appended one write at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, line: str) -> None:
        """Record one acknowledgement."""
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, f"{line}\n".encode())
        finally:
            os.close(handle)

    def lines(self) -> list[str]:
        """Return all whole lines so far."""
        if not self.path.exists():
            return []
        return self.path.read_text().rpartition("\n")[0].splitlines()

"""Processes that race, and processes that are killed at seeded moments.

Children are forked from a server that has the heavy imports done, so one kill costs
milliseconds. A target is a module-level function; its first argument is `Ready`, which it calls
once its setup is over and the interesting part begins. Only children started here are killed.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

Ready = Callable[[], Any]
_PRELOAD = ["__main__", "fm_platform.store.tables", "fm_platform.store.models"]
_START_S = 120.0


def forkserver() -> ForkServerContext:
    """Return the context that children come from."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def kill_delays(seed: int, count: int, longest_s: float) -> list[float]:
    """Return `count` seeded moments in [0, longest_s], in seconds after `Ready`."""
    rng = random.Random(seed)
    return [rng.uniform(0.0, longest_s) for _ in range(count)]


def run_and_kill(target: Callable[..., None], args: Sequence[Any], delay_s: float) -> bool:
    """Start `target(ready, *args)`, and SIGKILL it `delay_s` after it is ready.

    Returns:
        Whether it was killed; False if it ended by itself before.
    """
    context = forkserver()
    ready = context.Event()
    child = context.Process(target=target, args=(ready.set, *args), daemon=True)
    child.start()
    deadline = time.monotonic() + _START_S
    while not ready.wait(0.05):
        if child.exitcode is not None or time.monotonic() > deadline:
            child.kill()
            raise RuntimeError(f"the child did not get ready: exit code {child.exitcode}")
    child.join(delay_s)
    killed = child.exitcode is None
    child.kill()
    child.join()
    if not killed and child.exitcode != 0:
        raise RuntimeError(f"the child failed before it was killed: exit code {child.exitcode}")
    return killed


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

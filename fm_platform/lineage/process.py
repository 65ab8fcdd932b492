"""The process itself: a step must not outlive its run; garbage collection can wait."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int | None = None) -> bool:
    """Have the kernel kill this process when its parent dies (Linux; elsewhere nothing happens).

    The parent is the *thread* that started this process: call this in a child that was started
    from the main thread, or from one that lives as long as the work.

    Args:
        parent_pid: The expected parent. If it died before this call, this process ends at once.

    Returns:
        Whether the kernel will do it.

    Source:
        prctl(2), PR_SET_PDEATHSIG.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if parent_pid is not None and os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)
    return bool(done == 0)


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def without_pauses() -> Iterator[None]:
    """Hold the garbage collector back while very many values are made, none of them garbage.

    It would look through all of them again and again: a fifth to a third of the time.
    """
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()

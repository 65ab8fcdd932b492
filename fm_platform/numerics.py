"""Settings under which the same numbers come out again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

THREADS = 2
"""Threads of computations whose bits are kept: sums are split by thread, whatever the machine."""


@contextmanager
def reproducible(threads: int = THREADS) -> Iterator[None]:
    """Compute with a fixed number of threads and deterministic algorithms; then put all back.

    The global random state after the block is the one before it.
    """
    import torch
    from torch.utils import deterministic

    before = (
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    )
    # cuBLAS reads this once, when it is first used.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1], warn_only=before[2])
        deterministic.fill_uninitialized_memory = before[3]  # type: ignore[attr-defined]


@contextmanager
def one_thread() -> Iterator[None]:
    """Let NumPy and SciPy multiply matrices by one thread, in this process, inside this block.

    A product of a few milliseconds gains little from a second thread. Where other work keeps the
    cores busy, the two wait for each other: a hundred times as long was seen.
    """
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@cache
def _libraries() -> Any:
    import scipy.linalg  # noqa: F401 - its library, which is not NumPy's, is to be found, too
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from fm_platform.lineage.process import die_with_parent, is_alive
from tests.support.kill import Acks, Ready, forkserver

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")


def worker(out: Path, tied: bool) -> None:
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        if tied:
            die_with_parent(parent)
        Acks(out).append(str(os.getpid()))
        time.sleep(60)
        os._exit(0)
    time.sleep(60)


def grandchild(out: Path, tied: bool) -> int:
    """Start a worker with a child, kill the worker, return the child's process id."""
    process = forkserver().Process(target=worker, args=(out, tied))
    process.start()
    deadline = time.monotonic() + 60
    while not Acks(out).lines() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.join()
    return int(Acks(out).lines()[0])


def test_tied_child_dies_with_its_parent(tmp_path: Path) -> None:
    pid = grandchild(tmp_path / "pid", tied=True)

    deadline = time.monotonic() + 30
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(pid)


def test_untied_child_lives_on(tmp_path: Path) -> None:
    pid = grandchild(tmp_path / "pid", tied=False)
    try:
        assert is_running(pid)
    finally:
        os.kill(pid, signal.SIGKILL)


def late(ready: Ready, out: Path) -> None:
    die_with_parent(parent_pid=1 << 30)
    Acks(out).append("still here")


def test_child_whose_parent_is_gone_already_ends_at_once(tmp_path: Path) -> None:
    process = forkserver().Process(target=late, args=(None, tmp_path / "out"))
    process.start()
    process.join()

    assert process.exitcode == -signal.SIGKILL
    assert Acks(tmp_path / "out").lines() == []


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie that nobody has waited for."""
    if not is_alive(pid):
        return False
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_own_process_is_alive() -> None:
    assert is_alive(os.getpid())
    assert is_alive(1)

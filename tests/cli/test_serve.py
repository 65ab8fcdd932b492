"""The processes of `fm ui`, with small ones in their place."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fm_platform.cli.parts import RESTARTS, Parts
from fm_platform.errors import FMError

WAITS = "import time; time.sleep(60)"
WITH_CHILD = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {WAITS!r}])
print("child", child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Parts]]:
    started: list[Parts] = []

    def start(**code: str) -> Parts:
        parts = Parts({name: ["-c", text] for name, text in code.items()}, os.environ, tmp_path)
        parts.start()
        started.append(parts)
        return parts

    yield start
    for parts in started:
        parts.stop()


def until(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_part_that_is_killed_is_started_again(
    run: Callable[..., Parts], capsys: pytest.CaptureFixture[str]
) -> None:
    parts = run(daemon=WITH_CHILD, web=WAITS)
    until(lambda: parts.log("daemon").read_text())
    first, web = parts._running["daemon"], parts._running["web"]
    os.kill(first.pid, signal.SIGKILL)
    first.wait()

    assert parts.mend()

    assert capsys.readouterr().err == "daemon ended with signal 9 (SIGKILL); it is started again\n"
    assert parts._running["daemon"].pid != first.pid
    assert (parts._running["web"].pid, web.poll()) == (web.pid, None)
    until(lambda: parts.log("daemon").read_text().count("child") == 2)
    one, two = (int(line.split()[1]) for line in parts.log("daemon").read_text().splitlines())
    assert (is_alive(one), is_alive(two)) == (False, True)
    parts.stop()
    assert not is_alive(two)


def test_a_part_that_ends_again_and_again_ends_all(
    run: Callable[..., Parts], capsys: pytest.CaptureFixture[str]
) -> None:
    parts = run(web=WAITS, daemon="import sys; sys.exit('\\x1b[31mno database')")
    for _ in range(RESTARTS):
        parts._running["daemon"].wait()
        assert parts.mend()
    parts._running["daemon"].wait()

    assert not parts.mend()

    said = capsys.readouterr().err
    assert said.count("daemon ended with code 1; it is started again") == RESTARTS
    assert "for the 4th time within 10 minutes: everything is stopped" in said
    assert said.count("no database") == RESTARTS + 1
    assert "\x1b" not in said


def test_a_part_that_does_not_start_is_told(run: Callable[..., Parts]) -> None:
    parts = run(daemon="import sys; sys.exit('no database')")
    parts._running["daemon"].wait()

    with pytest.raises(FMError, match=r"(?s)daemon did not start.*code 1\nno database"):
        parts.require_all()

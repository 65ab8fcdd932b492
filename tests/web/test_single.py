from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fm_platform.errors import FMError
from fm_platform.web.single import SingleInstance

HOLDER = """
import sys, time
from pathlib import Path
from fm_platform.web.single import SingleInstance
with SingleInstance(Path(sys.argv[1]), "daemon"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_second_holder_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    lock = tmp_path / "daemon.lock"
    with SingleInstance(lock, "daemon"), pytest.raises(FMError) as caught:
        SingleInstance(lock, "daemon").__enter__()

    assert "a daemon is already running here" in str(caught.value)
    assert str(os.getpid()) in str(caught.value)


def test_lock_is_free_again_after_its_holder(tmp_path: Path) -> None:
    for _ in range(2):
        with SingleInstance(tmp_path / "daemon.lock", "daemon"):
            pass


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    lock = tmp_path / "daemon.lock"
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(lock)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(FMError):
        SingleInstance(lock, "daemon").__enter__()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()

    with SingleInstance(lock, "daemon"):
        pass


def test_second_daemon_refuses_to_start(tmp_path: Path) -> None:
    environment = {**os.environ, "FM_HOME": str(tmp_path)}
    with SingleInstance(tmp_path / "dagster" / "daemon.lock", "daemon"):
        done = subprocess.run(
            [sys.executable, "-m", "assets.daemon"],
            env=environment, capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip

    assert done.returncode == 3
    assert "a daemon is already running here" in done.stderr

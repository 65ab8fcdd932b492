"""The processes of `fm ui`: started together, one that ends is started again, stopped together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import typer

from fm_platform.display import plain
from fm_platform.errors import FMError

RESTARTS, WITHIN_S = 3, 600.0
"""A part that ended so often within that time is not started again."""
STOP_AFTER_S = 20


class Parts:
    """Some Python processes by name.

    Args:
        commands: Name -> words for the interpreter.
        environment: Of all of them.
        logs: Folder of what they write, one file each.
    """

    def __init__(
        self, commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], logs: Path
    ) -> None:
        self.logs = logs
        self._commands = commands
        self._environment = environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._restarted: dict[str, list[float]] = {name: [] for name in commands}

    def log(self, name: str) -> Path:
        """Return the file that a part writes."""
        return self.logs / f"{name.lower()}.log"

    def start(self) -> None:
        """Start all; their logs begin anew."""
        for name in self._commands:
            self.log(name).write_bytes(b"")
            self._start(name)

    def _start(self, name: str) -> None:
        with self.log(name).open("ab") as log:
            self._running[name] = subprocess.Popen(
                [sys.executable, *self._commands[name]], env=dict(self._environment),
                start_new_session=True, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT,
            )  # fmt: skip

    def require_all(self) -> None:
        """Refuse to go on where a part has ended.

        Raises:
            FMError: If one has, with the end of its log.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                raise FMError(
                    f"{name} did not start",
                    found=f"{how(process.returncode)}\n{last_lines(self.log(name))}",
                    where=self.log(name),
                )

    def mend(self) -> bool:
        """Start again what has ended, and say so; return False where one ended too often."""
        for name, process in list(self._running.items()):
            if process.poll() is None:
                continue
            now = time.monotonic()
            recent = [at for at in self._restarted[name] if now - at < WITHIN_S]
            told = f"{name} ended with {how(process.returncode)}"
            if len(recent) >= RESTARTS:
                told += f", for the {RESTARTS + 1}th time within {WITHIN_S / 60:.0f} minutes"
                typer.echo(f"{told}: everything is stopped; the end of its log:", err=True)
                typer.echo(last_lines(self.log(name)), err=True)
                return False
            self._restarted[name] = [*recent, now]
            typer.echo(f"{told}; it is started again", err=True)
            _end([process])  # what it had started holds its port, or is its work half done
            self._start(name)
        return True

    def stop(self) -> None:
        """End all, with what they started."""
        _end(self._running.values())


def _end(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """End the group of each process: politely, then for good."""
    listed = list(processes)
    for process in listed:
        _signal(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_AFTER_S
    for process in listed:
        while _signal(process, 0) and time.monotonic() < deadline:
            time.sleep(0.05)
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> bool:
    """Send a signal to the group of a process; return whether anything of it is left."""
    process.poll()  # a group whose leader waits to be asked how it ended is not gone
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True


def how(code: int) -> str:
    """Return in words how a process ended."""
    return f"code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"


def last_lines(path: Path, count: int = 15) -> str:
    """Return the end of a log, safe for a terminal."""
    lines = path.read_text("utf-8", errors="replace").splitlines()[-count:]
    return "\n".join(plain(line, 300) for line in lines)

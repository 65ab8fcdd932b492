"""Disks that are full or read-only. As root they are mounted, which not every machine allows."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def full_disk(folder: Path, megabytes: int = 24) -> Iterator[None]:
    """Put what is in `folder` on a small disk of its own that is full to the last block."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder.with_name(f"{folder.name}.before")
    shutil.copytree(folder, beside)
    _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder))
    try:
        shutil.copytree(beside, folder, dirs_exist_ok=True)
        with pytest.raises(OSError, match="No space left"):
            (folder / "filler").write_bytes(bytes(megabytes + 1 << 20))
        yield
    finally:
        _unmount(folder)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write into `folder`."""
    if os.geteuid() != 0:
        modes = {path: path.stat().st_mode for path in [folder, *folder.rglob("*")]}
        for path, mode in modes.items():
            path.chmod(mode & ~0o222)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        return
    _mount("--bind", str(folder), str(folder))
    try:
        _mount("-o", "remount,ro,bind", str(folder))
        yield
    finally:
        _unmount(folder)


def _mount(*words: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("no right to mount a disk")
    if subprocess.run(["mount", *words], check=False, capture_output=True).returncode != 0:
        pytest.skip("no right to mount a disk")


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True)

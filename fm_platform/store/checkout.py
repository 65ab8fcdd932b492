"""Models put together again from their objects: a bounded cache of ordinary folders.

A checkout is made beside, checked while it is written, and seen by one rename. It can always be
made again, so a few are kept and the rest is deleted, never one that a living process opened.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from fm_platform.store.files import DENIED, storage_errors

KEPT = 4
_HELD = 16


class Checkouts:
    """The checkouts in one folder.

    Args:
        folder: Made when first needed.
        kept: How many stay although nobody uses them.
    """

    def __init__(self, folder: Path, kept: int = KEPT) -> None:
        self.folder = folder
        self.kept = kept
        self._held: OrderedDict[str, BinaryIO] = OrderedDict()

    def path(self, content_hash: str) -> Path:
        """Return where the checkout of a model is, or would be."""
        return self.folder / content_hash

    def get(
        self, content_hash: str, is_whole: Callable[[Path], bool], make: Callable[[Path], None]
    ) -> Path:
        """Return a checkout that is whole, making it where it is not there or was changed.

        Args:
            content_hash: Of the model.
            is_whole: Says whether every byte of a folder is right.
            make: Writes the model into a new folder, or raises.
        """
        target = self.path(content_hash)
        with storage_errors(target):
            may_write = self._hold(content_hash)
            if not target.is_dir() or not is_whole(target):
                fresh = self._fresh()
                try:
                    make(fresh)
                    self._swap(fresh, target)
                finally:
                    shutil.rmtree(fresh, ignore_errors=True)  # gone where all went well
            if may_write:
                self.trim()
        return target

    def adopt(self, content_hash: str, folder: Path) -> bool:
        """Take over a folder that is known to be whole; False where that is not possible."""
        target = self.path(content_hash)
        self._hold(content_hash)
        try:
            folder.rename(target)
        except OSError:  # another disk, or a checkout is there already
            return False
        self.trim()
        return True

    def drop(self, content_hash: str) -> int:
        """Delete a checkout, in use or not; return its bytes."""
        handle = self._held.pop(content_hash, None)
        if handle is not None:
            handle.close()
        return self._delete(content_hash)

    def trim(self) -> int:
        """Delete the checkouts that were not used for longest; return the bytes."""
        return sum(self._delete_unused(name) for name in self._by_age()[self.kept :])

    def clear(self) -> int:
        """Delete every checkout that no process uses, and leftovers; return the bytes."""
        freed = sum(self._delete_unused(name) for name in self._by_age())
        for path in self._leftovers():
            freed += folder_bytes(path)
            shutil.rmtree(path)
        return freed

    def unused_bytes(self) -> int:
        """Return the bytes that `clear` would free now."""
        folders = self._leftovers()
        for name in self._by_age():
            with _opened(self.folder / f"{name}.lock") as handle:
                if _is_free(handle):
                    folders.append(self.path(name))
        return sum(folder_bytes(folder) for folder in folders)

    def _leftovers(self) -> list[Path]:
        return [path for path in sorted(self.folder.glob(".*-*")) if path.is_dir()]

    def _by_age(self) -> list[str]:
        """Return the names of the checkouts, the last used first."""
        locks = [path for path in self.folder.glob("*.lock") if self.path(path.stem).is_dir()]
        return [p.stem for p in sorted(locks, key=lambda p: (-p.stat().st_mtime_ns, p.name))]

    def _hold(self, content_hash: str) -> bool:
        """Mark a checkout as in use by this process, until it has opened many others.

        Returns:
            Whether this process may write here; if not, a checkout that is there will do.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = self._held.pop(content_hash, None)
        if handle is None:
            handle = _opened(self.folder / f"{content_hash}.lock")
            fcntl.flock(handle, fcntl.LOCK_SH)
        if handle.writable():
            os.utime(handle.fileno())
        self._held[content_hash] = handle
        while len(self._held) > _HELD:
            self._held.popitem(last=False)[1].close()
        return handle.writable()

    def _delete_unused(self, content_hash: str) -> int:
        with (self.folder / f"{content_hash}.lock").open("a+b") as handle:
            return self._delete(content_hash) if _is_free(handle) else 0

    def _delete(self, content_hash: str) -> int:
        target, trash = self.path(content_hash), self._fresh()
        try:
            target.rename(trash)
        except FileNotFoundError:
            return 0
        size = folder_bytes(trash)
        shutil.rmtree(trash)
        return size

    def _swap(self, fresh: Path, target: Path) -> None:
        old = self._fresh()
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            # another process was first: it wrote and checked the same bytes
        shutil.rmtree(old, ignore_errors=True)

    def _fresh(self) -> Path:
        return self.folder / f".{uuid.uuid4().hex[:12]}-{os.getpid()}"


def _opened(lock: Path) -> BinaryIO:
    try:
        return lock.open("a+b")
    except OSError as error:
        if error.errno not in DENIED or not lock.is_file():
            raise
        return lock.open("rb")


def _is_free(handle: BinaryIO) -> bool:
    """Whether no process holds the checkout; none can while the lock is open here."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

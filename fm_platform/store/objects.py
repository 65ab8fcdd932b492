"""Objects: tensors and small files, each stored once under the SHA-256 of its bytes.

`sha256sum` of an object is its name, so anybody can check the store with common tools.
"""

from __future__ import annotations

import fcntl
import hashlib
import mmap
import os
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fm_platform.errors import CorruptArtifactError, MissingArtifactError
from fm_platform.store.files import aside, fsync_dir, make_dirs, storage_errors

FOLDER = "_objects"
TENSOR, FILE = ".safetensors", ".blob"
_INCOMING = "_incoming"


@dataclass(frozen=True, order=True)
class ObjectName:
    """The SHA-256 of an object's bytes, and what it is: `.safetensors` or `.blob`."""

    sha256: str
    suffix: str


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """Give the bytes of a file without reading them into memory."""
    with path.open("rb") as handle:
        if path.stat().st_size == 0:  # an empty file cannot be mapped
            yield memoryview(b"")
            return
        with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as whole:
            view = memoryview(whole)
            try:
                yield view
            finally:
                view.release()


class ObjectStore:
    """All objects below one root, at `root/_objects/<hash[:2]>/<hash>.<kind>`."""

    def __init__(self, root: Path) -> None:
        self.root = root / FOLDER
        self._incoming = root / _INCOMING
        self._lock = root / ".lock"

    def path(self, name: ObjectName) -> Path:
        """Return where an object lies."""
        return self.root / name.sha256[:2] / f"{name.sha256}{name.suffix}"

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Hold off the removal of objects while some are added and named by a manifest."""
        with self._turn(fcntl.LOCK_SH):
            yield

    @contextmanager
    def removing(self) -> Iterator[None]:
        """Hold off all who add objects, while those that nobody names are removed."""
        with self._turn(fcntl.LOCK_EX):
            yield

    def put(self, name: ObjectName, pieces: Sequence[memoryview | bytes]) -> bool:
        """Keep an object; return whether it is new. The caller syncs the folder: `sync`.

        A damaged object of that name is replaced, and moved aside as evidence.
        """
        target = self.path(name)
        if target.exists():
            if _sha256(target) == name.sha256:
                return False
            self.set_aside(name, self.root.parent / "_damaged" / FOLDER)
        fresh = self._incoming / uuid.uuid4().hex
        make_dirs(self._incoming)
        with storage_errors(target):
            try:
                with fresh.open("xb") as stream:
                    for piece in pieces:
                        stream.write(piece)
                    stream.flush()
                    os.fsync(stream.fileno())
                make_dirs(target.parent)
                fresh.rename(target)
            except BaseException:
                fresh.unlink(missing_ok=True)
                raise
        return True

    def sync(self, names: Iterable[ObjectName]) -> None:
        """Force the names of new objects to the disk."""
        for folder in sorted({self.path(name).parent for name in names}):
            fsync_dir(folder)

    def check(self, name: ObjectName) -> None:
        """Check every byte of an object.

        Raises:
            CorruptArtifactError: If a byte differs.
            MissingArtifactError: If it is not there.
        """
        path = self.path(name)
        try:
            found = _sha256(path)
        except FileNotFoundError as error:
            raise MissingArtifactError("an object of a model is missing", where=path) from error
        if found != name.sha256:
            raise CorruptArtifactError(
                "an object of a model is damaged", where=path, expected=name.sha256, found=found
            )

    @contextmanager
    def read(self, name: ObjectName) -> Iterator[memoryview]:
        """Give the bytes of an object, unverified.

        Raises:
            MissingArtifactError: If it is not there.
        """
        path = self.path(name)
        try:
            with mapped(path) as view:
                yield view
        except FileNotFoundError as error:
            raise MissingArtifactError("an object of a model is missing", where=path) from error

    def set_aside(self, name: ObjectName, folder: Path) -> Path:
        """Move an object into `folder` as evidence."""
        source = self.path(name)
        target = aside(folder, source.name)
        make_dirs(target.parent)
        source.rename(target)
        fsync_dir(source.parent)
        return target

    def names(self) -> list[ObjectName]:
        """Return the names of all objects, sorted."""
        found = self.root.glob("[0-9a-f][0-9a-f]/*")
        return sorted(ObjectName(path.stem, path.suffix) for path in found)

    def size(self, name: ObjectName) -> int:
        """Return the bytes of an object."""
        return self.path(name).stat().st_size

    def remove(self, name: ObjectName) -> int:
        """Delete an object for good; return the bytes that this frees. Only under `removing`.

        Bytes that another name still holds (MLflow's) are not freed yet.
        """
        path = self.path(name)
        told = path.stat()
        path.unlink()
        return told.st_size if told.st_nlink == 1 else 0

    def remove_leftovers(self) -> int:
        """Delete what interrupted writers left; return the bytes. Only under `removing`."""
        freed = self.leftover_bytes()
        for path in self._leftovers():
            path.unlink()
        return freed

    def leftover_bytes(self) -> int:
        """Return the bytes of what interrupted writers left, and of what is written just now."""
        return sum(path.stat().st_size for path in self._leftovers())

    def _leftovers(self) -> list[Path]:
        return [path for path in sorted(self._incoming.glob("*")) if path.is_file()]

    @contextmanager
    def _turn(self, how: int) -> Iterator[None]:
        make_dirs(self._lock.parent)
        with self._lock.open("a+b") as handle:
            fcntl.flock(handle, how)
            yield


def digest(pieces: Iterable[memoryview | bytes]) -> str:
    """Return the SHA-256 of some bytes after one another."""
    hashed = hashlib.sha256()
    for piece in pieces:
        hashed.update(piece)
    return hashed.hexdigest()


def _sha256(path: Path) -> str:
    with mapped(path) as view:
        return digest([view])

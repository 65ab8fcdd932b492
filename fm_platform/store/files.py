"""Files that survive a crash: safe names, fsync in the right order, one view of local and S3.

A write is durable once the file and the folder that names it are both synced, in this order
(Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014). Object stores are durable
when the request returns, so syncing is a no-op there.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from fm_platform.errors import (
    FMError,
    HomeError,
    MissingArtifactError,
    StorageFullError,
    StoreError,
    UnsafePathError,
)
from fm_platform.hashing import sha256_hex

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._=+@-]{0,199}")
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{p}{n}" for p in ("COM", "LPT") for n in range(1, 10))}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
DENIED = (errno.EROFS, errno.EACCES, errno.EPERM)


def safe_name(name: str, what: str = "name") -> str:
    """Return `name` if it is one plain file name on every file system.

    Example:
        >>> safe_name("day=2026-01-01")
        'day=2026-01-01'

    Raises:
        UnsafePathError: If it is empty, longer than 200 characters, has a character outside
            ``A-Za-z0-9._=+@-``, starts with a dot or dash, ends in a dot, or is a device name.
    """
    good = isinstance(name, str) and _NAME.fullmatch(name) and not name.endswith(".")
    if not good or name.split(".")[0].upper() in _RESERVED:
        raise UnsafePathError(
            f"unsafe {what}",
            expected="1 to 200 of A-Z a-z 0-9 . _ = + @ -, starting with a letter, digit or _",
            found=repr(name)[:80],
        )
    return name


def safe_relative(path: str, what: str = "path") -> str:
    """Return `path` if every part between its slashes is a safe name.

    Raises:
        UnsafePathError: If one is not.
    """
    for part in str(path).split("/"):
        safe_name(part, what)
    return path


@contextmanager
def storage_errors(where: object, *, full_only: bool = False) -> Iterator[None]:
    """Turn a full disk or a missing permission into the platform's errors.

    `full_only` is for work that reads elsewhere, too: a missing permission may be of those files.

    Raises:
        StorageFullError: For ENOSPC, EDQUOT and EFBIG, also when delta-rs reports them as text.
        HomeError: For EROFS, EACCES and EPERM.
    """
    try:
        yield
    except FMError:
        raise
    except Exception as error:
        number = error.errno if isinstance(error, OSError) else None
        text = str(error)
        if number in _FULL or "No space left on device" in text or "os error 28" in text:
            raise StorageFullError(
                "no space left to write",
                where=where,
                found=text.splitlines()[0] if text else None,
                next_step="free some space and run again; all committed versions are intact",
            ) from error
        if full_only:
            raise
        if number in DENIED or "Permission denied" in text or "Read-only file system" in text:
            raise HomeError(
                "the store cannot be written",
                where=where,
                found=text.splitlines()[0] if text else None,
                next_step="make the folder writable for this user, then run again",
            ) from error
        raise


def fsync_file(path: Path) -> None:
    """Force the bytes of a file to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_dir(path: Path) -> None:
    """Force the names in a folder to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_dirs(path: Path) -> None:
    """Create a folder and its parents; each new name is synced in the folder that holds it."""
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        fsync_dir(folder.parent)


def atomic_write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file that is seen whole or not at all, also after a power loss.

    Raises:
        StorageFullError: If the disk is full; the file is unchanged.
        HomeError: If the folder cannot be written.
    """
    with storage_errors(path):
        make_dirs(path.parent)
        handle, name = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fchmod(stream.fileno(), mode)
                os.fsync(stream.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        fsync_dir(path.parent)


def aside(folder: Path, name: str) -> Path:
    """Return a path in `folder` that is not taken yet; a number is appended where needed."""
    candidate, number = folder / name, 0
    while candidate.exists():
        number += 1
        candidate = folder / f"{name}.{number}"
    return candidate


class Storage:
    """A folder on a local disk or an object store; paths below it are relative, with slashes.

    Remote roots (`s3://bucket/prefix`) take the keys of delta-rs (`AWS_ENDPOINT_URL`,
    `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`) in `storage_options`.
    """

    def __init__(self, root: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.options = dict(storage_options or {})
        parts = urlsplit(str(root))
        self.is_local = parts.scheme in ("", "file")
        if self.is_local:
            self.base = os.path.abspath(parts.path if parts.scheme else str(root))  # noqa: PTH100
            self.fs: pafs.FileSystem = pafs.LocalFileSystem()
        else:
            self.base = f"{parts.netloc}{parts.path}".rstrip("/")
            self.fs = _remote(str(root), self.options)
        self.scheme = "" if self.is_local else f"{parts.scheme}://"

    def path(self, relative: str) -> str:
        """Return the full path in the file system."""
        return f"{self.base}/{relative}" if relative else self.base

    def uri(self, relative: str) -> str:
        """Return the address that delta-rs understands."""
        return self.scheme + self.path(relative)

    def local(self, relative: str) -> Path:
        """Return the local path.

        Raises:
            StoreError: For an object store.
        """
        if not self.is_local:
            raise StoreError("this needs a local store", found=self.uri(relative))
        return Path(self.path(relative))

    def create(self, relative: str) -> pa.NativeFile:
        """Open a new file for writing; folders are made as needed."""
        if self.is_local:
            make_dirs(self.local(relative).parent)
        return self.fs.open_output_stream(self.path(relative))

    def buffer(self, relative: str) -> pa.Buffer:
        """Return the bytes of a file: mapped when local, fetched otherwise.

        Raises:
            MissingArtifactError: If the file is not there.
        """
        try:
            if not self.is_local:
                with self.fs.open_input_file(self.path(relative)) as handle:
                    return handle.read_buffer()
            if self.local(relative).stat().st_size == 0:  # an empty file cannot be mapped
                return pa.py_buffer(b"")
            return pa.memory_map(self.path(relative)).read_buffer()
        except FileNotFoundError as error:
            raise MissingArtifactError("a file is missing", where=self.uri(relative)) from error

    def size(self, relative: str) -> int | None:
        """Return the size in bytes, None if there is no such file."""
        info = self.fs.get_file_info(self.path(relative))
        return int(info.size) if info.type == pafs.FileType.File else None

    def age_s(self, relative: str) -> float:
        """Return how many seconds ago a file was last written."""
        return time.time() - float(self.fs.get_file_info(self.path(relative)).mtime.timestamp())

    def listing(self, relative: str, *, recursive: bool = False) -> list[tuple[str, int, bool]]:
        """Return (relative path, bytes, is a folder) of what is in a folder, sorted."""
        selector = pafs.FileSelector(self.path(relative), recursive=recursive, allow_not_found=True)
        return sorted(
            (
                info.path[len(self.base) :].lstrip("/"),
                int(info.size or 0),
                info.type == pafs.FileType.Directory,
            )
            for info in self.fs.get_file_info(selector)
        )

    def write(self, relative: str, data: bytes) -> None:
        """Write a small file, atomically."""
        if self.is_local:
            atomic_write(self.local(relative), data)
        else:
            with self.fs.open_output_stream(self.path(relative)) as stream:
                stream.write(data)

    def move(self, source: str, target: str) -> None:
        """Move a file, and sync both folders."""
        if self.is_local:
            make_dirs(self.local(target).parent)
        self.fs.move(self.path(source), self.path(target))
        self.sync_dir(target.rpartition("/")[0])
        self.sync_dir(source.rpartition("/")[0])

    def remove(self, relative: str) -> int:
        """Delete a file for good; return its bytes, 0 where it was not there."""
        size = self.size(relative)
        if size is None:
            return 0
        self.fs.delete_file(self.path(relative))
        return size

    def link(self, source: str, target: str) -> None:
        """Make `target` hold the bytes of `source`: by a hard link where local, else a copy.

        What is there already stays: files of tables are never written twice under one name.
        """
        if self.size(target) is not None:
            return
        if not self.is_local:
            self.fs.copy_file(self.path(source), self.path(target))
            return
        path = self.local(target)
        make_dirs(path.parent)
        try:
            path.hardlink_to(self.local(source))
        except FileExistsError:
            return
        except FileNotFoundError as error:
            raise MissingArtifactError("a file is missing", where=self.uri(source)) from error
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EMLINK, errno.EPERM):
                raise
            atomic_write(path, self.local(source).read_bytes())
        fsync_dir(path.parent)

    def free(self, relative: str) -> str:
        """Return `relative`, or with a number appended if that is taken."""
        candidate, number = relative, 0
        while self.fs.get_file_info(self.path(candidate)).type != pafs.FileType.NotFound:
            number += 1
            candidate = f"{relative}.{number}"
        return candidate

    def sync_file(self, relative: str) -> None:
        """Force a file's bytes to the disk."""
        if self.is_local:
            fsync_file(self.local(relative))

    def sync_dir(self, relative: str) -> None:
        """Force a folder's names to the disk."""
        if self.is_local:
            fsync_dir(self.local(relative))


def buffer_sha256(buffer: pa.Buffer) -> str:
    """Return the SHA-256 of a buffer without copying it."""
    return sha256_hex(memoryview(buffer))  # type: ignore[arg-type]


def _remote(root: str, options: Mapping[str, str]) -> pafs.FileSystem:
    if not root.startswith(("s3://", "s3a://")):
        return pafs.FileSystem.from_uri(root)[0]
    given = {key.upper().removeprefix("AWS_"): value for key, value in options.items()}
    for key in ("ENDPOINT_URL", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION"):
        given.setdefault(key, os.environ.get(f"AWS_{key}", ""))
    endpoint = urlsplit(given["ENDPOINT_URL"])
    return pafs.S3FileSystem(
        access_key=given["ACCESS_KEY_ID"] or None,
        secret_key=given["SECRET_ACCESS_KEY"] or None,
        session_token=given["SESSION_TOKEN"] or None,
        region=given["REGION"] or "us-east-1",
        scheme=endpoint.scheme or "https",
        endpoint_override=endpoint.netloc or None,
    )

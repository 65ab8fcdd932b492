"""Matrices of many lengths by key, in half precision: what frozen layers give for texts.

A store file is two: the numbers, one matrix after another, and an index that names each by its
key, its place and a digest of its bytes. The name of both is the hash of the keys and digests, so
the order in which matrices were written is no matter. The numbers are memory-mapped: what is
read is what is needed, and no byte of it is used before its digest is checked.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.errors import CorruptArtifactError, MissingArtifactError, UnsafePathError
from fm_platform.hashing import sha256_hex
from fm_platform.store.files import aside, atomic_write, fsync_dir, make_dirs, storage_errors

Half = npt.NDArray[np.float16]
KEY_BYTES = 16
_STATES, _INDEX = ".states", ".index.safetensors"


def digest(data: bytes) -> bytes:
    """Return 16 bytes of BLAKE2b."""
    return hashlib.blake2b(data, digest_size=KEY_BYTES).digest()


class Ragged:
    """One file of the store, opened: key -> float16[length, width], read from the disk.

    Its index is checked when it is opened, each matrix when it is read.
    """

    def __init__(self, root: Path, content_hash: str) -> None:
        from safetensors import SafetensorError
        from safetensors.numpy import load

        self.content_hash = content_hash
        self._path = root / content_hash[:2] / f"{content_hash}{_STATES}"
        index = self._path.with_name(content_hash + _INDEX)
        try:
            found = load(index.read_bytes())
            self._keys, self._digests = found["keys"], found["digests"]
            self._starts, self._lengths = found["starts"], found["lengths"]
            self.width = int(found["width"][0])
            size = self._path.stat().st_size
        except FileNotFoundError as error:
            raise MissingArtifactError("cached states are not there", where=self._path) from error
        except (SafetensorError, KeyError, IndexError, ValueError) as error:
            raise damaged(index, f"the index cannot be read ({type(error).__name__})") from None
        if name_of(self._keys, self._digests, self.width) != content_hash:
            raise damaged(index, "the index is not the one that its name says")
        if size != 2 * self.width * int(self._lengths.sum()):
            raise damaged(self._path, f"{size} bytes")
        self._heads = _heads(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: bytes) -> bool:
        return self._find(key) is not None

    def keys(self) -> Iterator[bytes]:
        """Yield the keys in order."""
        return (row.tobytes() for row in self._keys)

    def get(self, key: bytes) -> Half | None:
        """Return the matrix of `key`, or None where there is none.

        Raises:
            CorruptArtifactError: If a byte of it differs.
        """
        place = self._find(key)
        if place is None:
            return None
        found = self._read(place)
        if found is None:
            raise damaged(self._path, f"the bytes of entry {key.hex()} do not match their digest")
        return found

    def damage(self) -> list[bytes]:
        """Return the keys whose bytes differ; reads everything."""
        return [key for i, key in enumerate(self.keys()) if self._read(i) is None]

    def _read(self, place: int) -> Half | None:
        start, length = int(self._starts[place]), int(self._lengths[place])
        rows: Half = self._numbers[start : start + length]
        whole = digest(rows.tobytes()) == self._digests[place].tobytes()
        return rows if whole and len(rows) == length else None

    def _find(self, key: bytes) -> int | None:
        head = np.frombuffer(key[:8], ">u8")[0]
        place = int(np.searchsorted(self._heads, head))
        while place < len(self._heads) and self._heads[place] == head:
            if self._keys[place].tobytes() == key:
                return place
            place += 1
        return None

    @cached_property
    def _numbers(self) -> Half:
        if not len(self._keys):
            return np.zeros((0, self.width), np.float16)
        return np.memmap(self._path, np.float16, "r").reshape(-1, self.width)


class Writer:
    """Writes one file of the store, matrix by matrix; the memory holds the index only."""

    def __init__(self, root: Path, width: int) -> None:
        self.root, self.width = root, width
        self._entries: dict[bytes, tuple[int, int, bytes]] = {}
        self._written = 0
        make_dirs(root)
        handle, name = tempfile.mkstemp(prefix=".new-", dir=root)
        self._file, self._temporary = os.fdopen(handle, "wb"), Path(name)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, key: bytes, rows: Half) -> None:
        """Append float16[length, width]; a key that is there already is not written again."""
        if key in self._entries:
            return
        data = np.ascontiguousarray(rows, np.float16).tobytes()
        with storage_errors(self.root):
            self._file.write(data)
        self._entries[key] = (self._written, len(rows), digest(data))
        self._written += len(rows)

    def finish(self) -> str:
        """Make the file visible; return its content hash."""
        from safetensors.numpy import save

        ordered = sorted(self._entries.items())
        keys = _bytes_rows([key for key, _ in ordered])
        digests = _bytes_rows([entry[2] for _, entry in ordered])
        name = name_of(keys, digests, self.width)
        index = save(
            {
                "keys": keys, "digests": digests, "width": np.array([self.width], np.int64),
                "starts": np.array([entry[0] for _, entry in ordered], np.int64),
                "lengths": np.array([entry[1] for _, entry in ordered], np.int64),
            }
        )  # fmt: skip
        folder = self.root / name[:2]
        with storage_errors(folder):
            make_dirs(folder)
            self._file.flush()
            os.fsync(self._file.fileno())
            # the index of an older order of the same content must not outlive its numbers
            (folder / f"{name}{_INDEX}").unlink(missing_ok=True)
            self._temporary.chmod(0o644)
            self._temporary.replace(folder / f"{name}{_STATES}")
            fsync_dir(folder)
            atomic_write(folder / f"{name}{_INDEX}", index)
        return name


class RaggedStore:
    """All such files below one root, at `root/<hash[:2]>/<hash>.{states,index.safetensors}`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def writer(self, width: int) -> Writer:
        """Return a writer, to be used in a `with` block, of matrices with `width` columns."""
        return Writer(self.root, width)

    def open(self, content_hash: str) -> Ragged:
        """Open a file.

        Raises:
            CorruptArtifactError: If its index or its length is not what was written.
            MissingArtifactError: If it is not there.
        """
        _checked(content_hash)
        return Ragged(self.root, content_hash)

    def verify(self, content_hash: str) -> None:
        """Check index and length; the bytes of each matrix are checked where it is read.

        Raises:
            CorruptArtifactError: If they differ.
            MissingArtifactError: If it is not there.
        """
        self.open(content_hash)

    def quarantine(self, content_hash: str) -> Path:
        """Move a damaged file aside as evidence.

        Raises:
            MissingArtifactError: If it is not there.
        """
        found = [path for path in self._paths(content_hash) if path.is_file()]
        if not found:
            raise MissingArtifactError("cached states are not there", where=content_hash)
        folder = self.root / "_damaged"
        with storage_errors(folder):
            make_dirs(folder)
            targets = [path.rename(aside(folder, path.name)) for path in found]
            fsync_dir(found[0].parent)
            note = json.dumps({"content_hash": content_hash}, indent=1)
            atomic_write(targets[0].with_name(f"{targets[0].name}.damage.json"), note.encode())
        return targets[0]

    def size(self, content_hash: str) -> int:
        """Return the bytes on disk; 0 where it is not there."""
        return sum(p.stat().st_size for p in self._paths(content_hash) if p.is_file())

    def remove(self, content_hash: str) -> int:
        """Delete a file for good; return the bytes, 0 where it was not there."""
        freed = self.size(content_hash)
        for path in reversed(self._paths(content_hash)):  # the index first: half is nothing
            path.unlink(missing_ok=True)
        return freed

    def hashes(self) -> list[str]:
        """Return the content hashes of all files, sorted."""
        found = self.root.glob(f"[0-9a-f][0-9a-f]/*{_INDEX}")
        return sorted(path.name.removesuffix(_INDEX) for path in found)

    def _paths(self, content_hash: str) -> list[Path]:
        folder = self.root / _checked(content_hash)[:2]
        return [folder / f"{content_hash}{end}" for end in (_STATES, _INDEX)]


def name_of(keys: npt.NDArray[Any], digests: npt.NDArray[Any], width: int) -> str:
    """Return the content hash: of what is held, not of how it lies on the disk."""
    head = f"fm-ragged-1 float16 {width} {len(keys)}\n".encode()
    return sha256_hex(head + keys.tobytes() + digests.tobytes())


def damaged(path: Path, found: str) -> CorruptArtifactError:
    """Return the error of a file whose bytes differ."""
    return CorruptArtifactError(
        "cached states are damaged", where=path, found=found,
        next_step="run the stage again: it computes what is damaged",
    )  # fmt: skip


def _heads(keys: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return keys[:, :8].copy().view(">u8").reshape(-1)


def _bytes_rows(rows: list[bytes]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), KEY_BYTES)


def _checked(content_hash: str) -> str:
    if len(content_hash) != 64 or not set(content_hash) <= set("0123456789abcdef"):
        raise UnsafePathError("not a content hash", found=repr(content_hash)[:80])
    return content_hash

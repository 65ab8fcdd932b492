"""Small Arrow tables by content: the votes of one function on one day, embeddings.

One file is a magic word, the SHA-256 of the rest, and an Arrow IPC stream; so a damaged file is
refused before Arrow parses a byte of it.
"""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa

from fm_platform.errors import CorruptArtifactError, MissingArtifactError, UnsafePathError
from fm_platform.hashing import sha256_hex
from fm_platform.store.content import content_hash as hash_rows
from fm_platform.store.files import aside, atomic_write, fsync_dir, make_dirs, storage_errors

_MAGIC = b"FMCOL1\n\0"
_HEADER_BYTES = len(_MAGIC) + 32


class ColumnStore:
    """All columns below one root, at `root/<hash[:2]>/<hash>.arrow`.

    Example:
        columns = ColumnStore(home.cache / "columns")
        key = columns.put(pa.table({"row_id": ids, "vote": votes}))
        votes = columns.get(key)
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, table: pa.Table) -> str:
        """Keep `table`; return the content hash of its rows.

        Raises:
            StorageFullError: If the disk is full.
            SchemaMismatchError: If a column has a type that tables do not hold.
        """
        key = hash_rows(table.to_batches(), table.schema)
        if self._is_whole(key):
            return key
        sink = pa.BufferOutputStream()
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
            writer.write_table(table)
        body = sink.getvalue().to_pybytes()
        atomic_write(self._path(key), _MAGIC + bytes.fromhex(sha256_hex(body)) + body)
        return key

    def get(self, content_hash: str) -> pa.Table:
        """Return a table after checking every byte of it.

        Raises:
            CorruptArtifactError: If a byte differs.
            MissingArtifactError: If it is not there.
        """
        path = self._path(content_hash)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise MissingArtifactError("a column is not in the store", where=path) from error
        body = data[_HEADER_BYTES:]
        if data[:_HEADER_BYTES] != _MAGIC + bytes.fromhex(sha256_hex(body)):
            raise self._damaged(path, "the bytes do not match their hash")
        table = pa.ipc.open_stream(pa.py_buffer(body)).read_all()
        if hash_rows(table.to_batches(), table.schema) != content_hash:
            raise self._damaged(path, "the file holds another column than its name says")
        return table

    def has(self, content_hash: str) -> bool:
        """Say whether there is such a file; `get` says whether it is whole."""
        return self._path(content_hash).is_file()

    def unharmed(self, content_hash: str) -> bool:
        """Say whether the file is there and its bytes match the hash it begins with.

        A fraction of the work of `get`, which also looks whether its rows are those of the name:
        enough to reuse a column that is not read now, and never enough to read it.
        """
        try:
            data = self._path(content_hash).read_bytes()
        except FileNotFoundError:
            return False
        return data[:_HEADER_BYTES] == _MAGIC + bytes.fromhex(sha256_hex(data[_HEADER_BYTES:]))

    def verify(self, content_hash: str) -> None:
        """Check every byte.

        Raises:
            CorruptArtifactError: If a byte differs.
            MissingArtifactError: If it is not there.
        """
        self.get(content_hash)

    def quarantine(self, content_hash: str) -> Path:
        """Move a damaged column aside as evidence, so that it can be put again.

        Raises:
            MissingArtifactError: If it is not there.
        """
        path = self._path(content_hash)
        if not path.is_file():
            raise MissingArtifactError("a column is not in the store", where=path)
        target = aside(self.root / "_damaged", path.name)
        with storage_errors(target):
            make_dirs(target.parent)
            path.rename(target)
            fsync_dir(path.parent)
            note = json.dumps({"content_hash": content_hash}, indent=1)
            atomic_write(target.with_name(f"{target.name}.damage.json"), note.encode())
        return target

    def size(self, content_hash: str) -> int:
        """Return the bytes of a column's file; 0 where it is not there."""
        path = self._path(content_hash)
        return path.stat().st_size if path.is_file() else 0

    def remove(self, content_hash: str) -> int:
        """Delete a column for good; return the bytes, 0 where it was not there."""
        freed = self.size(content_hash)
        self._path(content_hash).unlink(missing_ok=True)
        return freed

    def hashes(self) -> list[str]:
        """Return the content hashes of all columns, sorted."""
        return sorted(path.stem for path in self.root.glob("[0-9a-f][0-9a-f]/*.arrow"))

    def _is_whole(self, key: str) -> bool:
        try:
            self.get(key)
        except MissingArtifactError:
            return False
        except CorruptArtifactError:
            self.quarantine(key)
            return False
        return True

    def _path(self, content_hash: str) -> Path:
        if len(content_hash) != 64 or not set(content_hash) <= set("0123456789abcdef"):
            raise UnsafePathError("not a content hash", found=repr(content_hash)[:80])
        return self.root / content_hash[:2] / f"{content_hash}.arrow"

    def _damaged(self, path: Path, why: str) -> CorruptArtifactError:
        return CorruptArtifactError(
            "a column is damaged", where=path, found=why,
            next_step="run the stage again: it rebuilds this column",
        )  # fmt: skip

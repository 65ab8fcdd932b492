"""What names stored bytes: plain records that the ledger keeps as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class FileRecord:
    """One file of an artifact.

    Attributes:
        path: Relative to the table or model folder, with slashes.
        sha256: Of its bytes, 64 hex digits.
        bytes: Its size.
    """

    path: str
    sha256: str
    bytes: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FileRecord:
        """Build from what `to_json` of the owner gave."""
        return cls(str(value["path"]), str(value["sha256"]), int(value["bytes"]))


@dataclass(frozen=True)
class TableRef:
    """One version of one partition of one table.

    Attributes:
        table: Name of the table, e.g. ``sentiment/raw``.
        column: Partition column.
        value: Its value, the same in every row.
        version: Delta version of the commit.
        content_hash: Of the logical rows.
        rows: Number of rows.
        files: The Parquet files; reading needs nothing else.
    """

    table: str
    column: str
    value: str
    version: int
    content_hash: str
    rows: int
    files: tuple[FileRecord, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"files": [asdict(file) for file in self.files]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TableRef:
        """Build from `to_json`."""
        return cls(
            table=str(value["table"]),
            column=str(value["column"]),
            value=str(value["value"]),
            version=int(value["version"]),
            content_hash=str(value["content_hash"]),
            rows=int(value["rows"]),
            files=tuple(FileRecord.from_json(file) for file in value["files"]),
        )


@dataclass(frozen=True)
class Commit:
    """Who writes: what makes a repeated delivery recognisable.

    Attributes:
        app_id: The artifact slot, e.g. ``sentiment|raw|2026-01-01``.
        number: Lease epoch; only ever rises for one `app_id`.
        identity: Project, recipe hash and whatever else says what this is.
    """

    app_id: str
    number: int
    identity: Mapping[str, str]


@dataclass(frozen=True)
class ModelRef:
    """One published model folder.

    Attributes:
        content_hash: Of path, hash and size of all its files.
        bytes: Sum of the file sizes.
        files: All files but the manifest, sorted by path.
    """

    content_hash: str
    bytes: int
    files: tuple[FileRecord, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"files": [asdict(file) for file in self.files]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelRef:
        """Build from `to_json`."""
        return cls(
            content_hash=str(value["content_hash"]),
            bytes=int(value["bytes"]),
            files=tuple(FileRecord.from_json(file) for file in value["files"]),
        )

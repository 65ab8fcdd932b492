from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from fm_platform.errors import HomeError, MissingArtifactError, StorageFullError, StoreError
from fm_platform.store.files import Storage, aside, atomic_write, make_dirs, storage_errors


def test_atomic_write_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.json"

    atomic_write(path, b"one")
    atomic_write(path, b"two", mode=0o600)

    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(path.parent) == ["file.json"]


def test_a_failed_atomic_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.json"
    atomic_write(path, b"one")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError, match="no space left"):
        atomic_write(path, b"two")

    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["file.json"]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "x"), StorageFullError),
        (OSError(errno.EDQUOT, "x"), StorageFullError),
        (OSError(errno.EROFS, "x"), HomeError),
        (OSError(errno.EACCES, "x"), HomeError),
        (RuntimeError("Generic error: No space left on device (os error 28)"), StorageFullError),
        (ValueError("something else"), ValueError),
        (MissingArtifactError("kept"), MissingArtifactError),
    ],
)
def test_errors_of_the_disk_get_their_names(error: Exception, expected: type[Exception]) -> None:
    with pytest.raises(expected), storage_errors("here"):
        raise error


def test_make_dirs_makes_all_and_may_be_repeated(tmp_path: Path) -> None:
    make_dirs(tmp_path / "a" / "b")
    make_dirs(tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b").is_dir()


def test_aside_never_gives_a_taken_name(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "x.1").touch()

    assert aside(tmp_path, "x") == tmp_path / "x.2"


def test_a_remote_root_has_no_local_path() -> None:
    storage = Storage("s3://bucket/prefix", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"})

    assert storage.uri("t/x.parquet") == "s3://bucket/prefix/t/x.parquet"
    assert storage.path("t") == "bucket/prefix/t"
    with pytest.raises(StoreError, match="local"):
        storage.local("t")


def test_a_file_address_is_local(tmp_path: Path) -> None:
    storage = Storage(f"file://{tmp_path}")
    storage.write("a/b.txt", b"x")

    assert storage.buffer("a/b.txt").to_pybytes() == b"x"
    assert storage.listing("a") == [("a/b.txt", 1, False)]
    assert storage.size("a/c.txt") is None
    with pytest.raises(MissingArtifactError):
        storage.buffer("a/c.txt")


def test_a_full_disk_is_found_in_the_words_of_a_library() -> None:
    said = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")

    with pytest.raises(StorageFullError, match="intact"), storage_errors("x", full_only=True):
        raise said
    with pytest.raises(PermissionError), storage_errors("x", full_only=True):
        raise PermissionError(13, "Permission denied", "in.csv")

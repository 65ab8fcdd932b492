"""Model folders by content: published whole or not at all, verified whenever they are opened."""

from __future__ import annotations

import errno
import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

from fm_platform.errors import (
    CorruptArtifactError,
    FMError,
    MissingArtifactError,
    UnsafePathError,
)
from fm_platform.store.files import (
    aside,
    atomic_write,
    fsync_dir,
    fsync_file,
    make_dirs,
    storage_errors,
)
from fm_platform.store.manifest import (
    MANIFEST,
    folder_hash,
    load_key,
    read_manifest,
    scan,
    write_manifest,
)
from fm_platform.store.refs import ModelRef as ModelRef


class ModelStore:
    """All model folders below one root, at `root/<hash[:2]>/<hash>`.

    Example:
        store = ModelStore(home.models, home.keys / "manifest.key")
        ref = store.publish(staged, {"kind": "adapter", "recipe": recipe.hash})
        folder = store.open(ref.content_hash)
    """

    def __init__(self, root: Path, key_file: Path) -> None:
        self.root = root
        self._key_file = key_file

    @cached_property
    def _key(self) -> bytes:
        return load_key(self._key_file)

    def publish(self, staged: Path, identity: Mapping[str, str]) -> ModelRef:
        """Take over a finished folder; `staged` no longer exists afterwards.

        Files are synced, the signed manifest is written last, one rename makes the folder
        visible. Content that is there already is not stored twice.

        Args:
            staged: Folder with plain files, on the same disk for speed.
            identity: What this is, for people and for rebuilding the ledger.

        Raises:
            UnsafePathError: For a symbolic link, unsafe name or pickle-like file, or no file.
            StorageFullError: If the disk is full; `staged` is unchanged.
        """
        with storage_errors(self.root):
            files = scan(staged)
            if not files:
                raise UnsafePathError("an empty folder cannot be published", where=staged)
            ref = ModelRef(folder_hash(files), sum(file.bytes for file in files), files)
            if self._is_whole(ref.content_hash):
                shutil.rmtree(staged)
                return ref
            write_manifest(staged, files, identity, self._key)
            for path in [*staged.rglob("*"), staged]:
                fsync_dir(path) if path.is_dir() else fsync_file(path)
            self._move_in(staged, self.path(ref.content_hash))
            return ref

    def open(self, content_hash: str) -> Path:
        """Return the folder of a model after checking every byte of it.

        Raises:
            CorruptArtifactError: If a file differs, is missing, or is one too many.
            MissingArtifactError: If there is no such model.
        """
        self.verify(content_hash)
        return self.path(content_hash)

    def verify(self, content_hash: str) -> None:
        """Check manifest, signature, names, and the hash of every file.

        Raises:
            CorruptArtifactError: If a file differs, is missing, or is one too many.
            MissingArtifactError: If there is no such model.
        """
        folder = self.path(content_hash)
        if not folder.is_dir():
            raise MissingArtifactError("there is no such model in the store", where=folder)
        problems = self._problems(folder, content_hash)
        if problems:
            raise CorruptArtifactError(
                f"model {content_hash[:12]} is damaged",
                where=folder,
                found="; ".join(problems),
                next_step="run the stage again: it rebuilds this model",
            )

    def quarantine(self, content_hash: str) -> Path:
        """Move a damaged model aside as evidence, so that it can be published again.

        Returns:
            Its new folder under `_damaged`; `damage.json` beside the files says what is wrong.

        Raises:
            MissingArtifactError: If there is no such model.
        """
        folder = self.path(content_hash)
        if not folder.is_dir():
            raise MissingArtifactError("there is no such model in the store", where=folder)
        target = aside(self.root / "_damaged", content_hash)
        make_dirs(target.parent)
        problems = self._problems(folder, content_hash)
        folder.rename(target)
        fsync_dir(folder.parent)
        note = {"content_hash": content_hash, "problems": problems}
        atomic_write(target / "damage.json", json.dumps(note, indent=1).encode())
        return target

    def identity(self, content_hash: str) -> dict[str, str]:
        """Return what `publish` was told this model is.

        Raises:
            CorruptArtifactError: If the manifest is damaged.
            MissingArtifactError: If there is no such model.
        """
        return read_manifest(self.path(content_hash), self._key)[1]

    def hashes(self) -> list[str]:
        """Return the content hashes of all models, sorted."""
        return sorted(path.name for path in self.root.glob("[0-9a-f][0-9a-f]/*") if path.is_dir())

    def path(self, content_hash: str) -> Path:
        """Return where a model lies, unverified.

        Raises:
            UnsafePathError: If this is not 64 hex digits.
        """
        if len(content_hash) != 64 or not set(content_hash) <= set("0123456789abcdef"):
            raise UnsafePathError("not a content hash", found=repr(content_hash)[:80])
        return self.root / content_hash[:2] / content_hash

    def _is_whole(self, content_hash: str) -> bool:
        """Say whether a model is there; a damaged one is moved aside first."""
        if not self.path(content_hash).is_dir():
            return False
        try:
            self.verify(content_hash)
        except (CorruptArtifactError, MissingArtifactError):
            self.quarantine(content_hash)
            return False
        return True

    def _problems(self, folder: Path, content_hash: str) -> list[str]:
        try:
            listed, _ = read_manifest(folder, self._key)
            present = {file.path: file for file in scan(folder)}
        except FMError as error:
            return [str(error).replace("\n", ";")]
        expected = {file.path: file for file in listed.files}
        problems = [f"{name} is missing" for name in sorted(expected.keys() - present.keys())]
        problems += [f"{name} is one too many" for name in sorted(present.keys() - expected.keys())]
        problems += [
            f"{name}: expected {asdict(expected[name])}, found {asdict(present[name])}"
            for name in sorted(expected.keys() & present.keys())
            if expected[name] != present[name]
        ]
        if not problems and folder_hash(listed.files) != content_hash:
            problems.append("the folder holds another model than its name says")
        return problems

    def _move_in(self, staged: Path, target: Path) -> None:
        make_dirs(target.parent)
        try:
            staged.rename(target)
        except OSError as error:
            if error.errno == errno.EXDEV:
                copy = self.root / "_incoming" / uuid.uuid4().hex
                make_dirs(copy.parent)
                shutil.copytree(staged, copy)
                for path in [*copy.rglob("*"), copy]:
                    fsync_dir(path) if path.is_dir() else fsync_file(path)
                self._move_in(copy, target)
                shutil.rmtree(staged)
                return
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            self.verify(target.name)  # another publisher of the same content was first
            shutil.rmtree(staged)
        fsync_dir(target.parent)


__all__ = ["MANIFEST", "ModelRef", "ModelStore"]

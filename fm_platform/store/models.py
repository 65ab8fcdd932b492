"""Models by content: each tensor and small file stored once, published whole or not at all.

A model is a signed manifest that names objects (`fm_platform.store.objects`); a model that shares
most tensors with another costs the others only. `open` puts its folder together again, every byte
checked. Folders of older versions, which hold the files themselves, open as they always did.
"""

from __future__ import annotations

import errno
import json
import os
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
from fm_platform.store.checkout import Checkouts
from fm_platform.store.files import aside, atomic_write, fsync_dir, make_dirs, storage_errors
from fm_platform.store.manifest import (
    MANIFEST,
    Manifest,
    folder_hash,
    load_key,
    read_manifest,
    require_model,
    scan,
    write_manifest,
)
from fm_platform.store.objects import ObjectName, ObjectStore
from fm_platform.store.packing import link_files, objects_of, store_files, write_files
from fm_platform.store.refs import ModelRef as ModelRef

Damages = dict[ObjectName, str | None]
"""Object -> `damaged`, `missing`, or None for one that is whole."""


class ModelStore:
    """All models below one root: manifests at `root/<hash[:2]>/<hash>`, and their objects.

    Args:
        root: The folder.
        key_file: Signs the manifests; made when it is missing.
        checkouts: Where `open` puts folders together; `root/_checkouts` without it.

    Example:
        store = ModelStore(home.models, home.keys / "manifest.key")
        ref = store.publish(staged, {"kind": "adapter", "recipe": recipe.hash})
        folder = store.open(ref.content_hash)
    """

    def __init__(self, root: Path, key_file: Path, checkouts: Path | None = None) -> None:
        self.root = root
        self.objects = ObjectStore(root)
        self.checkouts = Checkouts(checkouts or root / "_checkouts")
        self._key_file = key_file

    @cached_property
    def _key(self) -> bytes:
        return load_key(self._key_file)

    def publish(self, staged: Path, identity: Mapping[str, str]) -> ModelRef:
        """Take over a finished folder; `staged` no longer exists afterwards.

        New tensors and files are stored and synced, the signed manifest comes last and is made
        visible by one rename. Content that is there already is not stored twice.

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
            with self.objects.adding():
                if not self._is_whole(ref.content_hash):
                    self._add(staged, ref, identity)
            # the next reader finds it put together already
            write_manifest(staged, files, identity, self._key)
            if not self.checkouts.adopt(ref.content_hash, staged):
                shutil.rmtree(staged)
            return ref

    def open(self, content_hash: str) -> Path:
        """Return the folder of a model after checking every byte of it.

        The folder stays while this process has it open (the last 16 models); it is read-only by
        agreement: one that was changed is made again.

        Raises:
            CorruptArtifactError: If a byte differs, or a tensor or file is missing.
            MissingArtifactError: If there is no such model.
        """
        manifest = self._manifest(content_hash)
        if manifest.layout is None:
            self.verify(content_hash)
            return self.path(content_hash)
        return self.checkouts.get(
            content_hash,
            lambda folder: not self._problems(folder, content_hash),
            lambda folder: self._put_together(folder, content_hash, manifest),
        )

    def export(self, content_hash: str, target: Path) -> None:
        """Write a model into the new folder `target` without copying its weights.

        On the same disk everything is a link, and each tensor a shard of the checkpoint: others
        may read the folder and delete it, but must not write into its files.

        Raises:
            CorruptArtifactError: If a byte differs, or a tensor or file is missing.
            MissingArtifactError: If there is no such model.
        """
        self.verify(content_hash)
        manifest = self._manifest(content_hash)
        if manifest.layout is None:
            shutil.copytree(
                self.path(content_hash), target, copy_function=os.link,
                ignore=shutil.ignore_patterns(MANIFEST),
            )  # fmt: skip
        else:
            link_files(self.objects, manifest, target)

    def verify(self, content_hash: str, known: Damages | None = None) -> None:
        """Check manifest, signature, names, and the hash of every tensor and file.

        Args:
            content_hash: Of the model.
            known: What was found of objects already; those are not read again.

        Raises:
            CorruptArtifactError: If a byte differs, or a tensor or file is missing.
            MissingArtifactError: If there is no such model.
        """
        folder = self.path(content_hash)
        require_model(folder)
        problems = self._problems(folder, content_hash, known)
        if problems:
            raise CorruptArtifactError(
                f"model {content_hash[:12]} is damaged",
                where=folder,
                found="; ".join(problems),
                next_step="run the stage again: it rebuilds this model",
            )

    def quarantine(self, content_hash: str) -> Path:
        """Move a damaged model aside as evidence, so that it can be published again.

        Damaged objects go with it; good ones stay, other models need them.

        Returns:
            Its new folder under `_damaged`; `damage.json` says what is wrong.

        Raises:
            MissingArtifactError: If there is no such model.
        """
        folder = self.path(content_hash)
        require_model(folder)
        target = aside(self.root / "_damaged", content_hash)
        make_dirs(target.parent)
        problems = self._problems(folder, content_hash)
        damaged = [name for name in self._named(folder) if self._damage(name) == "damaged"]
        folder.rename(target)
        fsync_dir(folder.parent)
        for name in damaged:
            self.objects.set_aside(name, target / "objects")
        note = {"content_hash": content_hash, "problems": problems}
        atomic_write(target / "damage.json", json.dumps(note, indent=1).encode())
        return target

    def identity(self, content_hash: str) -> dict[str, str]:
        """Return what `publish` was told this model is.

        Raises:
            CorruptArtifactError: If the manifest is damaged.
            MissingArtifactError: If there is no such model.
        """
        return self._manifest(content_hash).identity

    def ref(self, content_hash: str) -> ModelRef:
        """Return the files of a model, from its signed manifest.

        Raises:
            CorruptArtifactError: If the manifest is damaged.
            MissingArtifactError: If there is no such model.
        """
        return self._manifest(content_hash).ref

    def hashes(self) -> list[str]:
        """Return the content hashes of all models, sorted."""
        return sorted(path.name for path in self.root.glob("[0-9a-f][0-9a-f]/*") if path.is_dir())

    def path(self, content_hash: str) -> Path:
        """Return where the manifest of a model lies, unverified.

        Raises:
            UnsafePathError: If this is not 64 hex digits.
        """
        if len(content_hash) != 64 or not set(content_hash) <= set("0123456789abcdef"):
            raise UnsafePathError("not a content hash", found=repr(content_hash)[:80])
        return self.root / content_hash[:2] / content_hash

    def objects_of(self, content_hash: str) -> dict[str, ObjectName]:
        """Return file, or file and tensor, -> object, for a model kept as objects.

        Raises:
            CorruptArtifactError: If the manifest is damaged.
            MissingArtifactError: If there is no such model.
        """
        return dict(objects_of(self._manifest(content_hash)))

    def pack(self, content_hash: str) -> int:
        """Turn the folder of an older version into objects; return the bytes saved.

        Raises:
            CorruptArtifactError: If it is damaged.
            MissingArtifactError: If there is no such model.
        """
        manifest = self._manifest(content_hash)
        self.verify(content_hash)
        folder, saved = self.path(content_hash), 0
        with storage_errors(self.root), self.objects.adding():
            if manifest.layout is None:
                layout, fresh = store_files(self.objects, folder, manifest.ref)
                write_manifest(folder, manifest.ref.files, manifest.identity, self._key, layout)
                saved -= sum(self.objects.size(name) for name in fresh)
            # from here on the objects count; the files are what a kill may have left
            for path in sorted(folder.rglob("*"), reverse=True):
                if path.is_dir():
                    path.rmdir()
                elif path.name != MANIFEST:
                    saved += path.stat().st_size
                    path.unlink()
            fsync_dir(folder)
        return saved

    def remove(self, content_hash: str) -> int:
        """Delete a model for good; return the bytes. Its objects wait for `sweep`.

        Raises:
            MissingArtifactError: If there is no such model.
        """
        folder = self.path(content_hash)
        trash = self.root / "_incoming" / f"trash-{uuid.uuid4().hex}"
        make_dirs(trash.parent)
        try:
            folder.rename(trash)
        except FileNotFoundError as error:
            raise MissingArtifactError(
                "there is no such model in the store", where=folder
            ) from error
        fsync_dir(folder.parent)
        freed = sum(path.stat().st_size for path in trash.rglob("*") if path.is_file())
        shutil.rmtree(trash)
        self.checkouts.drop(content_hash)
        return freed

    def unnamed(self, without: frozenset[str] = frozenset()) -> list[ObjectName]:
        """Return the objects that no manifest names, those of `without` not counted.

        Raises:
            CorruptArtifactError: If a manifest cannot be read: what it names is not known.
            MissingArtifactError: If a manifest is gone.
        """
        named: set[ObjectName] = set()
        for content_hash in self.hashes():
            if content_hash not in without:
                named.update(name for _, name in objects_of(self._manifest(content_hash)))
        return [name for name in self.objects.names() if name not in named]

    def sweep(self) -> int:
        """Delete the objects that no manifest names; return the bytes.

        Raises:
            CorruptArtifactError: If a manifest cannot be read; nothing is deleted then.
            MissingArtifactError: If a manifest is gone; nothing is deleted then.
        """
        with self.objects.removing():
            unnamed = self.unnamed()
            freed = self.objects.remove_leftovers()
            return freed + sum(self.objects.remove(name) for name in unnamed)

    def _manifest(self, content_hash: str) -> Manifest:
        folder = self.path(content_hash)
        require_model(folder)
        try:
            return read_manifest(folder, self._key)
        except (CorruptArtifactError, MissingArtifactError) as error:
            raise CorruptArtifactError(
                f"model {content_hash[:12]} is damaged", where=folder, found=error.message,
                next_step=error.next_step or "run the stage again: it rebuilds this model",
            ) from error  # fmt: skip

    def _add(self, staged: Path, ref: ModelRef, identity: Mapping[str, str]) -> None:
        layout, _ = store_files(self.objects, staged, ref)
        fresh = self.root / "_incoming" / uuid.uuid4().hex
        make_dirs(fresh)
        try:
            write_manifest(fresh, ref.files, identity, self._key, layout)
            target = self.path(ref.content_hash)
            make_dirs(target.parent)
            try:
                fresh.rename(target)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                self.verify(ref.content_hash)  # another publisher of the same content was first
            fsync_dir(target.parent)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def _put_together(self, folder: Path, content_hash: str, manifest: Manifest) -> None:
        """Write the files of a model into the new `folder`, checking each.

        Raises:
            CorruptArtifactError: If an object is damaged or missing.
        """
        try:
            write_files(self.objects, manifest, folder)
        except MissingArtifactError:
            self.verify(content_hash)  # says which one
            raise
        write_manifest(folder, manifest.ref.files, manifest.identity, self._key)
        if self._problems(folder, content_hash):
            self.verify(content_hash)  # says which object is damaged

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

    def _problems(self, folder: Path, content_hash: str, known: Damages | None = None) -> list[str]:
        known = {} if known is None else known
        try:
            manifest = read_manifest(folder, self._key)
            present = {file.path: file for file in scan(folder)}
        except FMError as error:
            return [str(error).replace("\n", ";")]
        expected = {file.path: file for file in manifest.ref.files}
        if manifest.layout is not None:
            problems = []
            for part, name in objects_of(manifest):
                if name not in known:
                    known[name] = self._damage(name)
                problems += [f"{part} is {known[name]}"] if known[name] else []
            # what an interrupted `pack` left is no damage
            strange = sorted(present.keys() - expected.keys())
        else:
            problems = [f"{name} is missing" for name in sorted(expected.keys() - present.keys())]
            problems += [
                f"{name}: expected {asdict(expected[name])}, found {asdict(present[name])}"
                for name in sorted(expected.keys() & present.keys())
                if expected[name] != present[name]
            ]
            strange = sorted(present.keys() - expected.keys())
        problems += [f"{name} is one too many" for name in strange]
        if not problems and folder_hash(manifest.ref.files) != content_hash:
            problems.append("the folder holds another model than its name says")
        return problems

    def _damage(self, name: ObjectName) -> str | None:
        try:
            self.objects.check(name)
        except MissingArtifactError:
            return "missing"
        except CorruptArtifactError:
            return "damaged"
        return None

    def _named(self, folder: Path) -> list[ObjectName]:
        try:
            manifest = read_manifest(folder, self._key)
        except FMError:  # nobody knows what it named
            return []
        return sorted({name for _, name in objects_of(manifest)})


__all__ = ["MANIFEST", "ModelRef", "ModelStore"]

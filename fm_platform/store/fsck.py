"""Finds damage in the store, and moves it aside. Nothing is ever deleted.

Delta trusts its log: an empty last commit is read as a version without changes, a truncated one
stops every read and write, and `_last_checkpoint` naming a checkpoint that is not there does so
too. Each of these is named here, with what the repair will do.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from fm_platform.errors import CorruptArtifactError, StoreError
from fm_platform.store import log as delta_log
from fm_platform.store.columns import ColumnStore
from fm_platform.store.files import Storage, aside, buffer_sha256, fsync_dir, make_dirs
from fm_platform.store.manifest import MANIFEST
from fm_platform.store.models import Damages, ModelStore
from fm_platform.store.ragged import RaggedStore
from fm_platform.store.tables import TableStore


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: ``empty_commit``, ``broken_commit``, ``missing_commit``, ``bad_last_checkpoint``,
            ``leftover_file``, ``damaged_file``, ``missing_file``, ``damaged_model``,
            ``unfinished_model`` or ``damaged_column``.
        where: Table and version, or content hash.
        detail: What it means and what repair does.
        moves: Paths that repair moves aside; empty if there is nothing to repair here.
        root: The store the paths are in.
    """

    kind: str
    where: str
    detail: str
    moves: tuple[str, ...]
    root: str


def check_tables(
    store: TableStore,
    *,
    deep: bool = False,
    grace_s: float = 3600.0,
    needed: Collection[str] | None = None,
) -> list[Finding]:
    """Return what is wrong with the tables.

    Args:
        store: Where to look.
        deep: Also hash every data file of every version; else only presence and size.
        grace_s: A file that no version names is a leftover only once it is this many seconds
            old; a younger one may belong to a write in progress.
        needed: Files, as `table/path`, that somebody counts on, beside those of each table's newest
            version; others are not missed: retention removed them, or their rows were written
            again elsewhere. None: all files of all versions.
    """
    findings = []
    for table in store.tables():
        log = _check_log(store.storage, table)
        findings += log or _check_last_checkpoint(store.storage, table)
        findings += _check_files(store.storage, table, deep, grace_s, needed)
    return findings


def check_models(store: ModelStore, *, grace_s: float = 3600.0) -> list[Finding]:
    """Return what is wrong with the models; every tensor and file is hashed, once.

    Args:
        store: Where to look.
        grace_s: What an interrupted writer left counts once it is this many seconds old.
    """
    findings: list[Finding] = []
    known: Damages = {}
    for content_hash in store.hashes():
        folder = store.path(content_hash)
        moves = (folder.relative_to(store.root).as_posix(),)
        try:
            store.verify(content_hash, known)
        except StoreError as error:
            kind = "damaged_model" if (folder / MANIFEST).exists() else "unfinished_model"
            findings.append(Finding(kind, content_hash, str(error), moves, str(store.root)))
    for path in sorted(store.root.glob("_incoming/*")):
        if time.time() - path.stat().st_mtime < grace_s:
            continue
        moves = (path.relative_to(store.root).as_posix(),)
        detail = "a copy that was interrupted; no version names it"
        findings.append(Finding("unfinished_model", path.name, detail, moves, str(store.root)))
    return findings


def check_columns(store: ColumnStore) -> list[Finding]:
    """Return the damaged columns; every file is hashed."""
    findings = []
    for content_hash in store.hashes():
        try:
            store.verify(content_hash)
        except StoreError as error:
            moves = (f"{content_hash[:2]}/{content_hash}.arrow",)
            findings.append(
                Finding("damaged_column", content_hash, str(error), moves, str(store.root))
            )
    return findings


def check_states(store: RaggedStore) -> list[Finding]:
    """Return the damaged states of frozen layers; every file is hashed."""
    findings = []
    for content_hash in store.hashes():
        try:
            damaged = store.open(content_hash).damage()
            told = f"{len(damaged)} entries do not match their digests" if damaged else ""
        except StoreError as error:
            told = str(error)
        if told:
            ends = (".index.safetensors", ".states")
            moves = tuple(f"{content_hash[:2]}/{content_hash}{end}" for end in ends)
            findings.append(Finding("damaged_states", content_hash, told, moves, str(store.root)))
    return findings


def repair(findings: Iterable[Finding]) -> list[Path]:
    """Move what the findings name into `_damaged/fsck` of its store; return the new places.

    A table whose log is damaged is back at its last good version afterwards. A path that is no
    longer there is passed over, so that repairing twice equals repairing once.

    Raises:
        StoreError: For a store that is not on a local disk.
    """
    moved = []
    for finding in findings:
        root = Path(finding.root)
        if not root.is_dir():
            raise StoreError("repair works on local stores only", where=finding.root)
        for path in finding.moves:
            source = root / path
            if not source.exists():
                continue
            target = aside((root / "_damaged" / "fsck" / path).parent, source.name)
            make_dirs(target.parent)
            source.rename(target)
            fsync_dir(target.parent)
            fsync_dir(source.parent)
            moved.append(target)
    return moved


def bring_back(store: ModelStore) -> list[str]:
    """Put models that `repair` moved aside and that are whole again back; return their hashes.

    Models share tensors and files: one damaged object takes all of them aside, and the next model
    that is built with the same content stores it anew.
    """
    found: list[str] = []
    known: Damages = {}
    for kept in sorted(store.root.glob("_damaged/fsck/[0-9a-f][0-9a-f]/*")):
        content_hash = kept.name.partition(".")[0]
        folder = store.path(content_hash)
        if folder.exists():
            continue
        make_dirs(folder.parent)
        kept.rename(folder)
        try:
            store.verify(content_hash, known)
        except StoreError:
            folder.rename(kept)
        else:
            fsync_dir(folder.parent)
            found.append(content_hash)
    return found


def _check_log(storage: Storage, table: str) -> list[Finding]:
    versions = list(delta_log.commit_versions(storage, table))
    newest_checkpoint = max(_checkpoints(storage, table), default=-1)
    findings = []
    expected = versions[0] if versions else 0
    for version in versions:
        if version > expected:
            findings.append(_log_finding(storage, table, "missing_commit", expected))
        expected = version + 1
        try:
            delta_log.read_actions(storage, table, version)
        except CorruptArtifactError as error:
            kind = "empty_commit" if "empty" in error.message else "broken_commit"
            findings.append(_log_finding(storage, table, kind, version))
    if versions and versions[0] > max(newest_checkpoint, 0):
        findings.append(_log_finding(storage, table, "missing_commit", 0))
    return findings


def _log_finding(storage: Storage, table: str, kind: str, version: int) -> Finding:
    where = f"{table} version {version}"
    later = [number for number in _checkpoints(storage, table) if number > version]
    if later:
        detail = (
            f"checkpoint {max(later)} is newer: reading and writing go on, only time travel by"
            f" version number to {version} is lost"
        )
        return Finding(kind, where, detail, (), storage.base)
    moves = [
        delta_log.commit_file(table, number)
        for number in delta_log.commit_versions(storage, table)
        if number >= version
    ]
    last = delta_log.last_checkpoint(storage, table)
    for number, path in _checkpoints(storage, table).items():
        if number >= version:
            moves.append(path)
    if last is not None and last >= version:
        moves.append(f"{delta_log.log_folder(table)}/{delta_log.LAST_CHECKPOINT}")
    detail = (
        f"repair moves versions {version} and later aside: the table is then at version"
        f" {version - 1}; their data files stay, and what the ledger names stays readable"
    )
    return Finding(kind, where, detail, tuple(moves), storage.base)


def _check_last_checkpoint(storage: Storage, table: str) -> list[Finding]:
    path = f"{delta_log.log_folder(table)}/{delta_log.LAST_CHECKPOINT}"
    if storage.size(path) is None:
        return []
    named = delta_log.last_checkpoint(storage, table)
    if named in _checkpoints(storage, table):
        return []
    found = "is garbage" if named is None else f"names checkpoint {named}, which is not there"
    detail = f"_last_checkpoint {found}; repair moves it aside, Delta then finds its way alone"
    return [Finding("bad_last_checkpoint", table, detail, (path,), storage.base)]


def _check_files(
    storage: Storage, table: str, deep: bool, grace_s: float, needed: Collection[str] | None
) -> list[Finding]:
    named: set[str] = set()
    live: set[str] = set()
    missing: list[tuple[str, Finding]] = []
    findings = []
    for version in delta_log.commit_versions(storage, table):
        try:
            actions = delta_log.read_actions(storage, table, version)
        except CorruptArtifactError:
            continue  # `_check_log` tells
        live -= {action["remove"]["path"] for action in actions if "remove" in action}
        added = {action["add"]["path"] for action in actions if "add" in action}
        named |= added
        live |= added
        stored = delta_log.stored_commit(actions, version)
        for file in stored.ref.files if stored else ():
            path, where = f"{table}/{file.path}", f"{table} version {version}"
            size = storage.size(path)
            if size is None:
                detail = f"{path} is not there; building the partition again makes a new one"
                missing.append(
                    (file.path, Finding("missing_file", where, detail, (), storage.base))
                )
            elif size != file.bytes or (deep and _sha256(storage, path) != file.sha256):
                detail = f"{path} does not match its hash; repair moves it aside"
                findings.append(Finding("damaged_file", where, detail, (path,), storage.base))
    findings += [
        finding
        for path, finding in missing
        if needed is None or path in live or f"{table}/{path}" in needed
    ]
    findings += [
        Finding("leftover_file", table, "no version names it; repair moves it aside", (p,),
                storage.base)
        for p, _, is_folder in storage.listing(table, recursive=True)
        if not is_folder and _is_leftover(p[len(table) + 1 :], named)
        and storage.age_s(p) >= grace_s
    ]  # fmt: skip
    return findings


def _sha256(storage: Storage, path: str) -> str:
    return buffer_sha256(storage.buffer(path))


def _is_leftover(path: str, named: set[str]) -> bool:
    if path.startswith("_delta_log/"):
        return ".tmp" in path
    return path.endswith(".parquet") and path not in named


def _checkpoints(storage: Storage, table: str) -> dict[int, str]:
    return dict(delta_log.checkpoints(storage, table))

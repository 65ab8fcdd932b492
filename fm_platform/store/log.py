"""The Delta log as files: which commits there are and what each of them says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fm_platform.errors import CorruptArtifactError, MissingArtifactError
from fm_platform.store.files import Storage
from fm_platform.store.refs import Commit, TableRef

STAMP_KEY = "fm"
LAST_CHECKPOINT = "_last_checkpoint"
_COMMIT_FILE = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint.*\.parquet")
FSCK = "run `fm fsck --repair`: it moves the damage aside and keeps it as evidence"


@dataclass(frozen=True)
class Stored:
    """One commit of this store, as its log entry tells."""

    ref: TableRef
    commit: Commit
    token: str


def log_folder(table: str) -> str:
    """Return the folder of the log."""
    return f"{table}/_delta_log"


def commit_file(table: str, version: int) -> str:
    """Return the path of one commit."""
    return f"{log_folder(table)}/{version:020d}.json"


def commit_versions(storage: Storage, table: str) -> dict[int, int]:
    """Return the size in bytes of each commit file, by version, rising."""
    found = {}
    for path, size, _ in storage.listing(log_folder(table)):
        match = _COMMIT_FILE.fullmatch(path.rpartition("/")[2])
        if match:
            found[int(match[1])] = size
    return dict(sorted(found.items()))


def read_actions(storage: Storage, table: str, version: int) -> list[dict[str, Any]]:
    """Return the actions of one commit.

    Raises:
        MissingArtifactError: If there is no such commit.
        CorruptArtifactError: If it is empty or is not JSON lines.
    """
    path = commit_file(table, version)
    text = storage.buffer(path).to_pybytes()
    try:
        actions = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise CorruptArtifactError(
            "a commit of the Delta log is damaged",
            where=storage.uri(path), found=str(error), next_step=FSCK,
        ) from error  # fmt: skip
    if not actions or not all(isinstance(action, dict) for action in actions):
        raise CorruptArtifactError(
            "a commit of the Delta log is empty",
            where=storage.uri(path), found=f"{len(text)} bytes", next_step=FSCK,
        )  # fmt: skip
    return actions


def stamp(ref: TableRef, commit: Commit, token: str) -> dict[str, Any]:
    """Return the commit metadata: all that is needed to rebuild the ledger's record."""
    about = ref.to_json()
    del about["version"]
    return {
        STAMP_KEY: {
            "ref": about,
            "app_id": commit.app_id,
            "number": commit.number,
            "identity": dict(sorted(commit.identity.items())),
            "token": token,
        }
    }


def stored_commit(actions: list[dict[str, Any]], version: int) -> Stored | None:
    """Return what `stamp` wrote, None for a commit of something else."""
    for action in actions:
        note = action.get("commitInfo", {}).get(STAMP_KEY)
        if note:
            commit = Commit(str(note["app_id"]), int(note["number"]), dict(note["identity"]))
            ref = TableRef.from_json({**note["ref"], "version": version})
            return Stored(ref, commit, str(note["token"]))
    return None


def stored_commits(storage: Storage, table: str, *, newest_first: bool = False) -> Iterator[Stored]:
    """Yield all commits of this store.

    Raises:
        CorruptArtifactError: If one is damaged.
    """
    for version in sorted(commit_versions(storage, table), reverse=newest_first):
        found = stored_commit(read_actions(storage, table, version), version)
        if found is not None:
            yield found


def last_checkpoint(storage: Storage, table: str) -> int | None:
    """Return the version that `_last_checkpoint` names, None if there is none or it is garbage."""
    try:
        text = storage.buffer(f"{log_folder(table)}/{LAST_CHECKPOINT}").to_pybytes()
        return int(json.loads(text)["version"])
    except (MissingArtifactError, ValueError, KeyError, TypeError):
        return None


def checkpoints(storage: Storage, table: str) -> list[tuple[int, str]]:
    """Return (version, path) of each checkpoint file, rising."""
    found = []
    for path, _, _ in storage.listing(log_folder(table)):
        match = _CHECKPOINT.fullmatch(path.rpartition("/")[2])
        if match:
            found.append((int(match[1]), path))
    return found

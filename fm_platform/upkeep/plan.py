"""What retention would remove: the plan that `fm gc` shows, and `fm gc --apply` carries out.

Only what the ledger knows is ever removed. A version is kept if `lineage.keep` says so; of the
others, a file, column or model goes if no kept version names it. What a killed writer left goes
when it is old enough to be nobody's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from fm_platform.errors import StoreError
from fm_platform.lineage.keep import NEEDED, KeepSet, keep_set
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import projects
from fm_platform.store.checkout import folder_bytes
from fm_platform.store.fsck import check_tables
from fm_platform.store.refs import TableRef
from fm_platform.workspace import Workspace

GRACE_S = 3600.0
WORK_GRACE_S = 7 * 24 * 3600.0

TRACKED = ("merged_model", "evaluation")
"""Kinds of which MLflow has files."""

TableFile = tuple[str, str]
"""(table, path below it)."""


@dataclass(frozen=True)
class Blobs:
    """Where versions keep their bytes."""

    files: frozenset[TableFile] = frozenset()
    models: frozenset[str] = frozenset()
    columns: frozenset[str] = frozenset()
    reports: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()

    def __sub__(self, other: Blobs) -> Blobs:
        return Blobs(
            self.files - other.files,
            self.models - other.models,
            self.columns - other.columns,
            self.reports - other.reports,
            self.states - other.states,
        )


@dataclass(frozen=True)
class Plan:
    """What is kept and what goes.

    Attributes:
        kept: Number of versions kept, by reason.
        remove: Versions whose bytes go, oldest first.
        blobs: The bytes that go.
        refs: The table versions that hold the files among them.
        bytes: Store -> bytes that go, as far as they are known before.
        checkpoints: Checkpoints of Delta logs, below the lake, that later ones replace.
        forget: Merged models and evaluations whose files MLflow still has.
        missing: Kept versions whose bytes are gone (retention removed them earlier).
        blocked: Why models are not removed this time; empty otherwise.
        to_pack: Models of an older layout that are kept.
    """

    kept: Mapping[str, int]
    remove: tuple[ArtifactVersion, ...]
    blobs: Blobs
    refs: tuple[TableRef, ...]
    bytes: Mapping[str, int]
    checkpoints: tuple[str, ...] = ()
    forget: tuple[ArtifactVersion, ...] = ()
    missing: tuple[ArtifactVersion, ...] = ()
    blocked: str = ""
    to_pack: tuple[str, ...] = ()
    keep: KeepSet = field(default_factory=lambda: KeepSet({}, frozenset()))

    @property
    def total_bytes(self) -> int:
        """All bytes that go."""
        return sum(self.bytes.values())


def make_plan(ws: Workspace, *, in_use_since: datetime | None = None) -> Plan:
    """Return what retention would remove now; nothing is changed.

    Args:
        ws: The workspace.
        in_use_since: Keep also what was in use at any moment since then.
    """
    keep = keep_set(ws.ledger, in_use_since=in_use_since)
    versions = _recorded(ws)
    kept = [version for version in versions if version.id in keep.reasons]
    others = [version for version in versions if version.id not in keep.reasons]
    gone = ws.ledger.removed()
    blobs = _present(ws, blobs_of(others) - blobs_of(kept))
    remove = tuple(v for v in others if v.id not in gone or _holds(v, blobs))
    sizes, blocked = sizes_of(ws, blobs)
    sizes["models"] += ws.models.objects.leftover_bytes()
    sizes["checkouts"] = ws.models.checkouts.unused_bytes()
    sizes["leftovers"] = sum(ws.tables.storage.size(path) or 0 for path in leftovers(ws))
    checkpoints = tuple(ws.tables.old_checkpoints())
    sizes["checkpoints"] = sum(ws.tables.storage.size(path) or 0 for path in checkpoints)
    sizes["work"] = sum(folder_bytes(path) for path in old_work(ws))
    leaving = {version.id for version in remove}
    return Plan(
        kept=dict(sorted(Counter(_short(keep.reasons[v.id]) for v in kept).items())),
        remove=remove,
        blobs=blobs,
        refs=tuple(_refs(others, blobs.files)),
        bytes=sizes,
        checkpoints=checkpoints,
        forget=tuple(
            v for v in others
            if v.kind in TRACKED
            and (v.id in leaving or (v.id in gone and gone[v.id].forgotten_at is None))
        ),
        missing=tuple(v for v in kept if v.id in gone),
        blocked=blocked,
        to_pack=tuple(sorted(blobs_of(kept).models & set(_old_layout(ws)))),
        keep=keep,
    )  # fmt: skip


def blobs_of(versions: Iterable[ArtifactVersion]) -> Blobs:
    """Return where versions keep their bytes."""
    files: set[TableFile] = set()
    models, columns, reports, states = set(), set(), set(), set()
    for version in versions:
        for told in version.location.get("tables", {}).values():
            files.update((str(told["table"]), str(file["path"])) for file in told["files"])
        if "model" in version.location:
            models.add(str(version.location["model"]))
        if "column" in version.location:
            columns.add(str(version.location["column"]))
        if "states" in version.location:
            states.add(str(version.location["states"]))
        reports.add(version.content_hash[:16])
    sets = (models, columns, reports, states)
    return Blobs(frozenset(files), *map(frozenset, sets))


def needed_files(ws: Workspace) -> frozenset[str]:
    """Return the files, as `table/path`, of all versions but those that retention removed."""
    gone = ws.ledger.removed()
    blobs = blobs_of(version for version in _recorded(ws) if version.id not in gone)
    return frozenset(f"{table}/{path}" for table, path in blobs.files)


def _recorded(ws: Workspace) -> list[ArtifactVersion]:
    """Return all versions of all projects."""
    return [v for name in projects(ws.ledger) for v in ws.ledger.versions(name)]


def _short(reason: str) -> str:
    """Return a reason without what differs from version to version."""
    return "needed by what is kept" if reason == NEEDED else reason


def _holds(version: ArtifactVersion, blobs: Blobs) -> bool:
    """Whether bytes of a version are among `blobs`."""
    own = blobs_of([version])
    names = ("files", "models", "columns", "states")
    return any(getattr(own, name) & getattr(blobs, name) for name in names)


def _present(ws: Workspace, blobs: Blobs) -> Blobs:
    """Return those that are there."""
    known = set(ws.models.hashes())
    columns = set(ws.columns.hashes())
    size = ws.tables.storage.size
    return Blobs(
        frozenset((t, path) for t, path in blobs.files if size(f"{t}/{path}") is not None),
        frozenset(blobs.models & known),
        frozenset(blobs.columns & columns),
        frozenset(name for name in blobs.reports if (ws.home.reports / name).is_dir()),
        frozenset(blobs.states & set(ws.states.hashes())),
    )


def sizes_of(ws: Workspace, blobs: Blobs) -> tuple[dict[str, int], str]:
    """Return kind -> bytes that go with `blobs`, and why models cannot be counted, or nothing."""
    blocked, objects = "", 0
    try:
        unnamed = ws.models.unnamed(blobs.models)
        objects = sum(ws.models.objects.size(name) for name in unnamed)
        objects += sum(folder_bytes(ws.models.path(model)) for model in blobs.models)
    except StoreError as error:
        blocked = f"a manifest of a model cannot be read, `fm fsck` names it: {error.message}"
    sizes = {
        "tables": sum(ws.tables.storage.size(f"{t}/{path}") or 0 for t, path in blobs.files),
        "models": objects,
        "columns": sum(ws.columns.size(column) for column in blobs.columns),
        "states": sum(ws.states.size(name) for name in blobs.states),
        "reports": sum(folder_bytes(ws.home.reports / name) for name in blobs.reports),
    }
    return sizes, blocked


def _refs(versions: Iterable[ArtifactVersion], files: frozenset[TableFile]) -> list[TableRef]:
    """Return table versions with just the files that go, each file once."""
    found: list[TableRef] = []
    left = set(files)
    for version in versions:
        for told in version.location.get("tables", {}).values():
            ref = TableRef.from_json(told)
            own = tuple(file for file in ref.files if (ref.table, file.path) in left)
            if own:
                left -= {(ref.table, file.path) for file in own}
                found.append(replace(ref, files=own))
    return found


def leftovers(ws: Workspace) -> tuple[str, ...]:
    """Return the files of interrupted writers, below the lake, old enough to be nobody's."""
    findings = check_tables(ws.tables, grace_s=GRACE_S)
    listed = [finding.moves for finding in findings if finding.kind == "leftover_file"]
    return tuple(sorted(path for moves in listed for path in moves))


def old_work(ws: Workspace) -> tuple[Path, ...]:
    """Return the folders of trainings that were interrupted long ago."""
    now = time.time()
    folders = [path for path in ws.home.work.glob("*") if path.is_dir()]
    return tuple(
        path for path in sorted(folders)
        if now - max([p.stat().st_mtime for p in [path, *path.rglob("*")]]) > WORK_GRACE_S
    )  # fmt: skip


def _old_layout(ws: Workspace) -> list[str]:
    return [name for name in ws.models.hashes() if any(ws.models.path(name).glob("*.safetensors"))]

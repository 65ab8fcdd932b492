"""The ledger built again, and held against the stores.

From its history on disk; or, where that is lost as well, from the manifests beside the data
(`lineage.manifests`). What Delta commits and model manifests say of themselves is then held
against it: what they hold and it does not know is named, and the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from fm_platform.errors import CorruptArtifactError, LedgerError, MissingArtifactError
from fm_platform.lineage import schema
from fm_platform.lineage.journal import Journal
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.rebuild import Difference, Told, compare, restore
from fm_platform.lineage.records import ArtifactVersion
from fm_platform.lineage.refs import projects, version_name
from fm_platform.store.files import aside, fsync_dir
from fm_platform.upkeep.plan import blobs_of
from fm_platform.workspace import Workspace


@dataclass(frozen=True)
class Rebuilt:
    """What came of it.

    Attributes:
        lines: Lines of history, or of manifests, that were read.
        versions: Versions in the ledger.
        differences: Rows on which the ledger and its history do not agree (`check` only).
        missing: Versions whose bytes are not in the stores, although nobody removed them.
        unrecorded: What the stores hold and the ledger does not know: left by a killed run.
        kept: Where the old ledger is.
        history: Where the history is that was there before a rebuild from the stores.
    """

    lines: int
    versions: int
    differences: tuple[Difference, ...] = ()
    missing: tuple[str, ...] = ()
    unrecorded: tuple[str, ...] = ()
    kept: Path | None = None
    history: Path | None = None


def check(ws: Workspace, *, from_stores: bool = False) -> Rebuilt:
    """Rebuild the ledger in memory and compare: nothing is changed.

    Args:
        ws: The workspace.
        from_stores: Compare with the manifests beside the data, not with history.

    Raises:
        LedgerError: If history, or a manifest, was altered.
    """
    with ws.alone():
        ws.ledger.write_history()
        other = Ledger.open("sqlite://")
        is_empty = not ws.manifests.ledgers() if from_stores else _journal(ws).is_empty()
        lines = 0 if is_empty else restore(_told(ws, from_stores), other)
        differences = tuple(compare(ws.ledger, other)) if lines else ()
        return _against_stores(ws, ws.ledger, lines, differences)


def rebuild(ws: Workspace, *, from_stores: bool = False) -> Rebuilt:
    """Build the ledger of FM_HOME (or the empty database of FM_LEDGER_URL) again.

    A file is built beside the old one and takes its place by one rename; the old one is kept.

    Args:
        ws: The workspace.
        from_stores: Take the manifests beside the data, not history; what there is of history is
            kept beside it, and a new one is begun.

    Raises:
        LedgerError: If there is nothing to rebuild from, it was altered, or the database is not
            empty.
        LedgerBusyError: If something is being built.
    """
    with ws.alone():
        done = _rebuild(ws, from_stores)
        ws.ledger.write_history()
        return done


def _rebuild(ws: Workspace, from_stores: bool) -> Rebuilt:
    told, moved = _told(ws, from_stores), None
    if from_stores:
        if not ws.manifests.ledgers():
            raise LedgerError(
                "no manifests of a ledger lie beside the data", where=told.folder,
                next_step="fm ledger rebuild reads the history of FM_HOME",
            )  # fmt: skip
        restore(told, Ledger.open("sqlite://"))  # whole, before anything is moved
        moved = _set_history_aside(ws)
    url = sa.make_url(ws.home.ledger_url)
    if url.get_backend_name() != "sqlite" or not url.database:
        ledger = Ledger.open(ws.home.ledger_url)
        lines = restore(told, ledger)
        return _against_stores(ws, ledger, lines, (), None, moved)
    target = Path(url.database)
    fresh = target.with_name(f".{target.name}.rebuilding")
    _remove(fresh)
    ledger = Ledger.open(f"sqlite:///{fresh}")
    lines = restore(told, ledger)
    with ledger.reading() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    ledger.engine.dispose()
    kept = _swap(fresh, target)
    return _against_stores(ws, ws.ledger, lines, (), kept, moved)


def _set_history_aside(ws: Workspace) -> Path | None:
    folder = ws.home.history
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    target = aside(folder.parent, f"{folder.name}.before-rebuild")
    folder.rename(target)
    fsync_dir(folder.parent)
    return target


def missing(ws: Workspace, ledger: Ledger) -> list[str]:
    """Return the versions whose bytes are not there, although nobody removed them."""
    gone = ledger.removed()
    models, columns = set(ws.models.hashes()), set(ws.columns.hashes())
    states = set(ws.states.hashes())

    def is_there(version: ArtifactVersion) -> bool:
        own = blobs_of([version])
        files = (ws.tables.storage.size(f"{table}/{path}") for table, path in own.files)
        kept = own.models <= models and own.columns <= columns and own.states <= states
        return kept and None not in files

    return [
        f"{project}: {version_name(version)} {version.content_hash[:12]}"
        for project in projects(ledger)
        for version in ledger.versions(project)
        if version.id not in gone and not is_there(version)
    ]


def unrecorded(ws: Workspace, ledger: Ledger) -> list[str]:
    """Return what the stores hold of recipes that the ledger does not know."""
    v = schema.versions.c
    with ledger.reading() as connection:
        known = set(connection.scalars(sa.select(v.recipe_hash)))
    found = set()
    for table in ws.tables.tables():
        for stored in ws.tables.commits(table):
            recipe = stored.commit.identity.get("recipe_hash", "")
            if recipe and recipe not in known:
                found.add(f"{table} {stored.ref.value}, recipe {recipe[:12]}")
    for model in ws.models.hashes():
        try:
            identity = ws.models.identity(model)
        except (CorruptArtifactError, MissingArtifactError):
            continue  # `fm fsck` tells
        recipe = identity.get("recipe_hash", "")
        if recipe and recipe not in known:
            found.add(f"model {model[:12]} ({identity.get('name', '?')}), recipe {recipe[:12]}")
    return sorted(found)


def _against_stores(
    ws: Workspace,
    ledger: Ledger,
    lines: int,
    differences: tuple[Difference, ...],
    kept: Path | None = None,
    history: Path | None = None,
) -> Rebuilt:
    count = sum(len(ledger.versions(project)) for project in projects(ledger))
    return Rebuilt(
        lines, count, differences, tuple(missing(ws, ledger)), tuple(unrecorded(ws, ledger)),
        kept, history,
    )  # fmt: skip


def _journal(ws: Workspace) -> Journal:
    return Journal(ws.home.history)


def _told(ws: Workspace, from_stores: bool) -> Told:
    return ws.manifests if from_stores else _journal(ws)


def _swap(fresh: Path, target: Path) -> Path | None:
    kept = None
    if target.exists():
        # A kill between these steps leaves no ledger at all, and the next run says so.
        kept = aside(target.parent, f"{target.name}.before-rebuild")
        target.rename(kept)
        for suffix in ("-wal", "-shm"):  # they belong to the old file
            beside = target.with_name(target.name + suffix)
            if beside.exists():
                beside.rename(kept.with_name(kept.name + suffix))
    fresh.replace(target)
    _remove(fresh)
    fsync_dir(target.parent)
    return kept


def _remove(file: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)

"""Retention carried out: first the ledger says that bytes go, then they go.

A kill at any moment leaves a store that the next `collect` finishes: what is recorded as removed
and still there is removed then, and a version that was wanted again meanwhile is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from fm_platform.errors import (
    CorruptArtifactError,
    HomeError,
    LedgerBusyError,
    MissingArtifactError,
    RegistryUnavailableError,
    TrackingError,
)
from fm_platform.store.checkout import folder_bytes
from fm_platform.store.files import storage_errors
from fm_platform.upkeep.plan import Plan, leftovers, make_plan, old_work
from fm_platform.workspace import Workspace

Say = Callable[[str], None]


@dataclass(frozen=True)
class Collected:
    """What was removed.

    Attributes:
        plan: What was to be removed.
        freed: Store -> bytes.
        waiting: What could not be done this time, in words; the next `collect` tries again.
    """

    plan: Plan
    freed: dict[str, int]
    waiting: tuple[str, ...] = ()


def collect(
    ws: Workspace,
    *,
    actor: str,
    in_use_since: datetime | None = None,
    say: Say = lambda _text: None,
) -> Collected:
    """Remove what no kept version needs; builds of this FM_HOME wait meanwhile.

    Args:
        ws: The workspace; its home need not be writable before: the disk may be full.
        actor: Who asks, for the record.
        in_use_since: Keep also what was in use at any moment since then.
        say: Told of each step.

    Raises:
        HomeError: If nothing can be recorded, also after what needs no record is gone.
        LedgerBusyError: If something is being built.
    """
    cleared = _make_room(ws)
    with ws.retiring():
        plan = make_plan(ws, in_use_since=in_use_since)
        plan = replace(plan, bytes={**plan.bytes, **cleared})
        sizes = {version.id: version.bytes or 0 for version in plan.remove}
        ws.ledger.record_removals(sizes, actor=actor)
        freed = dict(cleared)
        waiting: list[str] = []
        say(f"{len(plan.remove)} versions: tables")
        freed["tables"] = ws.tables.remove(plan.refs, f"fm gc by {actor}")
        say("columns and reports")
        freed["checkpoints"] = sum(ws.tables.storage.remove(path) for path in plan.checkpoints)
        freed["columns"] = sum(ws.columns.remove(column) for column in sorted(plan.blobs.columns))
        freed["states"] = sum(ws.states.remove(name) for name in sorted(plan.blobs.states))
        freed["reports"] = _remove_folders(
            [ws.home.reports / name for name in sorted(plan.blobs.reports)]
        )
        say("models")
        freed["models"] = _remove_models(ws, plan, waiting)
        say("MLflow")
        freed["mlflow"] = _forget(ws, plan, waiting)
        ws.ledger.note_restored(_restored(ws, plan))
        say("history and databases")
        freed["history"] = ws.ledger.pack_history()
        freed["databases"] = _compact(ws, waiting)
    return Collected(plan, freed, tuple(waiting))


def _make_room(ws: Workspace) -> dict[str, int]:
    """Remove what no version needs and no record tells of; return store -> bytes.

    Where that is not enough to record anything, the reserve of the home is given back, too; who
    opens the home next sets it aside again.
    """
    with storage_errors(ws.home.root):
        cleared = {
            "checkouts": ws.models.checkouts.clear(),
            "work": _remove_folders(old_work(ws)),
            "leftovers": sum(ws.tables.storage.remove(path) for path in leftovers(ws)),
        }
        try:
            ws.home.prove()
        except HomeError:
            if not ws.home.reserve.is_file():
                raise
            ws.home.reserve.unlink()
    return cleared


def _remove_models(ws: Workspace, plan: Plan, waiting: list[str]) -> int:
    if plan.blocked:
        waiting.append(f"models: {plan.blocked}")
        return 0
    freed = sum(ws.models.remove(model) for model in sorted(plan.blobs.models))
    freed += sum(ws.models.pack(model) for model in plan.to_pack)
    return freed + ws.models.sweep()


def _remove_folders(folders: Iterable[Path]) -> int:
    freed = 0
    for folder in folders:
        freed += folder_bytes(folder)
        shutil.rmtree(folder)
    return freed


def _forget(ws: Workspace, plan: Plan, waiting: list[str]) -> int:
    """Take the files of removed models and evaluations out of MLflow."""
    freed, done = 0, []
    for version in plan.forget:
        try:
            if version.kind == "evaluation":
                freed += ws.tracker.forget_evaluation(version.project, version.recipe_hash)
            else:
                freed += ws.tracker.forget_model(version.project, version.recipe_hash)
        except TrackingError as error:
            waiting.append(f"MLflow: {error.message}")
            break
        done.append(version.id)
    ws.ledger.note_forgotten(done)
    return freed


def _compact(ws: Workspace, waiting: list[str]) -> int:
    """Give pages of databases back that nothing uses; who reads now is waited for next time."""
    freed = 0
    for name, compact in (("the ledger", ws.ledger.compact), ("MLflow", ws.tracker.compact)):
        try:
            freed += compact()
        except (LedgerBusyError, RegistryUnavailableError) as error:
            waiting.append(f"unused pages of {name}: {error.message}")
    return freed


def _restored(ws: Workspace, plan: Plan) -> list[int]:
    """Return kept versions that were recorded as removed and are there after all."""
    found = []
    for version in plan.missing:
        try:
            ws.verify(version)
        except (CorruptArtifactError, MissingArtifactError):
            continue  # gone, as recorded: the next build makes it again
        found.append(version.id)
    return found

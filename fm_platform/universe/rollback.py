"""`fm rollback`: everything of a project as it was at a moment, as new versions.

Tables, models, aliases, taxonomy, spec and labeling functions come back together. Nothing of the
history is rewritten: uses begin anew, aliases move, every table gets one more Delta version, and
what was there before the rollback is itself a moment to go back to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fm_platform.display import plain
from fm_platform.errors import CorruptArtifactError, FMError, MissingArtifactError
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.records import ArtifactVersion, RunContext, Slot
from fm_platform.lineage.refs import version_name
from fm_platform.lineage.status import StatusRow, status
from fm_platform.lineage.universes import AliasTarget, Arrangement
from fm_platform.spec.load import load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.definition import read_definition, record_definition
from fm_platform.stages.probe import probe
from fm_platform.stages.reproduce import bring_back
from fm_platform.tracking.records import CANARY, CHAMPION
from fm_platform.universe.files import FileChange, carry_out, change_to
from fm_platform.universe.lake import Heads
from fm_platform.universe.shown import show_aliases
from fm_platform.universe.turn import whole_project
from fm_platform.workspace import Workspace

# These are made from nothing that the ledger holds: once gone, they are gone.
SOURCES = ("raw", "spec")
_ANSWERING = (CHAMPION, CANARY)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """What a rollback changes.

    Attributes:
        to: The moment.
        expected: What is in use now.
        uses: Slot -> version to use again; None: it was not built then.
        aliases: Alias -> what it named then.
        files: Of the project's folder; None: they stay as they are.
        gone: Versions of that moment whose bytes are no longer there; the next run makes them.
        first: Champion and canary of then where theirs are: built again before anything changes.
    """

    project: str
    to: datetime
    expected: Mapping[Slot, int]
    uses: Mapping[Slot, int | None]
    aliases: Mapping[str, AliasTarget]
    files: FileChange | None
    target: Mapping[Slot, int]
    gone: tuple[ArtifactVersion, ...] = ()
    first: tuple[ArtifactVersion, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.uses or self.aliases or self.files)


@dataclass(frozen=True)
class RolledBack:
    """What a rollback did.

    Attributes:
        plan: What was to be done; it is empty where all was so already.
        decision: Id of the decision that records it; None where nothing was changed.
        commits: Table -> its new Delta version.
        before: When the project was last as it was before: the moment to go back to.
        stale: What a run would build in spite of it, and why: what lies outside the ledger (code,
            packages, source files) is not rolled back.
        unknown: Why that cannot be told, e.g. because the base model is not there; else empty.
    """

    plan: Plan
    decision: int | None
    commits: Mapping[str, int]
    before: datetime
    stale: tuple[StatusRow, ...]
    unknown: str = ""


def make_plan(
    ws: Workspace, project: str, folder: Path, to: datetime, *, keep_files: bool = False
) -> Plan:
    """Return what a rollback would change; nothing is changed.

    Args:
        ws: The workspace, on main or on a branch.
        project: Its name.
        folder: Where its files are.
        to: The moment.
        keep_files: Leave the project's files alone.

    Raises:
        FMError: If nothing was built then, the moment is to come, or no definition is recorded.
        MissingArtifactError: If source rows of that moment are gone.
    """
    if to > ws.ledger.moment():
        raise FMError("a rollback goes back in time", found=f"{to:%Y-%m-%d %H:%M:%S %Z}")
    ledger = ws.ledger
    target = ledger.slots_in_use(project, at=to)
    if not [slot for slot in target if slot[0] != "spec"]:
        raise _nothing_then(ws, project, to)
    files = None
    if not keep_files:
        files = change_to(folder, _definition(ws, project, to).files)
    expected = ledger.slots_in_use(project)
    if keep_files and ("spec", "spec", None) in expected:
        target = target | {("spec", "spec", None): expected["spec", "spec", None]}
    uses: dict[Slot, int | None] = {
        slot: version_id for slot, version_id in target.items() if expected.get(slot) != version_id
    }
    uses.update({slot: None for slot in expected if slot not in target})
    aliases = ledger.aliases_to_restore(project, to)
    named = {aliases[alias].version_id for alias in _ANSWERING if alias in aliases}
    gone = _gone(ws, sorted({i for i in {*uses.values(), *named} if i is not None}))
    first = tuple(version for version in gone if version.id in named)
    rest = tuple(version for version in gone if version.id not in named)
    return Plan(project, to, expected, uses, aliases, files, target, rest, first)


def rollback(
    ws: Workspace,
    project: str,
    folder: Path,
    to: datetime,
    run: RunContext,
    *,
    reason: str = "",
    keep_files: bool = False,
    say: Say = lambda _: None,
) -> RolledBack:
    """Bring a project back to a moment. Run again after an interruption, it finishes.

    A champion or canary that retention removed is built again first.

    Raises:
        BranchError: If something of the project is being built now.
        MissingArtifactError: If such a model does not come out as it was.
        FMError: As `make_plan`.
    """
    plan = make_plan(ws, project, folder, to, keep_files=keep_files)  # refuses before it changes
    for model in plan.first:
        say(f"{version_name(model)} was removed by fm gc: it is built again first")
        bring_back(ws, ws.ledger.get(model.id), load_spec(folder / "defs.yaml"), SilentReporter())
    with whole_project(ws.ledger, project, "a rollback") as lease:
        if not keep_files:
            _record_now(ws, folder, run, say)
        before = ws.ledger.moment()
        with ws.alone():  # no build begins meanwhile
            plan = make_plan(ws, project, folder, to, keep_files=keep_files)
            decision, commits = None, {}
            if plan:
                say(f"{len(plan.uses)} artifacts change; tables first")
                commits = _point_tables(ws, plan, lease)
                decision = _arrange(ws, plan, lease, run, reason)
                if plan.files:
                    carry_out(ws.ledger, folder, plan.files)
        show_aliases(
            ws, project, plan.aliases, run, kind="rollback", numbers={"to": to.isoformat()},
            told=f"back to {to:%Y-%m-%d %H:%M:%S %Z}",
        )  # fmt: skip
    try:
        return RolledBack(plan, decision, commits, before, tuple(_stale(ws, folder, plan)))
    except FMError as error:
        return RolledBack(plan, decision, commits, before, (), str(error))


def _definition(ws: Workspace, project: str, to: datetime):  # type: ignore[no-untyped-def]
    version = ws.ledger.latest(project, "spec", "spec", at=to)
    if version is None or "model" not in version.location:
        raise FMError(
            f"what {project} declared at {to:%Y-%m-%d %H:%M:%S %Z} is not recorded",
            next_step="--keep-files brings back the rest and leaves the project's files alone",
        )
    return read_definition(ws, version)


def _nothing_then(ws: Workspace, project: str, to: datetime) -> FMError:
    first = min((v.created_at for v in ws.ledger.versions(project)), default=None)
    return FMError(
        f"nothing of {plain(project, 64)} was in use at {to:%Y-%m-%d %H:%M:%S %Z}",
        expected=f"a moment after {first:%Y-%m-%d %H:%M:%S %Z}" if first else None,
        next_step="fm log shows what happened when" if first else f"fm run {project}",
    )


def _gone(ws: Workspace, ids: Sequence[int]) -> tuple[ArtifactVersion, ...]:
    """Return the versions whose bytes are missing or damaged.

    Raises:
        MissingArtifactError: If source rows or a definition are among them.
    """
    gone = []
    for version in ws.ledger.get_many(ids, with_inputs=False):
        try:
            ws.verify(version)
        except (CorruptArtifactError, MissingArtifactError):
            gone.append(version)
    lost = [version_name(version) for version in gone if version.kind in SOURCES]
    if lost:
        raise MissingArtifactError(
            f"{len(lost)} versions of that moment are gone, and nothing can make them again",
            found=", ".join(lost[:5]) + (" ..." if len(lost) > 5 else ""),
            next_step="fm fsck names the damage; a copy of FM_HOME has them",
        )
    return tuple(gone)


def _record_now(ws: Workspace, folder: Path, run: RunContext, say: Say) -> None:
    """Record what is declared now, so that one can come back to it."""
    file = folder / "defs.yaml"
    if not file.is_file():
        return
    try:
        record_definition(ws, load_spec(file), run)
    except FMError as error:  # the file has mistakes: its text is kept all the same
        say(f"what is declared now has mistakes and is kept as text only: {error.message}")


def _point_tables(ws: Workspace, plan: Plan, lease: Lease) -> dict[str, int]:
    heads = Heads(ws.ledger.scope(plan.project))
    gone = {version.id for version in plan.gone}
    ids = [version_id for version_id in plan.target.values() if version_id not in gone]
    heads.want(ws.ledger.get_many(ids, with_inputs=False))
    later = [v for v in ws.ledger.versions(plan.project) if v.created_at > plan.to]
    heads.drop(later)
    why = f"fm rollback {plan.project} --to {plan.to.isoformat()}"
    commits, _ = heads.commit(ws, why, lambda: ws.ledger.check_lease(lease))
    return commits


def _arrange(ws: Workspace, plan: Plan, lease: Lease, run: RunContext, reason: str) -> int:
    numbers: dict[str, Any] = {
        "to": plan.to.isoformat(),
        "restored": sum(version_id is not None for version_id in plan.uses.values()),
        "retired": sum(version_id is None for version_id in plan.uses.values()),
        "aliases": {alias: target.version_id for alias, target in plan.aliases.items()},
        "files": sorted([*plan.files.write, *plan.files.remove]) if plan.files else [],
    }
    told = f"back to {plan.to:%Y-%m-%d %H:%M:%S %Z}" + (f": {reason}" if reason else "")
    change = Arrangement(
        plan.expected, plan.uses, plan.aliases, "rollback", numbers, told, run.asked_by
    )
    return ws.ledger.arrange(plan.project, change, lease)


def _stale(ws: Workspace, folder: Path, plan: Plan) -> list[StatusRow]:
    """Return what of that moment a run would not simply reuse."""
    if not (folder / "defs.yaml").is_file():
        return []
    loaded = load_spec(folder / "defs.yaml")
    rows = status(ws.ledger, loaded.spec, probe(ws, loaded))
    then = {(kind, name, partition) for kind, name, partition in plan.target}
    gone = {version.slot for version in plan.gone}
    return [
        row for row in rows
        if (row.kind, row.name, row.partition) in then
        and row.state != "fresh"
        and (row.kind, row.name, row.partition) not in gone
    ]  # fmt: skip

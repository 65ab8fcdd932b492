"""Branches: universes beside main that share every version whose recipe is equal.

A branch begins with what was in use at a moment. Its project files are a checkout in
`FM_HOME/branches/NAME`, its uses, aliases and decisions are kept under its own name, and what it
builds goes into tables of its own: main is not touched until a merge.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fm_platform.errors import BranchError
from fm_platform.hashing import sha256_hex
from fm_platform.home import Home, branch_name
from fm_platform.lineage.records import RunContext
from fm_platform.lineage.refs import projects
from fm_platform.lineage.universes import Branch
from fm_platform.spec.load import discover, load_spec
from fm_platform.stages.definition import read_definition, record_definition
from fm_platform.store.files import safe_relative
from fm_platform.universe.files import files_of
from fm_platform.universe.turn import whole_project
from fm_platform.upkeep.plan import blobs_of, sizes_of
from fm_platform.workspace import Workspace

DEFS = Path("assets") / "defs"


@dataclass(frozen=True)
class Use:
    """What a branch of one project costs.

    Attributes:
        branch: The branch.
        own: Versions in use that main never used.
        shared: Versions in use that main used, too.
        bytes: Kind -> bytes on disk that nothing but this branch names; `files` is its folder.
        uncounted: Why models could not be counted; else empty.
    """

    branch: Branch
    own: int
    shared: int
    bytes: Mapping[str, int]
    uncounted: str = ""

    @property
    def total_bytes(self) -> int:
        """All of them."""
        return sum(self.bytes.values())


def on_branch(ws: Workspace, name: str | None) -> Workspace:
    """Return the same FM_HOME on a branch, or on main (None)."""
    return Workspace(Home(ws.home.root, name))


def checkout_of(ws: Workspace, name: str) -> Path:
    """Return the folder of the project files of a branch."""
    return Home(ws.home.root, branch_name(name)).own


def ensure_main(ws: Workspace) -> None:
    """Refuse to work on branches from within one.

    Raises:
        BranchError: If this is a branch.
    """
    if ws.home.branch is not None:
        raise BranchError(
            f"this is branch {ws.home.branch!r}; branches begin from main and end there",
            next_step="leave FM_BRANCH and --branch out",
        )


def create(
    ws: Workspace, root: Path, name: str, run: RunContext, at: datetime | None = None
) -> list[Branch]:
    """Begin a branch of all projects, as they are or as they were.

    Args:
        ws: The workspace, on main.
        root: Folder that holds `assets/defs` of main.
        name: Of the branch.
        run: Who asks.
        at: The moment; None: now.

    Raises:
        BranchError: If there is one of that name already, or nothing to begin from.
        HomeError: If it cannot be called so.
        SpecError: If a project file has mistakes (now).
    """
    ensure_main(ws)
    branch_name(name)
    if ws.ledger.branches(name):
        raise BranchError(
            f"there is a branch {name!r} already", where=checkout_of(ws, name),
            next_step=f"fm run PROJECT --branch {name}, or fm branch delete {name}",
        )  # fmt: skip
    if at is not None and at > ws.ledger.moment():
        raise BranchError("a branch begins from a moment that has passed", found=at.isoformat())
    definitions = _definitions_now(ws, root, run) if at is None else _definitions_at(ws, at)
    when = at or ws.ledger.moment()
    if not definitions:
        raise BranchError(
            "there is nothing to begin a branch from", where=root / DEFS,
            next_step="fm log shows what happened when" if at else "fm init makes a project",
        )  # fmt: skip
    _check_out(ws, root, name, definitions)
    return ws.ledger.create_branch(name, definitions, when, run.asked_by)


def _definitions_now(ws: Workspace, root: Path, run: RunContext) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for file in discover(root):
        loaded = load_spec(file)
        found[loaded.spec.name] = record_definition(ws, loaded, run).id
    return found


def _definitions_at(ws: Workspace, at: datetime) -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for project in projects(ws.ledger):
        declared = ws.ledger.latest(project, "spec", "spec", at=at)
        if declared is not None and "model" in declared.location:
            found[project] = declared.id
        elif ws.ledger.slots_in_use(project, at=at):
            raise BranchError(
                f"what {project} declared at {at:%Y-%m-%d %H:%M:%S %Z} is not recorded",
                next_step="choose a later moment: every run records it now",
            )
    return found


def _check_out(ws: Workspace, root: Path, name: str, definitions: Mapping[str, int | None]) -> None:
    """Make the folder of a branch appear whole; what an interrupted creation left goes."""
    target = checkout_of(ws, name)
    staged = target.parent / f".{name}-{uuid.uuid4().hex[:8]}"
    try:
        for project, version_id in definitions.items():
            version = ws.ledger.get(version_id or 0)
            folder = staged / DEFS / project
            for path, text in read_definition(ws, version).files.items():
                file = folder / safe_relative(path, "file name in a definition")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, "utf-8")
        _link_rest(root, staged)
        if target.exists():
            shutil.rmtree(target)
        staged.rename(target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _link_rest(source: Path, target: Path) -> None:
    """Link what is not declared (rows, base models) from main: nothing of it is copied.

    Python files are left out: those of the moment are there, and others did not count then.
    """
    if not source.is_dir():
        return
    for entry in sorted(source.iterdir()):
        name, there = entry.name, target / entry.name
        if name.startswith((".", "__pycache__")) or entry.suffix == ".py" or there.is_file():
            continue
        if there.is_dir():
            _link_rest(entry, there)
        elif name != "defs.yaml" and not (entry / "defs.yaml").is_file():
            there.symlink_to(entry.resolve(), target_is_directory=entry.is_dir())


def uses(ws: Workspace) -> list[Use]:
    """Return every branch with what it costs, oldest first."""
    ledger = ws.ledger.on_branch(None)
    branches = ledger.branches()
    held = {b.id: _in_use(ws, b) for b in branches}
    everything = {p: ledger.versions(p) for p in {b.project for b in branches}}
    found = []
    first = {branch.name: branch.id for branch in reversed(branches)}
    for branch in branches:
        main = ledger.ever_used(branch.project)
        others = main.union(*(held[b.id] for b in branches if b.id != branch.id))
        own = held[branch.id] - main
        alone = own - others
        versions = everything[branch.project]
        blobs = blobs_of([v for v in versions if v.id in alone])
        blobs -= blobs_of([v for v in versions if v.id not in alone])
        sizes, uncounted = sizes_of(ws, blobs)
        # the folder is that of all its projects: it is counted once
        files = _folder(checkout_of(ws, branch.name)) if first[branch.name] == branch.id else 0
        found.append(
            Use(branch, len(own), len(held[branch.id] & main), {**sizes, "files": files}, uncounted)
        )
    return found


def _in_use(ws: Workspace, branch: Branch) -> set[int]:
    return set(ws.ledger.on_branch(branch.name).slots_in_use(branch.project).values())


def _folder(folder: Path) -> int:
    """Return the bytes of the files in a folder; links are not followed."""
    return sum(
        (Path(parent) / name).lstat().st_size
        for parent, _, names in os.walk(folder)
        for name in names
    )


def delete(ws: Workspace, name: str) -> list[Branch]:
    """End a branch; its history stays, and its bytes go with the next `fm gc`.

    The text of its project files is kept in the ledger.

    Raises:
        BranchError: If there is none, or something is being built on it.
    """
    ensure_main(ws)
    found = ws.ledger.branches(branch_name(name))
    folder = checkout_of(ws, name)
    if not found and not folder.exists():
        raise BranchError(
            f"there is no branch {name!r}",
            expected=", ".join(sorted({b.name for b in ws.ledger.branches()})) or None,
        )
    for branch in found:
        with whole_project(ws.ledger.on_branch(name), branch.project, "deleting the branch"):
            for path, text in files_of(folder / DEFS / branch.project).items():
                document = {"name": path, "text": text}
                ws.ledger.remember(sha256_hex(text.encode()), "file", document)
            ws.ledger.delete_branch(branch)
    if folder.exists():
        shutil.rmtree(folder)
    return found

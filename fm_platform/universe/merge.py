"""What a branch and main made since they parted, and how the two become one.

Only what people decide can conflict: project files, source rows, aliases. A derived artifact that
both sides built anew is nobody's decision: main's stays, and the next run builds what follows
from the merged declaration, reusing whatever either side has built.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from fm_platform.errors import BranchError
from fm_platform.lineage.ledger import Lease, Ledger
from fm_platform.lineage.records import ArtifactVersion, RunContext, Slot, slot_name
from fm_platform.lineage.universes import AliasTarget, Arrangement, Branch
from fm_platform.spec.load import load_spec, parse_spec
from fm_platform.stages.definition import read_definition, record_definition
from fm_platform.store.tables import TableRef
from fm_platform.universe.branches import DEFS, checkout_of, ensure_main
from fm_platform.universe.files import carry_out, change_to, files_of
from fm_platform.universe.lake import Heads
from fm_platform.universe.shown import show_aliases
from fm_platform.universe.turn import whole_project
from fm_platform.workspace import Workspace

Prefer = Literal["main", "branch"]
T = TypeVar("T")
# The next run names the challenger by itself, and shows it in MLflow.
_NOT_MERGED = ("challenger",)


@dataclass(frozen=True)
class Sides:
    """One thing since the two parted: as it was then, on main now, on the branch now."""

    base: Any
    main: Any
    branch: Any

    @property
    def changed_on(self) -> str:
        """`main`, `branch`, `both` (differently), or nothing."""
        if self.main == self.branch:
            return ""
        if self.main == self.base:
            return "branch"
        return "main" if self.branch == self.base else "both"


@dataclass(frozen=True)
class Comparison:
    """A branch of one project beside main.

    Attributes:
        files: Path -> text on each side, for files that differ.
        slots: Slot -> version id on each side, where the content differs.
        aliases: Alias -> version id on each side, where they differ.
        versions: The versions named by `slots` and `aliases`, by id.
    """

    branch: Branch
    files: Mapping[str, Sides]
    slots: Mapping[Slot, Sides]
    aliases: Mapping[str, Sides]
    versions: Mapping[int, ArtifactVersion]

    def conflicts(self) -> list[str]:
        """Return why the two cannot be merged without a word from a person."""
        name = self.branch.name
        found = [
            f"file {path}: changed on main and on {name}, differently"
            for path, sides in self.files.items()
            if sides.changed_on == "both"
        ]
        found += [
            f"{slot_name(slot)}: other source rows came on main and on {name}"
            for slot, sides in self.slots.items()
            if slot[0] == "raw" and sides.changed_on == "both"
        ]
        found += [
            f"alias {alias}: main names {self._named(sides.main)}, "
            f"{name} names {self._named(sides.branch)}"
            for alias, sides in self.aliases.items()
            if sides.changed_on == "both" and alias not in _NOT_MERGED
        ]
        return found

    def _named(self, version_id: int | None) -> str:
        if version_id is None:
            return "nothing"
        version = self.versions[version_id]
        return f"{slot_name(version.slot)}#{version.number} {version.content_hash[:12]}"

    def taken(self, prefer: Prefer | None) -> dict[Slot, int | None]:
        """Return what main puts in use."""
        return {
            slot: sides.branch
            for slot, sides in self.slots.items()
            if sides.changed_on == "branch"
            or (sides.changed_on == "both" and slot[0] == "raw" and prefer == "branch")
        }

    def left(self) -> list[Slot]:
        """Return what both sides built: the next run builds it from the merged declaration."""
        return [s for s, x in self.slots.items() if x.changed_on == "both" and s[0] != "raw"]

    def merged_files(self, prefer: Prefer | None) -> dict[str, str | None]:
        """Return path -> text (None: removed) of files that change on main."""
        return {
            path: sides.branch
            for path, sides in self.files.items()
            if sides.changed_on == "branch" or (sides.changed_on == "both" and prefer == "branch")
        }

    def merged_aliases(self, prefer: Prefer | None) -> dict[str, AliasTarget]:
        """Return the aliases that move on main."""
        return {
            alias: AliasTarget(sides.branch)
            for alias, sides in self.aliases.items()
            if alias not in _NOT_MERGED
            and (
                sides.changed_on == "branch" or (sides.changed_on == "both" and prefer == "branch")
            )
        }


@dataclass(frozen=True)
class Merged:
    """What a merge did to one project.

    Attributes:
        taken: Slots of main that hold the branch's version now (None: nothing).
        left: Slots that both built: the next run decides.
        commits: Table -> its new Delta version.
        decision: Id of the decision that records it; None where nothing was to be done.
    """

    branch: Branch
    taken: Mapping[Slot, int | None]
    left: tuple[Slot, ...]
    files: tuple[str, ...]
    aliases: tuple[str, ...]
    commits: Mapping[str, int]
    decision: int | None


def compare(ws: Workspace, root: Path, branch: Branch) -> Comparison:
    """Return what differs between a branch and main, and who changed it."""
    main, project = ws.ledger.on_branch(None), branch.project
    view = main.on_branch(branch.name)
    parted = branch.merged_at or branch.at
    was_main = main.slots_in_use(project, at=parted)
    was_branch = view.slots_in_use(project, at=branch.merged_at or branch.created_at)
    here, there = main.slots_in_use(project), view.slots_in_use(project)
    slots = _sides(_base(was_main, was_branch, here, there), here, there)
    slots.pop(("spec", "spec", None), None)
    aliases = _sides(
        _base(
            main.aliases(project, at=parted),
            view.aliases(project, at=branch.merged_at or branch.created_at),
            main.aliases(project), view.aliases(project),
        ),
        main.aliases(project), view.aliases(project),
    )  # fmt: skip
    ids = {i for s in (*slots.values(), *aliases.values()) for i in (s.base, s.main, s.branch)}
    versions = {v.id: v for v in main.get_many([i for i in ids if i is not None])}
    declared = branch.merged_definition_id or branch.definition_id
    then = dict(read_definition(ws, main.get(declared)).files) if declared else {}
    files = _sides(
        then,
        files_of(root / DEFS / project),
        files_of(checkout_of(ws, branch.name) / DEFS / project),
    )
    return Comparison(branch, files, _by_content(slots, versions), aliases, versions)


def _base(was_main: Mapping[T, int], was_branch: Mapping[T, int], here: Mapping[T, int],
          there: Mapping[T, int]) -> dict[T, int | None]:  # fmt: skip
    """Return what both had when they parted.

    After a merge the two may still differ (what both had built): a side that did not move since
    then has not changed, so its value is the base.
    """
    found: dict[T, int | None] = {}
    for key in {*was_main, *was_branch, *here, *there}:
        moved = there.get(key) != was_branch.get(key)
        found[key] = was_branch.get(key) if moved is False else was_main.get(key)
    return found


def _sides(base: Mapping[T, Any], main: Mapping[T, Any], branch: Mapping[T, Any]) -> dict[T, Sides]:
    keys = sorted({*base, *main, *branch}, key=str)
    found = {key: Sides(base.get(key), main.get(key), branch.get(key)) for key in keys}
    return {key: sides for key, sides in found.items() if sides.main != sides.branch}


def _by_content(
    slots: Mapping[Slot, Sides], versions: Mapping[int, ArtifactVersion]
) -> dict[Slot, Sides]:
    """Leave out slots with equal content: one version is as good as the other."""

    def content(version_id: int | None) -> str | None:
        return None if version_id is None else versions[version_id].content_hash

    return {
        slot: sides
        for slot, sides in slots.items()
        if content(sides.main) != content(sides.branch) or sides.changed_on == "branch"
    }


def merge(
    ws: Workspace, root: Path, name: str, run: RunContext, prefer: Prefer | None = None
) -> list[Merged]:
    """Bring what a branch changed to main. Run again after an interruption, it finishes.

    Args:
        ws: The workspace, on main.
        root: Folder that holds `assets/defs` of main.
        name: Of the branch.
        run: Who asks.
        prefer: Whose word counts where both decided differently; None: refuse then.

    Raises:
        BranchError: If there is no such branch, something is being built, or there are
            conflicts: all are listed, and nothing is changed in any project.
        SpecError: If the merged project file has mistakes.
    """
    ensure_main(ws)
    found = ws.ledger.branches(name)
    if not found:
        known = ", ".join(sorted({b.name for b in ws.ledger.branches()}))
        raise BranchError(f"there is no branch {name!r}", expected=known or None)
    planned = [compare(ws, root, branch) for branch in found]
    conflicts = [f"{c.branch.project}: {line}" for c in planned for line in c.conflicts()]
    if conflicts and prefer is None:
        raise BranchError(
            f"branch {name!r} cannot be merged: {len(conflicts)} conflicts",
            found="\n    ".join(["", *conflicts]),
            next_step="mend them on one side, or say whose word counts: --prefer main or branch",
        )
    for comparison in planned:
        _check_spec(root, comparison, prefer)
    return [_merge_one(ws, root, branch, run, prefer) for branch in found]


def _check_spec(root: Path, comparison: Comparison, prefer: Prefer | None) -> None:
    """Refuse a merge that would leave a project file with mistakes."""
    text = comparison.merged_files(prefer).get("defs.yaml")
    if text is not None:
        parse_spec(text, str(root / DEFS / comparison.branch.project / "defs.yaml"))


def _merge_one(
    ws: Workspace, root: Path, branch: Branch, run: RunContext, prefer: Prefer | None
) -> Merged:
    folder, ledger = root / DEFS / branch.project, ws.ledger
    with (
        whole_project(ledger.on_branch(branch.name), branch.project, "a merge"),
        whole_project(ledger, branch.project, "a merge") as lease,
    ):
        with ws.alone():  # no build begins meanwhile
            compared = compare(ws, root, branch)
            merged = _carry_out(ws, folder, compared, run, prefer, lease)
        if (folder / "defs.yaml").is_file() and (merged.decision or merged.files):
            declared = record_definition(ws, load_spec(folder / "defs.yaml"), run)
            ledger.note_merge(branch, declared.id)
        show_aliases(
            ws, branch.project, merged.aliases, run, kind="merge",
            numbers={"branch": branch.name}, told=f"merged branch {branch.name}",
        )  # fmt: skip
    return merged


def _carry_out(
    ws: Workspace,
    folder: Path,
    compared: Comparison,
    run: RunContext,
    prefer: Prefer | None,
    lease: Lease,
) -> Merged:
    branch, project = compared.branch, compared.branch.project
    taken, aliases = compared.taken(prefer), compared.merged_aliases(prefer)
    texts = compared.merged_files(prefer)
    left = tuple(compared.left())
    decision: int | None = None
    commits: dict[str, int] = {}
    if taken or aliases or texts:
        heads = Heads(project)
        heads.want([compared.versions[i] for i in taken.values() if i is not None])
        replaced = {slot: compared.slots[slot].main for slot, i in taken.items() if i is None}
        heads.drop([compared.versions[i] for i in replaced.values() if i is not None])
        why = f"fm branch merge {branch.name}"
        commits, refs = heads.commit(ws, why, lambda: ws.ledger.check_lease(lease))
        numbers = {
            "branch": branch.name, "taken": len(taken), "left": len(left),
            "files": sorted(texts), "prefer": prefer,
            "aliases": {alias: target.version_id for alias, target in aliases.items()},
        }  # fmt: skip
        change = Arrangement(
            ws.ledger.slots_in_use(project), taken, aliases, "merge", numbers,
            f"merged branch {branch.name}", run.asked_by, _moved(ws.ledger, compared, taken, refs),
        )  # fmt: skip
        decision = ws.ledger.arrange(project, change, lease)
        wanted = {p: t for p, t in (files_of(folder) | texts).items() if t is not None}
        carry_out(ws.ledger, folder, change_to(folder, wanted))
    return Merged(branch, taken, left, tuple(sorted(texts)), tuple(aliases), commits, decision)


def _moved(
    ledger: Ledger,
    compared: Comparison,
    taken: Mapping[Slot, int | None],
    refs: Mapping[tuple[str, str], TableRef],
) -> dict[int, dict[str, Any]]:
    """Return where versions are kept that came from tables of the branch: main's own now."""
    found = {}
    for version_id in taken.values():
        if version_id is None:
            continue
        location = dict(compared.versions[version_id].location)
        tables = dict(location.get("tables", {}))
        for name, told in tables.items():
            ref = refs[f"{compared.branch.project}/{name}", str(told["value"])]
            if told["table"] != ref.table:
                tables[name] = ref.to_json()
        if tables:
            found[version_id] = {**location, "tables": tables}
    return found


def unified(path: str, sides: Sides) -> str:
    """Return how a file of the branch differs from main's, as a unified diff."""
    main, branch = str(sides.main or ""), str(sides.branch or "")
    lines = difflib.unified_diff(
        main.splitlines(), branch.splitlines(), f"main/{path}", f"branch/{path}", lineterm="", n=2
    )
    return "\n".join(lines)

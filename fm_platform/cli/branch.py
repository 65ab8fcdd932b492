"""`fm branch create | list | diff | merge | delete`: universes beside main."""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fm_platform.display import plain
from fm_platform.errors import FMError

if TYPE_CHECKING:
    from fm_platform.lineage.records import ArtifactVersion
    from fm_platform.universe.branches import Use
    from fm_platform.universe.merge import Comparison, Merged, Sides

Name = Annotated[str, typer.Argument(help="Name of the branch.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

commands = typer.Typer(
    name="branch",
    no_args_is_help=True,
    help="Universes beside main: change functions, taxonomy, base or data, run, compare, merge.",
)


def add_to(app: typer.Typer) -> None:
    """Add these commands to `fm`."""
    app.add_typer(commands)


def look_at(name: str | None) -> None:
    """Let this process, and those it starts, look at a branch (None: as it is).

    Raises:
        HomeError: If no branch can be called so.
    """
    from fm_platform.home import BRANCH_VARIABLE, MAIN, branch_name

    if name:
        os.environ[BRANCH_VARIABLE] = name if name == MAIN else branch_name(name)


@commands.command()
def create(
    name: Name,
    at: Annotated[
        str | None, typer.Option(help="Begin as it was: a day (its end, UTC) or a time.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Begin a branch from main, now or as it was; nothing is copied but the project files."""
    from fm_platform.lineage.refs import parse_time
    from fm_platform.universe.branches import DEFS, checkout_of
    from fm_platform.universe.branches import create as begin
    from fm_platform.workspace import Workspace, project_root, run_context

    ws = Workspace.open()
    when = None if at is None else parse_time(at)
    begun = begin(ws, project_root(), name, run_context("person"), when)
    folder = checkout_of(ws, name) / DEFS
    if as_json:
        answer = {
            "branch": name, "at": begun[0].at.isoformat(), "projects": [b.project for b in begun],
            "folder": str(folder),
        }  # fmt: skip
        typer.echo(json.dumps(answer, indent=1))
        return
    typer.echo(f"branch {name} begins at {begun[0].at:%Y-%m-%d %H:%M:%S %Z}")
    for branch in begun:
        typer.echo(f"  edit  {folder / branch.project}")
        typer.echo(f"  then  fm run {branch.project} --branch {name}")


@commands.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the branches: since when, what they share with main, and the bytes they alone use."""
    from fm_platform.universe.branches import uses
    from fm_platform.workspace import Workspace

    found = uses(Workspace.to_read())
    if as_json:
        typer.echo(json.dumps([_use_json(use) for use in found], indent=1))
        return
    if not found:
        typer.echo("no branch yet: fm branch create NAME")
    for use in found:
        typer.echo(_use_line(use))


@commands.command("diff")
def diff(name: Name, as_json: AsJson = False) -> None:
    """Tell what differs between a branch and main: files, artifacts, aliases, results."""
    from fm_platform.universe.merge import compare
    from fm_platform.workspace import Workspace

    ws = Workspace.to_read()
    found = [compare(ws, _main_root(), branch) for branch in _branches(ws, name)]
    if as_json:
        typer.echo(json.dumps([_diff_json(c) for c in found], indent=1))
    else:
        typer.echo("\n\n".join(_diff_text(c) for c in found))


@commands.command()
def merge(
    name: Name,
    prefer: Annotated[
        str | None, typer.Option(help="Whose word counts in conflicts: main or branch.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring what a branch changed to main; refused with the reasons where both decided."""
    from fm_platform.universe.merge import merge as bring
    from fm_platform.workspace import Workspace, project_root, run_context

    if prefer not in (None, "main", "branch"):
        raise FMError("--prefer is main or branch", found=plain(prefer, 40))
    done = bring(Workspace.open(), project_root(), name, run_context("person"), prefer)  # type: ignore[arg-type]
    if as_json:
        typer.echo(json.dumps([_merged_json(m) for m in done], indent=1))
    else:
        typer.echo("\n".join(line for m in done for line in _merged_lines(m)))


@commands.command()
def delete(name: Name, as_json: AsJson = False) -> None:
    """End a branch: its folder goes, its history stays, `fm gc` frees what it alone used."""
    from fm_platform.universe.branches import delete as end
    from fm_platform.universe.branches import uses
    from fm_platform.workspace import Workspace

    ws = Workspace.open()
    freed = sum(use.total_bytes for use in uses(ws) if use.branch.name == name)
    end(ws, name)
    if as_json:
        typer.echo(json.dumps({"branch": name, "deleted": True, "bytes": freed}))
    else:
        typer.echo(f"branch {name} is gone; fm gc --apply frees what it alone used")


def _branches(ws: Any, name: str) -> list[Any]:
    found = ws.ledger.branches(name)
    if not found:
        known = ", ".join(sorted({branch.name for branch in ws.ledger.branches()}))
        raise FMError(
            f"there is no branch {plain(name, 60)!r}", expected=known or None,
            next_step=None if known else "fm branch create NAME",
        )  # fmt: skip
    return list(found)


def _main_root() -> Any:
    from fm_platform.home import BRANCH_VARIABLE
    from fm_platform.workspace import project_root

    os.environ.pop(BRANCH_VARIABLE, None)  # both sides are looked at; main's files are main's
    return project_root()


def _use_json(use: Use) -> dict[str, Any]:
    branch = use.branch
    return {
        "branch": branch.name, "project": branch.project, "at": branch.at.isoformat(),
        "created_at": branch.created_at.isoformat(),
        "merged_at": branch.merged_at.isoformat() if branch.merged_at else None,
        "own": use.own, "shared": use.shared, "bytes": dict(use.bytes),
        "total_bytes": use.total_bytes, "uncounted": use.uncounted or None,
    }  # fmt: skip


def _use_line(use: Use) -> str:
    branch = use.branch
    merged = f", merged {branch.merged_at:%Y-%m-%d %H:%M}" if branch.merged_at else ""
    more = f" (without models: {use.uncounted})" if use.uncounted else ""
    return plain(
        f"{branch.name}  {branch.project}  from {branch.at:%Y-%m-%d %H:%M:%S %Z}{merged}: "
        f"{use.own} artifacts of its own, {use.shared} shared with main, "
        f"{_size(use.total_bytes)}{more}",
        400,
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def _diff_json(compared: Comparison) -> dict[str, Any]:
    def version(version_id: int | None) -> dict[str, Any] | None:
        if version_id is None:
            return None
        return {"id": version_id, "content_hash": compared.versions[version_id].content_hash}

    return {
        "branch": compared.branch.name, "project": compared.branch.project,
        "conflicts": compared.conflicts(),
        "files": {
            path: {"changed_on": sides.changed_on, "main": sides.main, "branch": sides.branch}
            for path, sides in compared.files.items()
        },
        "artifacts": [
            {
                "kind": kind, "name": name, "partition": day, "changed_on": sides.changed_on,
                "main": version(sides.main), "branch": version(sides.branch),
            }
            for (kind, name, day), sides in compared.slots.items()
        ],
        "aliases": {
            alias: {
                "changed_on": sides.changed_on, "main": version(sides.main),
                "branch": version(sides.branch),
            }
            for alias, sides in compared.aliases.items()
        },
        "results": _results(compared),
    }  # fmt: skip


def _diff_text(compared: Comparison) -> str:
    from fm_platform.universe.merge import unified

    branch = compared.branch
    lines = [plain(f"{branch.project}: branch {branch.name} beside main")]
    for path, sides in compared.files.items():
        lines.append(plain(f"file {path}: changed on {sides.changed_on}", 300))
        lines += [f"  {plain(line, 200)}" for line in unified(path, sides).splitlines()[2:]]
    counted = Counter((slot[0], sides.changed_on) for slot, sides in compared.slots.items())
    lines += [f"{n:5} {kind}: changed on {side}" for (kind, side), n in sorted(counted.items())]
    lines += [_pair(compared, slot, s) for slot, s in compared.slots.items() if slot[2] is None]
    lines += [
        f"alias {plain(a, 64)}: changed on {s.changed_on}" for a, s in compared.aliases.items()
    ]
    for row in _results(compared):
        lines.append(
            plain(f"F1 of {row['system']} on {row['source']}: "
                  f"main {row['main']:.3f}, branch {row['branch']:.3f}")
        )  # fmt: skip
    lines += [f"conflict: {plain(reason, 300)}" for reason in compared.conflicts()]
    if len(lines) == 1:
        lines.append("  no difference")
    return "\n".join(lines)


def _pair(compared: Comparison, slot: Any, sides: Sides) -> str:
    def short(version_id: int | None) -> str:
        if version_id is None:
            return "-"
        return compared.versions[version_id].content_hash[:12]

    from fm_platform.lineage.records import slot_name

    more = f"  (fm diff '#{sides.main}' '#{sides.branch}')" if sides.main and sides.branch else ""
    return plain(f"{slot_name(slot)}: {short(sides.main)} -> {short(sides.branch)}") + more


def _results(compared: Comparison) -> list[dict[str, Any]]:
    """Return the F1 of the merged model on each source, on main and on the branch."""
    sides = compared.slots.get(("evaluation", "evaluation", None))
    if sides is None or sides.main is None or sides.branch is None:
        return []
    main, branch = (_scores(compared.versions[i]) for i in (sides.main, sides.branch))
    return [
        {"system": key[0], "source": key[1], "main": main[key], "branch": branch[key]}
        for key in main
        if key in branch and key[0] == "merged_model"
    ]


def _scores(version: ArtifactVersion) -> dict[tuple[str, str], float]:
    rows = version.metrics.get("evaluation", {}).get("rows", [])
    return {(row["system"], row["source"]): float(row["f1_weighted"]["value"]) for row in rows}


def _merged_json(merged: Merged) -> dict[str, Any]:
    return {
        "branch": merged.branch.name, "project": merged.branch.project,
        "decision": merged.decision,
        "taken": [
            {"kind": kind, "name": name, "partition": day, "version": version}
            for (kind, name, day), version in merged.taken.items()
        ],
        "left": [{"kind": kind, "name": name, "partition": day} for kind, name, day in merged.left],
        "files": list(merged.files), "aliases": list(merged.aliases),
        "commits": dict(merged.commits),
    }  # fmt: skip


def _merged_lines(merged: Merged) -> list[str]:
    project, name = merged.branch.project, merged.branch.name
    if merged.decision is None:
        lines = [f"{project}: main has all of {name} already"]
    else:
        lines = [f"{project}: {name} is merged"]
        counted = Counter(slot[0] for slot in merged.taken)
        lines += [f"{n:5} {kind}: the branch's version in use" for kind, n in counted.items()]
        lines += [f"  file {plain(path, 200)}: the branch's" for path in merged.files]
        lines += [f"  alias {plain(alias, 64)}: moved" for alias in merged.aliases]
    if merged.left:
        lines.append(f"{len(merged.left):5} artifacts both had built: the next run makes them")
    return [*lines, f"next: fm run {project}"]

"""`fm rollback`: a project as it was at a moment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fm_platform.display import plain

if TYPE_CHECKING:
    from fm_platform.lineage.status import StatusRow
    from fm_platform.universe.rollback import Plan, RolledBack
    from fm_platform.workspace import Workspace

Project = Annotated[str, typer.Argument(help="Name of a project.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_SHOWN = 8


def add_to(app: typer.Typer) -> None:
    """Add these commands to `fm`."""
    app.command()(rollback)


def rollback(
    project: Project,
    to: Annotated[str, typer.Option("--to", help="A day (its end, UTC) or a time.")],
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    keep_files: Annotated[
        bool, typer.Option("--keep-files", help="Leave the project's files as they are.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would change.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring tables, models, aliases, taxonomy, spec and functions of a moment back together.

    History is never rewritten: what was in use then is in use again, every table gets a new
    version, and the time before the rollback is itself a moment to go back to.
    """
    from fm_platform.lineage.refs import parse_time
    from fm_platform.universe.rollback import make_plan
    from fm_platform.universe.rollback import rollback as roll_back
    from fm_platform.workspace import Workspace, project_root, run_context

    ws, when = Workspace.to_read() if dry_run else Workspace.open(), parse_time(to)
    folder = project_root() / "assets" / "defs" / _checked(ws, project)
    if dry_run:
        plan = make_plan(ws, project, folder, when, keep_files=keep_files)
        answer = {"applied": False, **_plan_json(ws, plan)}
        typer.echo(json.dumps(answer, indent=1) if as_json else _plan_text(ws, plan))
        return
    done = roll_back(
        ws, project, folder, when, run_context("person"), reason=reason, keep_files=keep_files,
        say=lambda line: typer.echo(plain(line, 400), err=True),
    )  # fmt: skip
    answer = {"applied": True, **_done_json(ws, done)}
    typer.echo(json.dumps(answer, indent=1) if as_json else _done_text(ws, done))


def _checked(ws: Workspace, project: str) -> str:
    from fm_platform.errors import FMError
    from fm_platform.lineage.refs import projects

    known = projects(ws.ledger)
    if project not in known:  # also keeps the name from becoming a path elsewhere
        raise FMError(
            f"the ledger holds no version of {plain(project, 64)!r}",
            expected=", ".join(known) or None,
            next_step="fm projects lists what is declared, fm run builds it",
        )
    return project


def _plan_json(ws: Workspace, plan: Plan) -> dict[str, Any]:
    aliases = {name: target.version_id for name, target in plan.aliases.items()}
    versions = {v.id: v for v in ws.ledger.get_many([i for i in aliases.values() if i is not None])}
    files = plan.files
    return {
        "project": plan.project,
        "to": plan.to.isoformat(),
        "restored": [
            {"kind": kind, "name": name, "partition": day, "version": version_id}
            for (kind, name, day), version_id in sorted(plan.uses.items(), key=_order)
            if version_id is not None
        ],
        "retired": [
            {"kind": kind, "name": name, "partition": day}
            for (kind, name, day), version_id in sorted(plan.uses.items(), key=_order)
            if version_id is None
        ],
        "aliases": {
            name: versions[i].content_hash if i is not None else None for name, i in aliases.items()
        },
        "files": {
            "written": sorted(files.write) if files else [],
            "removed": list(files.remove) if files else [],
        },
        "bytes_gone": [version.id for version in plan.gone],
        "built_first": [version.id for version in plan.first],
    }


def _done_json(ws: Workspace, done: RolledBack) -> dict[str, Any]:
    return {
        **_plan_json(ws, done.plan),
        "decision": done.decision,
        "commits": dict(done.commits),
        "before": done.before.isoformat(),
        "next_run_unknown": done.unknown or None,
        "next_run": [
            {"kind": r.kind, "name": r.name, "partition": r.partition, "why": r.why}
            for r in done.stale
        ],
    }


def _order(item: Any) -> tuple[str, ...]:
    return tuple(str(part or "") for part in item[0])


def _plan_text(ws: Workspace, plan: Plan) -> str:
    if not plan:
        return f"{plan.project} is as it was at {plan.to:%Y-%m-%d %H:%M:%S %Z}: nothing to change"
    return "\n".join(["would change:", *_changes(ws, plan)])


def _changes(ws: Workspace, plan: Plan) -> list[str]:
    from collections import Counter

    restored = Counter(slot[0] for slot, version in plan.uses.items() if version is not None)
    retired = Counter(slot[0] for slot, version in plan.uses.items() if version is None)
    lines = [
        f"  {count:5} {kind}: earlier version in use again" for kind, count in restored.items()
    ]
    lines += [
        f"  {count:5} {kind}: not built then, no longer in use" for kind, count in retired.items()
    ]
    for alias, target in plan.aliases.items():
        named = "nothing" if target.version_id is None else _named(ws, target.version_id)
        lines.append(f"  alias {plain(alias, 64)}: names {named}")
    if plan.files:
        lines += [f"  file {plain(name, 200)}: as it was then" for name in sorted(plan.files.write)]
        lines += [f"  file {plain(name, 200)}: removed" for name in plan.files.remove]
    lines += [
        f"  {_named(ws, model.id)} was removed by fm gc: it is built again first"
        for model in plan.first
    ]
    if plan.gone:
        lines.append(
            f"  {len(plan.gone)} of them have no bytes any more; the next run makes them again"
        )
    return lines


def _named(ws: Workspace, version_id: int) -> str:
    from fm_platform.lineage.refs import version_name

    version = ws.ledger.get(version_id)
    return plain(f"{version_name(version)} {version.content_hash[:12]}")


def _done_text(ws: Workspace, done: RolledBack) -> str:
    plan = done.plan
    when = f"{plan.to:%Y-%m-%d %H:%M:%S %Z}"
    if done.decision is None:
        lines = [f"{plan.project} is as it was at {when}: nothing to change"]
    else:
        lines = [f"{plan.project} is back at {when}", *_changes(ws, plan)]
        if done.commits:
            lines.append(f"  {len(done.commits)} tables: one new Delta version each")
        lines.append(f"to undo it: fm rollback {plan.project} --to {done.before.isoformat()}")
    lines += _next_run(done)
    return "\n".join(lines)


def _next_run(done: RolledBack) -> list[str]:
    last = max((day for _, _, day in done.plan.target if day), default=None)
    day = f" --to {last}" if last else ""
    command = f"fm run {done.plan.project}{day}"
    if done.unknown:
        return [f"what {command} would do cannot be told: {plain(done.unknown, 400)}"]
    if not done.stale:
        return [f"{command} would reuse all of it; without --to it goes on with the days after"]
    lines = [f"{command} would build {len(done.stale)} artifacts anew, for what is not in history:"]
    lines += [f"  {_row(row)}" for row in done.stale[:_SHOWN]]
    if len(done.stale) > _SHOWN:
        lines.append(f"  ... and {len(done.stale) - _SHOWN} more")
    return lines


def _row(row: StatusRow) -> str:
    from fm_platform.lineage.records import slot_name

    return plain(f"{slot_name((row.kind, row.name, row.partition))}: {row.why}", 300)

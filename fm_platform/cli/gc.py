"""`fm gc`, `fm pin`, `fm unpin`, `fm pins`: what stays, and what may go."""

from __future__ import annotations

import getpass
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fm_platform.cli import render
from fm_platform.cli.history import AsJson, InProject, Reference
from fm_platform.display import plain

if TYPE_CHECKING:
    from fm_platform.lineage.records import ArtifactVersion
    from fm_platform.lineage.retention import RemovedBytes
    from fm_platform.upkeep.gc import Collected
    from fm_platform.upkeep.plan import Plan
    from fm_platform.workspace import Workspace


def add_to(app: typer.Typer) -> None:
    """Add these commands to `fm`."""
    for command in (gc, pin, unpin, pins):
        app.command()(command)


def gc(
    apply: Annotated[bool, typer.Option("--apply", help="Remove; without it only tell.")] = False,
    days: Annotated[
        float, typer.Option(min=0, help="Keep also all that was in use in so many last days.")
    ] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Tell, or with --apply remove, the bytes that nothing alive is made from.

    Kept are: what an alias names, what is pinned, what a branch uses, what is in use within the
    recorded windows, all source rows in use, and everything those were made from but caches. The
    record of a removed version stays; running its recipe again gives the same bytes back.
    """
    from fm_platform.home import Home
    from fm_platform.upkeep.gc import collect
    from fm_platform.upkeep.plan import make_plan
    from fm_platform.workspace import Workspace

    since = datetime.now(timezone.utc) - timedelta(days=days) if days else None
    if not apply:
        plan = make_plan(Workspace.to_read(), in_use_since=since)
        answer = _plan_json(plan) | {"applied": False}
        typer.echo(json.dumps(answer, indent=1) if as_json else _plan_text(plan))
        return
    done = collect(Workspace(Home.from_environment()), actor=getpass.getuser(), in_use_since=since)
    answer = _plan_json(done.plan) | {
        "applied": True, "freed": done.freed, "waiting": list(done.waiting),
    }  # fmt: skip
    typer.echo(json.dumps(answer, indent=1) if as_json else _done_text(done))


def pin(
    ref: Reference,
    reason: Annotated[str, typer.Option(help="Why, in a few words.")] = "",
    project: InProject = None,
) -> None:
    """Keep a version, and all that it is made from, whatever `fm gc` would remove."""
    from fm_platform.lineage.refs import version_name

    ws, version = _resolved(ref, project)
    new = ws.ledger.pin(version.id, reason=reason, actor=getpass.getuser())
    name = plain(f"{version_name(version)}  {version.content_hash[:12]}")
    typer.echo(f"pinned {name}" if new else f"{name} is pinned already")
    gone = ws.ledger.removal(version.id)
    if gone is not None:
        typer.echo(_gone_text(gone))


def unpin(ref: Reference, project: InProject = None) -> None:
    """End a pin; the version stays until `fm gc --apply` finds nothing else that needs it."""
    from fm_platform.lineage.refs import version_name

    ws, version = _resolved(ref, project)
    was = ws.ledger.unpin(version.id, actor=getpass.getuser())
    name = plain(f"{version_name(version)}  {version.content_hash[:12]}")
    typer.echo(f"unpinned {name}" if was else f"{name} is not pinned")


def pins(
    every: Annotated[bool, typer.Option("--all", help="Also those that ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """List what is pinned, since when, by whom and why."""
    from fm_platform.lineage.refs import version_name
    from fm_platform.workspace import Workspace

    ws = Workspace.to_read()
    held = ws.ledger.pins(history=every)
    versions = {v.id: v for v in ws.ledger.get_many([p.version_id for p in held])}
    rows = [
        {
            "project": versions[p.version_id].project,
            "version": version_name(versions[p.version_id]),
            "content_hash": versions[p.version_id].content_hash,
            **render.plain(p),
        }
        for p in held
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
    elif not rows:
        typer.echo("nothing is pinned: fm pin REF keeps a version")
    else:
        head = ("project", "version", "content", "since", "by", "reason")
        cells = [
            (r["project"], r["version"], r["content_hash"][:12], r["pinned_at"][:16], r["actor"],
             r["reason"] + (f" (until {r['unpinned_at'][:16]})" if r["unpinned_at"] else ""))
            for r in rows
        ]  # fmt: skip
        typer.echo(render.table(cells, head))


def _resolved(ref: str, project: str | None) -> tuple[Workspace, ArtifactVersion]:
    from fm_platform.lineage.refs import resolve
    from fm_platform.stages.trace import row_finder
    from fm_platform.workspace import Workspace

    ws = Workspace.open()
    return ws, resolve(ws.ledger, project, ref, find_row=row_finder(ws))


def _gone_text(gone: RemovedBytes) -> str:
    return (
        f"its bytes were removed on {gone.removed_at:%Y-%m-%d %H:%M} UTC by {plain(gone.actor)}: "
        "a run of its recipe makes them again"
    )


def _plan_json(plan: Plan) -> dict[str, Any]:
    return {
        "kept": dict(plan.kept),
        "remove": [
            {
                "id": v.id, "project": v.project, "kind": v.kind, "name": v.name,
                "partition": v.partition, "number": v.number, "content_hash": v.content_hash,
                "created_at": v.created_at.isoformat(),
            }
            for v in plan.remove
        ],
        "bytes": dict(plan.bytes),
        "total_bytes": plan.total_bytes,
        "mlflow_models": sum(v.kind == "merged_model" for v in plan.forget),
        "mlflow_evaluations": sum(v.kind == "evaluation" for v in plan.forget),
        "missing": [v.content_hash for v in plan.missing],
        "blocked": plan.blocked,
        "known_afterwards": _known_afterwards(plan),
    }  # fmt: skip


def _plan_text(plan: Plan) -> str:
    lines = [_kept_text(plan)]
    if plan.remove or plan.total_bytes or plan.forget:
        lines += [_versions_text(plan.remove), _bytes_text(plan.bytes, "would free")]
        lines += ["nothing was removed: fm gc --apply does it"]
    else:
        lines.append("nothing to remove")
    if plan.kept or plan.remove:
        unknown = ", ".join(_known_afterwards(plan))
        lines.append(f"known only afterwards: what comes of {unknown}")
    return "\n".join([line for line in lines if line] + _notes(plan))


def _known_afterwards(plan: Plan) -> list[str]:
    """Return what frees bytes, too, and cannot be counted before it is done."""
    copies = [f"MLflow's files of {len(plan.forget)} models and evaluations"] if plan.forget else []
    old = [f"packing {len(plan.to_pack)} models of an older layout"] if plan.to_pack else []
    return [*copies, *old, "compressing history and databases"]


def _done_text(done: Collected) -> str:
    lines = [_kept_text(done.plan), _versions_text(done.plan.remove)]
    lines.append(_bytes_text(done.freed, "freed"))
    lines += [f"not done yet: {plain(text)}" for text in done.waiting]
    return "\n".join([line for line in lines if line] + _notes(done.plan))


def _kept_text(plan: Plan) -> str:
    total = sum(plan.kept.values())
    rows = [(count, reason) for reason, count in plan.kept.items()]
    if not rows:
        return "the ledger holds no version"
    return f"kept: {total} versions\n" + render.table(rows, ("versions", "why"))


def _versions_text(remove: Iterable[ArtifactVersion]) -> str:
    count = Counter((v.project, v.kind) for v in remove)
    if not count:
        return ""
    rows = [(number, project, kind) for (project, kind), number in sorted(count.items())]
    head = f"removed: {sum(count.values())} versions that nothing kept is made from"
    return head + "\n" + render.table(rows, ("versions", "project", "kind"))


def _bytes_text(sizes: Mapping[str, int], verb: str) -> str:
    parts = ", ".join(f"{name} {_size(size)}" for name, size in sizes.items() if size)
    return f"{verb} {_size(sum(sizes.values()))}" + (f": {parts}" if parts else "")


def _notes(plan: Plan) -> list[str]:
    notes = []
    if plan.missing:
        names = ", ".join(sorted({v.name for v in plan.missing})[:8])
        notes.append(
            f"{len(plan.missing)} kept versions were removed earlier ({plain(names)}): "
            "a run of their recipes makes them again"
        )
    if plan.blocked:
        notes.append(plain(plan.blocked))
    return notes


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")

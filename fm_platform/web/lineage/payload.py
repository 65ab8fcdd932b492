"""What travels to the page: a graph as columns of numbers, a record with what is around it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from fm_platform.lineage.graph import Graph
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.nodes import Node
from fm_platform.lineage.records import AliasChange, ArtifactVersion, Slot
from fm_platform.lineage.refs import version_name
from fm_platform.lineage.view import record_of
from fm_platform.stages.alert_story import alerts_of_version
from fm_platform.stages.diff.causes import stage
from fm_platform.web.lineage.inert import inert

STATES = ("fresh", "stale", "unbuilt", "replaced")
_DIGITS = 16
_POINTS = 400


def stage_order(kind: str) -> tuple[int, str]:
    """Return where a kind stands in the chain; unknown kinds come last, by name."""
    return (stage(kind), kind)


def graph_json(graph: Graph, taken: Mapping[int, Sequence[str]]) -> dict[str, Any]:
    """Return a graph as columns; texts that come again are numbers into a list.

    `edges` are pairs of places in the columns: of the version read, of what was made from it.
    Ten thousand nodes and their edges take about a megabyte so.

    Args:
        graph: Of a moment.
        taken: The last decision about a version, as `decided` gives it.
    """
    nodes = graph.nodes
    kinds = sorted({node.kind for node in nodes}, key=stage_order)
    names = sorted({node.name for node in nodes})
    days = sorted({node.partition for node in nodes if node.partition is not None})
    whys = sorted({node.why for node in nodes if node.why})
    place = {node.id: number for number, node in enumerate(nodes)}
    edges = [edge for edge in graph.edges if edge[0] in place and edge[1] in place]
    kind_at, name_at, day_at, why_at = (
        {text: number for number, text in enumerate(texts)} for texts in (kinds, names, days, whys)
    )
    return {
        "project": graph.project,
        "at": graph.at.isoformat() if graph.at else None,
        "kinds": inert(kinds),
        "names": inert(names),
        "days": inert(days),
        "whys": inert(whys),
        "id": [node.id for node in nodes],
        "kind": [kind_at[node.kind] for node in nodes],
        "name": [name_at[node.name] for node in nodes],
        "day": [-1 if node.partition is None else day_at[node.partition] for node in nodes],
        "number": [node.number for node in nodes],
        "rows": [node.rows for node in nodes],
        "made": [_milliseconds(node.created_at) for node in nodes],
        "state": [STATES.index(node.state) for node in nodes],
        "why": [why_at.get(node.why, -1) for node in nodes],
        "hash": [node.content_hash[:_DIGITS] for node in nodes],
        "aliases": inert({str(node.id): node.aliases for node in nodes if node.aliases}),
        "decided": inert({str(node.id): taken[node.id] for node in nodes if node.id in taken}),
        "edges": [place[end] for edge in edges for end in edge],
    }


def decided(ledger: Ledger, project: str, at: datetime | None) -> dict[int, tuple[str, str]]:
    """Return version -> kind and reason of the last decision about it, up to a moment."""
    return {
        taken["version_id"]: (taken["kind"], taken["reason"])
        for taken in ledger.decisions(project, at=at)
        if taken["version_id"] is not None
    }


def with_named(ledger: Ledger, graph: Graph) -> Graph:
    """Return the graph together with the versions that an alias names and that are not in use.

    A champion stays the champion while newer versions are in use: it is seen beside them, with
    the models it was made from. What has equal content by now stands for what it read.
    """
    named = ledger.aliases(graph.project, at=graph.at)
    nodes, reads = list(graph.nodes), dict(graph.made_from)
    known = set(graph.by_id)
    todo = sorted(set(named.values()) - known)
    while todo:
        past = ledger.get_many(todo)
        known.update(todo)
        origins = _origins(ledger, past)
        further: set[int] = set()
        for version in past:
            aliases = tuple(sorted(alias for alias, i in named.items() if i == version.id))
            nodes.append(_out_of_use(version)._replace(aliases=aliases))
            read: dict[int, None] = {}
            for origin in {i.version_id: origins[i.version_id] for i in version.inputs
                           if i.version_id in origins}.values():  # fmt: skip
                head = graph.by_slot.get(origin.slot)
                if head is not None and head.content_hash == origin.content_hash:
                    read[head.id] = None
                elif origin.partition is None or origin.id in known:
                    read[origin.id] = None
                    further.add(origin.id)
            reads[version.id] = list(read)
        todo = sorted(further - known)
    return replace(graph, nodes=tuple(nodes), made_from=reads)


def _origins(ledger: Ledger, versions: Iterable[ArtifactVersion]) -> dict[int, ArtifactVersion]:
    ids = {i.version_id for v in versions for i in v.inputs if i.version_id is not None}
    return {found.id: found for found in ledger.get_many(sorted(ids), with_inputs=False)}


def record_json(
    ledger: Ledger, version: ArtifactVersion, at: datetime | None, node: Node | None
) -> dict[str, Any]:
    """Return the record of a version, the path of causes, its other versions and its numbers.

    Args:
        ledger: The record of everything.
        version: Which one, with its inputs.
        at: The moment that the page shows.
        node: Its node in the graph of that moment; None where it was not in use.
    """
    listed = ledger.versions(version.project, *_words(version.slot))
    told = record_of(ledger, version, at, node=node or _out_of_use(version))
    if at is not None and version.created_at > at:
        told |= {"state": "later", "why": "it was not made yet at this moment"}
    told["path"] = [
        {"id": step.id, "reference": version_name(step)}
        for step in (ledger.get(i) for i in (node.path if node else ()))
    ]
    told["versions"] = [
        {
            "id": other.id, "number": other.number, "reference": version_name(other),
            "created_at": other.created_at.isoformat(), "content_hash": other.content_hash,
            "rows": other.rows,
        }
        for other in listed
        if (other.partition or None) == version.partition
    ]  # fmt: skip
    told["moves"] = [
        {
            "alias": move.alias, "set_at": move.set_at.isoformat(), "actor": move.actor,
            "reason": move.reason, "here": move.version_id == version.id,
        }
        for move in _moves(ledger, version, at)
    ]  # fmt: skip
    told["alerts"] = alerts_of_version(ledger, version)
    told["series"] = series(ledger, version, listed, at)
    return told


def _moves(ledger: Ledger, version: ArtifactVersion, at: datetime | None) -> list[AliasChange]:
    """Return the moves of aliases to a version and away from it, oldest first."""
    found = []
    for alias in ledger.alias_names(version.project):
        before: int | None = None
        for move in ledger.alias_history(version.project, alias, at=at):
            if version.id in (before, move.version_id):
                found.append(move)
            before = move.version_id
    return sorted(found, key=lambda move: move.set_at)


def series(
    ledger: Ledger, version: ArtifactVersion, listed: Iterable[ArtifactVersion],
    at: datetime | None,
) -> dict[str, Any]:  # fmt: skip
    """Return numbers over time: of the days of a daily artifact, of the versions of another.

    Args:
        ledger: The record of everything.
        version: Whose.
        listed: All versions of its slot (without days) or nothing of use (with days).
        at: The moment that is looked at.

    Returns:
        `over` (`days` or `versions`), `points` (id, label, values) and the names of `numbers`.
    """
    if version.partition is None:
        points = [v for v in listed if at is None or v.created_at <= at or v.id == version.id]
        over = "versions"
    else:
        used = ledger.all_latest(version.project, version.kind, at=at)
        points = [v for v in used if v.name == version.name and v.id != version.id]
        points = [v for v in points if v.partition != version.partition] + [version]
        points.sort(key=lambda v: v.partition or "")
        over = "days"
    points = points[-_POINTS:]
    measured = _evaluated(ledger, version, points, at)
    values = [measured.get(v.id, {}) | _numbers(v) for v in points]
    told = [
        {"id": v.id, "label": v.partition or f"#{v.number}", "values": own}
        for v, own in zip(points, values, strict=True)
    ]
    names = {name for own in values for name in own}
    return {"over": over, "points": told, "numbers": sorted(names, key=_number_order)}


def _evaluated(
    ledger: Ledger, version: ArtifactVersion, points: Sequence[ArtifactVersion],
    at: datetime | None,
) -> dict[int, dict[str, float]]:  # fmt: skip
    """Return merged model -> the numbers of its newest evaluation of the same universe."""
    if version.kind != "merged_model":
        return {}
    known = {v.content_hash: v.id for v in points}
    made = ledger.versions(version.project, "evaluation")
    listed = [v.id for v in made if at is None or v.created_at <= at]
    found: dict[int, dict[str, float]] = {}
    for evaluation in ledger.get_many(listed[-_POINTS:]):
        for item in evaluation.inputs:
            if item.content_hash in known and item.role == "merged_model":
                recorded = _recorded(evaluation)
                found[known[item.content_hash]] = recorded
    return found


def _recorded(version: ArtifactVersion) -> dict[str, float]:
    numbers: Mapping[str, object] = version.metrics.get("numbers") or {}
    return {
        str(name): value
        for name, value in numbers.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }


def _numbers(version: ArtifactVersion) -> dict[str, float]:
    found = _recorded(version)
    for name, size in (("rows", version.rows), ("bytes", version.bytes)):
        if size is not None:
            found.setdefault(name, size)
    found.setdefault("duration_s", version.duration_s)
    return found


def _number_order(name: str) -> tuple[int, str]:
    """Put what a person asks for first before what is only kept."""
    for place, word in enumerate(("merged_all/f1_weighted", "f1", "accuracy", "loss", "kept")):
        if word in name:
            return place, name
    return (20 if name == "bytes" else 19 if name == "duration_s" else 10), name


def _out_of_use(version: ArtifactVersion) -> Node:
    return Node(
        version.id, version.kind, version.name, version.partition, version.number,
        version.recipe_hash, version.content_hash, version.rows, version.bytes,
        version.created_at, "replaced", "another version is in use",
    )  # fmt: skip


def _words(slot: Slot) -> tuple[str, str, str]:
    kind, name, partition = slot
    return kind, name, partition or ""


def _milliseconds(at: datetime | None) -> int | None:
    return None if at is None else int(at.timestamp() * 1000)

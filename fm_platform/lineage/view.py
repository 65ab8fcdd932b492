"""The whole record of one version, as JSON values: what `fm show` prints and the page draws."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from fm_platform.lineage import schema
from fm_platform.lineage.graph import Node, graph_at
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion, Input
from fm_platform.lineage.refs import version_name

__all__ = ["record_of"]

_PLAIN = (
    "id", "project", "kind", "name", "partition", "number", "content_hash", "recipe_hash",
    "rows", "bytes", "duration_s", "asked_by", "dagster_run_id", "mlflow_run_id", "git_commit",
    "git_dirty", "seed",
)  # fmt: skip


def record_of(
    ledger: Ledger,
    version: ArtifactVersion,
    at: datetime | None = None,
    *,
    node: Node | None = None,
) -> dict[str, Any]:
    """Return everything that the ledger knows of a version.

    Args:
        ledger: The record.
        version: Which one, with its inputs.
        at: The moment whose state, aliases and readers are told; None: now.
        node: Its node in the graph of that moment, where it is known already.
    """
    if node is None:
        node = graph_at(ledger, version.project, at).by_id.get(version.id)
    environment = _document(ledger, version.environment)
    everything = _document(ledger, version.run_environment)
    uses = ledger.uses(version.project, *version.slot)
    aliases = ledger.aliases(version.project, at=at)
    gone = ledger.removal(version.id)
    return {
        "reference": version_name(version),
        **{name: getattr(version, name) for name in _PLAIN},
        "created_at": version.created_at.isoformat(),
        "state": node.state if node else "replaced",
        "why": node.why if node else "another version is in use",
        "aliases": sorted(alias for alias, i in aliases.items() if i == version.id),
        "pinned": version.id in {pin.version_id for pin in ledger.pins()},
        "removed_at": gone.removed_at.isoformat() if gone else None,
        "inputs": _inputs(ledger, version),
        "read_by": _readers(ledger, version.id, at),
        "config": dict(version.config),
        "code": {"fingerprint": version.code, "modules": _document(ledger, version.code)},
        "environment": {"fingerprint": version.environment, **environment},
        "built_with": {
            "fingerprint": version.run_environment,
            **{key: everything.get(key) for key in ("python", "platform", "machine", "lock")},
            "packages": everything.get("packages", {}),
        },
        "tables": {name: _table(ref) for name, ref in version.location.get("tables", {}).items()},
        "model": version.location.get("model"),
        "parts": dict(version.parts),
        "metrics": dict(version.metrics),
        "in_use": [
            {"since": use.since.isoformat(), "until": use.until.isoformat() if use.until else None}
            for use in uses
            if use.version_id == version.id
        ],
        "decisions": [
            {**decision, "decided_at": decision["decided_at"].isoformat()}
            for decision in ledger.decisions(version.project, at=at)
            if decision["version_id"] == version.id
        ],
    }


def _document(ledger: Ledger, hash_: str | None) -> dict[str, Any]:
    found = ledger.document(hash_) if hash_ else None
    return dict(found) if isinstance(found, Mapping) else {}


def _inputs(ledger: Ledger, version: ArtifactVersion) -> list[dict[str, Any]]:
    ids = [item.version_id for item in version.inputs if item.version_id is not None]
    known = {found.id: found for found in ledger.get_many(ids, with_inputs=False)}
    return [_input(item, known.get(item.version_id or 0)) for item in version.inputs]


def _input(item: Input, origin: ArtifactVersion | None) -> dict[str, Any]:
    told: dict[str, Any] = {
        "role": item.role,
        "name": item.name,
        "partition": item.partition,
        "part": item.part,
        "content_hash": item.content_hash,
        "version_id": item.version_id,
        "reference": version_name(origin) if origin else None,
    }
    if origin is not None and "tables" in origin.location:
        # a part named like a table is that table; otherwise rows come from the table of the name
        table = item.part if item.part in origin.location["tables"] else origin.name
        ref = origin.location["tables"].get(table)
        told["delta"] = _table(ref) if ref else None
    return told


def _table(ref: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "table": ref.get("table"),
        "version": ref.get("version"),
        "partition": f"{ref.get('column')}={ref.get('value')}",
        "rows": ref.get("rows"),
        "content_hash": ref.get("content_hash"),
        "files": [
            {"path": file.get("path"), "sha256": file.get("sha256"), "bytes": file.get("bytes")}
            for file in ref.get("files", ())
        ],
    }


def _readers(ledger: Ledger, version_id: int, at: datetime | None) -> list[dict[str, Any]]:
    i, v = schema.inputs.c, schema.versions.c
    query = (
        sa.select(i.version_id).distinct().where(i.from_version_id == version_id)
        .join(schema.versions, v.id == i.version_id)
    )  # fmt: skip
    if at is not None:
        query = query.where(v.created_at <= at)
    with ledger.reading() as connection:
        ids = sorted(connection.scalars(query))
    return [
        {
            "version_id": reader.id,
            "reference": version_name(reader),
            "content_hash": reader.content_hash,
        }
        for reader in ledger.get_many(ids, with_inputs=False)
    ]

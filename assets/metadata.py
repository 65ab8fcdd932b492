"""From a stage result to what Dagster shows of an artifact.

Data is shown as text, numbers and tables only: Dagster's markdown loads remote images and its
links run any scheme, so neither ever holds a value that came out of a row.
"""

from __future__ import annotations

import base64
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dagster as dg

from assets.columns import column_lineage, column_schema
from fm_platform.hashing import fingerprint
from fm_platform.home import Home
from fm_platform.spec import ProjectSpec

if TYPE_CHECKING:
    from fm_platform.stages.common import StageResult

LINK_SCHEMES = ("http", "https")
_MAX_ROWS = 50
_MAX_CELL_CHARS = 300
_MAX_PLOT_BYTES = 500_000
_Results = Mapping[str | None, "StageResult"]


def artifact_metadata(
    spec: ProjectSpec, stage: str, result: StageResult, home: Home
) -> dict[str, dg.MetadataValue]:
    """Return all metadata of one artifact: what it is, why it was built, and its numbers."""
    version = result.version
    shown: dict[str, dg.MetadataValue] = {}
    # the page keeps this order: what a person looks for first
    if result.plot_png and len(result.plot_png) <= _MAX_PLOT_BYTES:
        shown["plot"] = plot(result.plot_png)
    shown |= {title: table(rows) for title, rows in sorted(result.tables.items()) if rows}
    shown |= {title: link(address) for title, address in sorted(result.links.items())}
    shown["reused"] = dg.MetadataValue.bool(result.reused)
    shown["reason"] = dg.MetadataValue.text(result.reason)
    shown["content_hash"] = dg.MetadataValue.text(version.content_hash)
    shown["recipe_hash"] = dg.MetadataValue.text(version.recipe_hash)
    shown["version"] = dg.MetadataValue.int(version.number)
    shown |= {name: scalar(value) for name, value in sorted(result.metrics.items())}
    if version.rows is not None:
        key = "dagster/partition_row_count" if version.partition else "dagster/row_count"
        shown[key] = dg.MetadataValue.int(version.rows)
    if version.bytes is not None:
        shown["dagster/size_bytes"] = dg.MetadataValue.int(version.bytes)
    return shown | _place(stage, version.location, home) | _columns(spec, stage)


def _place(stage: str, location: Mapping[str, Any], home: Home) -> dict[str, dg.MetadataValue]:
    tables = location.get("tables") or {}
    if ref := tables.get(stage) or next(iter(tables.values()), None):
        name = str(ref.get("table", stage))
        root = os.environ.get("FM_LAKE_URL", home.lake.as_uri()).rstrip("/")
        return {
            "dagster/table_name": dg.MetadataValue.text(name),
            "dagster/uri": dg.MetadataValue.text(f"{root}/{name}"),
        }
    if model := location.get("model"):
        folder = home.models / str(model)[:2] / str(model)
        return {"dagster/uri": dg.MetadataValue.text(folder.as_uri())}
    return {}


def _columns(spec: ProjectSpec, stage: str) -> dict[str, dg.MetadataValue]:
    shown: dict[str, dg.MetadataValue] = {}
    if schema := column_schema(spec, stage):
        shown["dagster/column_schema"] = dg.MetadataValue.table_schema(schema)
    if lineage := column_lineage(spec, stage):
        shown["dagster/column_lineage"] = dg.MetadataValue.column_lineage(lineage)
    return shown


def scalar(value: object) -> dg.MetadataValue:
    """Return a number as a number and anything else as text."""
    if isinstance(value, bool):
        return dg.MetadataValue.bool(value)
    if isinstance(value, int):
        return dg.MetadataValue.int(value)
    if isinstance(value, float) and math.isfinite(value):
        return dg.MetadataValue.float(value)
    return dg.MetadataValue.text(_cut(value))


def table(rows: Sequence[Mapping[str, Any]]) -> dg.MetadataValue:
    """Return a small table; the columns are all keys in order of first appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    records = [
        dg.TableRecord({name: _cell(row.get(name)) for name in names}) for row in rows[:_MAX_ROWS]
    ]
    columns = [
        dg.TableColumn(name, _type([record.data[name] for record in records])) for name in names
    ]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns=columns))


def _cell(value: object) -> str | int | float | bool | None:
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else str(value)
    return _cut(value)


def _cut(value: object) -> str:
    words = value if isinstance(value, str) else str(value)
    return words if len(words) <= _MAX_CELL_CHARS else words[: _MAX_CELL_CHARS - 1] + "…"


def _type(values: Sequence[object]) -> str:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return "bool"
    if kinds == {int}:
        return "int"
    return "float" if kinds and kinds <= {int, float} else "string"


def plot(png: bytes) -> dg.MetadataValue:
    """Return a picture of our own making as an inline image."""
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(png).decode()})")


def link(address: str) -> dg.MetadataValue:
    """Return a link for http and https, and plain text for every other scheme."""
    if urlsplit(address).scheme.lower() in LINK_SCHEMES:
        return dg.MetadataValue.url(address)
    return dg.MetadataValue.text(address)


def run_metadata(results: _Results) -> dict[str, dg.MetadataValue]:
    """Return what one step did as a whole: how much it computed and how much it reused."""
    reused = sum(result.reused for result in results.values())
    return {
        "artifacts_built": dg.MetadataValue.int(len(results) - reused),
        "artifacts_reused": dg.MetadataValue.int(reused),
    }


def data_version(results: _Results) -> dg.DataVersion:
    """Return the content hash of one artifact, or a hash over those of a range of days.

    Dagster keeps one data version for all partitions of a range run; the exact one of each day
    is its `content_hash`.
    """
    hashes = {day: result.version.content_hash for day, result in results.items()}
    if len(hashes) == 1:
        return dg.DataVersion(next(iter(hashes.values())))
    return dg.DataVersion(fingerprint(hashes))

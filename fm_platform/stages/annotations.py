"""People's answers in the store: kept with their versions, read in the classes of today."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import FencedError, FMError
from fm_platform.hashing import sha256_hex
from fm_platform.labeling.annotations import ANNOTATIONS, ANNOTATOR, KEY, Record, joined, said
from fm_platform.lineage import ArtifactVersion, Input, Produced, Recipe, RunContext
from fm_platform.lineage.build import holder
from fm_platform.lineage.ledger import Lease, now
from fm_platform.sources.ingest import text_key
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.store.files import storage_errors
from fm_platform.workspace import Workspace

KIND = "annotations"
ORIGINS = ("production", "development")
_ALL_DAYS = ("0000-01-01", "9999-12-31")
_TRIES = 20
_TEXTS = ("text", "text_key", "row_id", "source", "label", "guideline_version", "interface_version")
_NOTHING = "\0"  # no label: None is "cannot say"

Rows = dict[tuple[Any, ...], Record]
"""Answers of one person on one day, by `KEY`."""


def save(ws: Workspace, spec: ProjectSpec, records: Sequence[Record], run: RunContext) -> int:
    """Keep answers; one on the same row under the same versions takes the place of the one before.

    Missing fields are filled in: versions of today, origin production, the time of now. An answer
    without a time that says what is kept anyway is not kept once more.

    Returns:
        How many answers are new or other than before.

    Raises:
        FMError: If an answer names no person, no row, or a class that never was; nothing is kept.
    """
    whole = [complete(spec, record, place) for place, record in enumerate(records, 1)]
    dated = [bool(record.get("answered_at")) for record in records]
    by_day: dict[str, Rows] = {}
    for record in whole:
        _put(by_day.setdefault(record["answered_at"][:10], {}), record)
    kept = _labels(ws, spec, {r["annotator"] for r, d in zip(whole, dated, strict=True) if not d})
    again = {
        id(record) for record, known in zip(whole, dated, strict=True)
        if not known and kept.get(_key(record), _NOTHING) == record["label"]
    }  # fmt: skip
    by_part: dict[tuple[str, str], list[Record]] = {}
    for day, rows in by_day.items():
        for record in rows.values():
            if id(record) not in again:
                by_part.setdefault((record["annotator"], day), []).append(record)
    return sum(
        edit_part(ws, spec, who, day, putting(by_part[who, day]), run)
        for who, day in sorted(by_part)
    )


def _key(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record[name] for name in KEY)


def _put(rows: Rows, record: Record) -> bool:
    """Put an answer among others, unless a newer one is there; return whether it is another."""
    before = rows.get(_key(record))
    if before is not None and before["answered_at"] > record["answered_at"]:
        return False
    rows[_key(record)] = record
    return before is None or before["label"] != record["label"]


def _labels(
    ws: Workspace, spec: ProjectSpec, annotators: Iterable[str]
) -> dict[tuple[Any, ...], str | None]:
    """Return the label of every answer that is kept of some people."""
    parts = [tables.read(ws, v, KIND) for who in annotators for v in parts_of(ws, spec, who)]
    return {_key(row): row["label"] for row in newest(parts).to_pylist()}


def answers(ws: Workspace, spec: ProjectSpec) -> pa.Table:
    """Return every answer that is kept, oldest first; one for each key.

    Returns:
        Columns of `ANNOTATIONS`.
    """
    found = [tables.read(ws, v, KIND) for v in ws.ledger.all_latest(spec.name, KIND)]
    return newest(found)


def newest(parts: Sequence[pa.Table]) -> pa.Table:
    """Return the last answer of each key, oldest first."""
    table = tables.combine(list(parts), ANNOTATIONS)
    latest: dict[tuple[Any, ...], int] = {}
    order = pc.sort_indices(table, [("answered_at", "ascending"), ("text_key", "ascending")])
    table = table.take(order)
    keys = zip(*(table[name].to_pylist() for name in KEY), strict=True)
    for place, key in enumerate(keys):
        latest[key] = place
    return table.take(pa.array(sorted(latest.values()), pa.int64()))


def readable(ws: Workspace, spec: ProjectSpec) -> list[Record]:
    """Return the answers that count today.

    Each has `text_key`, `annotator`, `classes` (of which one is right) and `label` as it was said.
    Left out: answers that a semantic change of guideline or page outdated, labels of development
    that no mapping names, classes that were removed, and "cannot say". Of several answers of one
    person on one row the last counts.
    """
    found: dict[tuple[str, str], Record] = {}
    for row in answers(ws, spec).to_pylist():
        classes = meaning(spec, row)
        if classes and not outdated(spec, row):
            key = (row["text_key"], row["annotator"])
            found[key] = {
                "text_key": row["text_key"], "annotator": row["annotator"],
                "classes": classes, "label": row["label"],
            }  # fmt: skip
    return [found[key] for key in sorted(found)]


def meaning(spec: ProjectSpec, row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the classes of today that an answer may mean; none where it cannot be read."""
    if row["origin"] == "development":
        mapped = spec.annotation.development.get(row["label"] or "")
        return (mapped and spec.taxonomy.meaning(mapped)) or ()
    found = {
        today
        for name in said(row["label"])
        for today in spec.taxonomy.meaning(name, row["taxonomy_version"]) or ()
    }
    return tuple(name for name in spec.taxonomy.classes if name in found)


def outdated(spec: ProjectSpec, row: Mapping[str, Any]) -> bool:
    """Whether a semantic change since then makes an answer worth asking again."""
    declared = spec.annotation
    return any(
        declared.guideline.outdates(row["guideline_version"], name)
        or declared.interface.outdates(row["interface_version"], name)
        for name in said(row["label"]) or (None,)
    )


def seen_by(ws: Workspace, spec: ProjectSpec, annotator: str) -> frozenset[str]:
    """Return the text keys that a person is not asked again: answered, and not outdated.

    "Cannot say" is an answer, too. A label whose class was split is not asked again by itself:
    it stays of use as it is.
    """
    parts = [tables.read(ws, v, KIND) for v in parts_of(ws, spec, annotator)]
    rows = newest(parts).to_pylist()
    return frozenset(row["text_key"] for row in rows if not outdated(spec, row))


def parts_of(ws: Workspace, spec: ProjectSpec, annotator: str) -> list[ArtifactVersion]:
    """Return the answers of one person, one version a day on which there are any."""
    return ws.ledger.latest_of_days(spec.name, KIND, annotator, *_ALL_DAYS)


def require_annotator(name: object) -> str:
    """Return the name of a person.

    Raises:
        FMError: If it cannot be one.
    """
    if isinstance(name, str) and ANNOTATOR.fullmatch(name):
        return name
    raise FMError(
        "an answer needs the name of who gave it",
        found=repr(name)[:80],
        expected="letters, digits and any of . _ @ + -, 64 at most",
        next_step="give it with --annotator",
    )


def complete(spec: ProjectSpec, record: Record, place: int) -> Record:
    """Return an answer with every field; `place` is for messages. See `save`."""
    declared = spec.annotation
    record = {**record, **{name: _text(record.get(name), name, place) for name in _TEXTS}}
    label = record["label"] or None
    names: tuple[str, ...] = ()
    origin = str(record.get("origin") or "production")
    try:
        version = int(record.get("taxonomy_version") or spec.taxonomy.version)
    except (TypeError, ValueError, OverflowError):
        raise FMError(
            "the version of the classes is no number",
            where=f"answer {place}", found=str(record["taxonomy_version"])[:80],
        ) from None  # fmt: skip
    text = record["text"]
    key = record["text_key"] or (text_key(text) if text else None)
    if key is None or origin not in ORIGINS:
        raise FMError(
            "an answer names no row, or no origin that is known",
            where=f"answer {place}",
            expected=f"text or text_key; origin one of {', '.join(ORIGINS)}",
            found=f"origin {origin!r:.80}",
        )
    if origin != "development":
        names = said(label)
        label = joined(names)
    if any(spec.taxonomy.meaning(name, version) is None for name in names):
        raise FMError(
            "an answer is no class",
            where=f"answer {place}, classes of version {version}",
            found=repr(label)[:80],
            expected=", ".join(sorted(spec.taxonomy.classes_of(version)) or spec.taxonomy.classes),
            next_step=_mapped(spec, names),
        )
    annotator = require_annotator(record.get("annotator"))
    return {
        "text_key": key, "row_id": record["row_id"], "source": record["source"],
        "text": text, "label": label, "annotator": annotator,
        "guideline_version": str(record.get("guideline_version") or declared.guideline.version),
        "interface_version": str(record.get("interface_version") or declared.interface.version),
        "taxonomy_version": version, "origin": origin,
        "answered_at": _time(record.get("answered_at"), place),
    }  # fmt: skip


def _mapped(spec: ProjectSpec, names: Sequence[str]) -> str:
    """Return what to do about an answer that is no class of its version."""
    for version in range(spec.taxonomy.version - 1, 0, -1):
        if set(names) <= spec.taxonomy.classes_of(version):
            return f"it was a class in version {version}: fill in taxonomy_version {version}"
    return "map it first, or import it with --origin development and declare annotation.development"


def _text(value: object, name: str, place: int) -> str | None:
    """Return a field that a tool may have written as a number."""
    if value is None:
        return None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, str):
        with suppress(UnicodeEncodeError):
            value.encode("utf-8")
            return value
    raise FMError(
        f"the {name} is no text", where=f"answer {place}", found=ascii(value)[:80],
        expected="a text of whole characters",
    )  # fmt: skip


def _time(value: object, place: int) -> str:
    if not value:
        return now().isoformat(timespec="microseconds")
    try:
        found = datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError:
        raise FMError(
            "the time of an answer cannot be read", where=f"answer {place}", found=str(value)[:80]
        ) from None
    found = found if found.tzinfo else found.replace(tzinfo=timezone.utc)
    return found.astimezone(timezone.utc).isoformat(timespec="microseconds")


def putting(records: Sequence[Record]) -> Callable[[Rows], int]:
    """Return the edit that puts answers among those that are kept."""

    def put(rows: Rows) -> int:
        return sum(_put(rows, dict(record)) for record in records)

    return put


def edit_part(
    ws: Workspace, spec: ProjectSpec, annotator: str, day: str, edit: Callable[[Rows], int],
    run: RunContext,
) -> int:  # fmt: skip
    """Change the answers of one person on one day; who comes at the same time waits a turn.

    Args:
        ws: Where they are kept.
        spec: Whose.
        annotator: Who answered.
        day: When, UTC.
        edit: Changes the rows it is given, and tells how many; 0: nothing is written. It may be
            called again, with what another wrote in between.
        run: Who asks.

    Raises:
        FMError: If others write all the time.
    """
    part = f"{day}-{sha256_hex(annotator.encode())[:16]}"
    key = "/".join((ws.ledger.scope(spec.name), KIND, part))
    for _ in range(_TRIES):
        lease = ws.ledger.acquire_lease(key, holder(run))
        try:
            return _write(ws, spec, annotator, day, part, edit, run, lease)
        except FencedError:  # another answer of the same person came in between: read it first
            continue
        finally:
            ws.ledger.release_lease(lease)
    raise FMError(
        "answers of this person are being written all the time", where=part,
        next_step="try again in a moment",
    )  # fmt: skip


def _write(
    ws: Workspace, spec: ProjectSpec, annotator: str, day: str, part: str,
    edit: Callable[[Rows], int], run: RunContext, lease: Lease,
) -> int:  # fmt: skip
    started = now()
    before: ArtifactVersion | None = ws.ledger.latest(spec.name, KIND, annotator, day)
    kept = tables.read(ws, before, KIND).to_pylist() if before is not None else []
    rows: Rows = {_key(row): row for row in kept}
    changed = edit(rows)
    if not changed:
        return 0
    listed = [
        {**row, "part": part}
        for row in sorted(rows.values(), key=lambda row: (row["answered_at"], row["text_key"]))
    ]
    data = pa.Table.from_pylist(listed, ANNOTATIONS)
    answered = Input("answers", annotator, day, tables.hash_rows(data))
    recipe = Recipe(spec.name, KIND, annotator, day, (answered,), "-", {}, "-")
    with storage_errors(ws.home.root, full_only=True), ws.building():
        ref = tables.write(ws, recipe, lease, KIND, data, column="part", value=part)
        produced = Produced(
            ref.content_hash, tables.location({KIND: ref}), ref.rows,
            sum(file.bytes for file in ref.files),
        )  # fmt: skip
        ws.ledger.record(recipe, produced, run, started, now(), lease)
    return changed

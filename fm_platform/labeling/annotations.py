"""What people answered, and the files in which answers and questions travel.

An answer is keyed by the content of the row, the person, and the versions of guideline, page and
classes under which it was given. So it can be read for ever, and asked again only where needed.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from fm_platform.errors import SourceFormatError

ANNOTATIONS = pa.schema(
    [
        ("text_key", pa.string()),
        ("row_id", pa.string()),
        ("source", pa.string()),
        ("text", pa.string()),
        ("label", pa.string()),
        ("annotator", pa.string()),
        ("guideline_version", pa.string()),
        ("interface_version", pa.string()),
        ("taxonomy_version", pa.int64()),
        ("origin", pa.string()),
        ("answered_at", pa.string()),
        ("part", pa.string()),
    ]
)
"""`label` null: the person looked at the row and could not say; several classes, of which one is
right, are joined by `|` (see `joined`). `origin`: production, or development, whose labels are
read through a declared mapping alone."""

KEY = (
    "text_key", "annotator", "guideline_version", "interface_version", "taxonomy_version",
    "origin",
)  # fmt: skip
_SHARED = tuple(name for name in KEY if name != "annotator")
FORMATS = ("csv", "argilla", "labelstudio")
Format = Literal["csv", "argilla", "labelstudio"]
ANNOTATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@+-]{0,63}")
_FIELDS = tuple(name for name in ANNOTATIONS.names if name != "part")
_MOST_BYTES = 256 * 1024 * 1024
SEVERAL = "|"
Record = dict[str, Any]


def joined(classes: Iterable[str]) -> str | None:
    """Return classes of which one is right as one label; none is None.

    Example:
        >>> joined(["great", "fine"]), said(joined(["great", "fine"]))
        ('fine|great', ('fine', 'great'))
    """
    return SEVERAL.join(sorted(set(classes))) or None


def said(label: str | None) -> tuple[str, ...]:
    """Return the classes that a label names, see `joined`."""
    return tuple(label.split(SEVERAL)) if label else ()


def parse(data: bytes, form: Format, where: str) -> list[Record]:
    """Return the answers in a file; fields that it does not give are missing.

    Lines of a CSV that nobody filled in are among them (see `answered`).

    Args:
        data: The file.
        form: `csv`: one answer a line; `argilla`: JSON of records with responses;
            `labelstudio`: JSON of tasks with annotations.
        where: Its name, for messages.

    Raises:
        SourceFormatError: If it is no such file, with the place.
    """
    if len(data) > _MOST_BYTES:
        raise SourceFormatError("the file is too large", where=where, found=f"{len(data)} bytes")
    try:
        text = data.decode("utf-8-sig")
        if form == "csv":
            return _of_csv(text)
        listed = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise SourceFormatError(
            f"the file is no {form} export", where=where, found=f"{type(error).__name__}: {error}"
        ) from None
    listed = listed.get("records", [listed]) if isinstance(listed, dict) else listed
    if not isinstance(listed, list):
        raise SourceFormatError(
            "the file holds no list of records", where=where, expected=f"a {form} export",
            found=type(listed).__name__,
        )  # fmt: skip
    read: Callable[[Any], Iterable[Record]] = _of_argilla if form == "argilla" else _of_studio
    found: list[Record] = []
    for number, item in enumerate(listed):
        try:
            found += read(item)
        except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
            raise SourceFormatError(
                f"a record is not as {form} writes it",
                where=f"{where}, record {number + 1}",
                found=f"{type(error).__name__}: {error}"[:200],
            ) from None
    return found


def answered(record: Mapping[str, Any]) -> bool:
    """Whether somebody looked at a row; a question that waits has neither label nor name.

    Example:
        >>> answered({"text": "hm", "label": None}), answered({"label": None, "annotator": "ann"})
        (False, True)
    """
    return bool(record.get("label") or record.get("annotator"))


def _of_csv(text: str) -> list[Record]:
    reader = csv.DictReader(io.StringIO(text), strict=True)
    names = set(reader.fieldnames or ())
    if "label" not in names or not names & {"text", "text_key"}:
        raise csv.Error("columns text (or text_key) and label are required")
    return [
        {name: row[name] for name in _FIELDS if row.get(name) not in (None, "")} | _said(row)
        for row in reader
    ]


def _said(row: Mapping[str, Any]) -> Record:
    return {"label": row.get("label") or None}


def _one(value: Any) -> str | None:
    """Return the label of an answer that may be a list of choices."""
    return joined(map(str, value)) if isinstance(value, list) else value


def _by(who: object) -> Record:
    """Return the field for who answered; none where the tool does not say it."""
    return {} if who in (None, "") else {"annotator": str(who)}


def _of_argilla(item: Any) -> list[Record]:
    shared = {**_known(item.get("metadata") or {}), "text": item["fields"]["text"]}
    return [
        {**shared, **_by(told.get("user_id")), "label": _one(told.get("value"))}
        for told in (item.get("responses") or {}).get("label", ())
        if told.get("status", "submitted") != "draft"
    ]


def _of_studio(item: Any) -> list[Record]:
    shared = {**_known(item["data"]), "text": item["data"]["text"]}
    found = []
    for told in item.get("annotations") or ():
        who = told.get("completed_by")
        who = who.get("email") or who.get("id") if isinstance(who, dict) else who
        choices = [str(c) for r in told["result"] for c in r.get("value", {}).get("choices", ())]
        label = None if told.get("was_cancelled") else joined(choices)
        record = {"label": label, **_by(who)}
        if told.get("created_at"):
            record["answered_at"] = str(told["created_at"])
        found.append({**shared, **record})
    return found


def _known(fields: Mapping[str, Any]) -> Record:
    return {name: fields[name] for name in _FIELDS if fields.get(name) not in (None, "")}


def render(rows: Sequence[Record], form: Format, classes: Sequence[str]) -> str:
    """Return answers, and rows that wait for one, as a file that `parse` and the tool read.

    Rows without an annotator are questions. Answers to one row under the same versions are one
    record where the form has it so.

    Args:
        rows: Fields of `ANNOTATIONS`, `annotator` None for questions.
        form: See `parse`.
        classes: What can be answered.
    """
    if form == "csv":
        out = io.StringIO()
        writer = csv.DictWriter(out, _FIELDS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return out.getvalue()
    together: dict[tuple[Any, ...], list[Record]] = {}
    for row in rows:
        together.setdefault(tuple(row.get(name) for name in _SHARED), []).append(row)
    if form == "labelstudio":
        return json.dumps([_studio(same, classes) for same in together.values()], indent=1)
    found, times = [], Counter[str]()
    for same in together.values():
        name = same[0].get("row_id") or same[0]["text_key"]
        times[name] += 1  # Argilla wants each id once
        found.append(_argilla(same, name if times[name] == 1 else f"{name}-{times[name]}"))
    return json.dumps(found, indent=1)


def _context(row: Record) -> Record:
    names = ("text_key", "row_id", "source", "guideline_version", "interface_version",
             "taxonomy_version", "origin")  # fmt: skip
    return {name: row[name] for name in names if row.get(name) is not None}


def _argilla(same: Sequence[Record], name: str) -> Record:
    told = [
        {"value": row["label"], "user_id": row["annotator"], "status": "submitted"}
        for row in same
        if row.get("annotator")
    ]
    return {
        "id": name,
        "fields": {"text": same[0]["text"]},
        "metadata": _context(same[0]),
        "responses": {"label": told} if told else {},
        "suggestions": {},
    }


def _studio(same: Sequence[Record], classes: Sequence[str]) -> Record:
    def result(label: str | None) -> list[Record]:
        value = {"choices": list(said(label))}
        shown = {"from_name": "label", "to_name": "text", "type": "choices", "value": value}
        return [shown] if label is not None else []

    return {
        "data": {"text": same[0]["text"], **_context(same[0])},
        "annotations": [
            {
                "completed_by": {"email": row["annotator"]}, "result": result(row["label"]),
                "created_at": row.get("answered_at"),
            }
            for row in same
            if row.get("annotator")
        ],
        "meta": {"choices": list(classes)},
    }  # fmt: skip

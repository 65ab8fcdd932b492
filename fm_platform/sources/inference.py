"""A first project from a data file: what `fm init` writes."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import yaml

from fm_platform.errors import SourceFormatError
from fm_platform.sources.ingest import row_id, split_of
from fm_platform.sources.sample import TEXT_TABLES, Row, Sample, as_text, is_nested, sample_file
from fm_platform.spec.checks import COLUMN_WORDS
from fm_platform.spec.models import Split

_TEXT_NAMES = ("text", "sentence", "body", "message", "content", "review", "comment")
_KEY_NAMES = ("id", "key", "row_id", "uuid", "guid")
_LABEL_NAMES = ("label", "class", "gold", "category", "target", "sentiment", "topic", "intent")
_DATE_NAMES = ("day", "date", "created_at", "timestamp", "time", "created")
_MOST_CLASSES = 20
_MOST_COLUMNS = 12
_MOST_FUNCTIONS = 8
_MOST_EXAMPLES = 50  # as many labeled rows as a project may read of a source by default
_READABLE_SHARE = 0.95
_WORD = re.compile(r"[^\W\d_]{4,}")
_NO_NAME = re.compile(r"[^a-z0-9]+")

FUNCTIONS = '''"""Labeling functions of {name}: a class name, or None for "I do not know".

The YAML file declares keyword lists, patterns, lexicons and rules; what needs Python goes here.
`fm plan {name}` shows what an edit will recompute: one column for one function.
"""

from __future__ import annotations

# from fm_platform.labeling import labeling_function
#
#
# @labeling_function()
# def shouting(row):
#     """Capital letters only: somebody means it."""
#     return "{label}" if row.text.isupper() else None
'''


@dataclass(frozen=True)
class _Found:
    """What the columns of a file are for."""

    text: str
    key: str | None
    label: str | None
    day: str | None
    classes: dict[str, str]  # value of the label column -> class
    rename: dict[str, str] = field(default_factory=dict)
    contract: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Columns:
    """Columns that a person names; None: the file is looked at."""

    text: str | None = None
    label: str | None = None
    day: str | None = None


@dataclass(frozen=True)
class Inferred:
    """A new project.

    Attributes:
        files: File name -> text.
        told: What each column was taken for, and what stands in for those that were not found.
    """

    files: dict[str, str]
    told: tuple[str, ...]


def infer_project(
    name: str, file: Path, folder: Path | None = None, named: Columns | None = None
) -> Inferred:
    """Return a new project for the rows of `file`.

    The text column is the one called so, else the one with the longest values; that of the days is
    the one called so, else the only one that holds dates. A column of few different values called
    `label`, `class` or the like becomes gold; its values become class names. Declared columns get
    the first type that all their values have.

    Args:
        name: Project name.
        file: CSV, JSON Lines or Parquet.
        folder: Folder of the new project; a file in the same checkout is named from there.
        named: Columns that need not be looked for.

    Raises:
        SourceFormatError: If the file cannot be read, holds no rows, has no text column, or a
            named column is not there or cannot be what it is named for.
    """
    if not file.is_file():
        raise SourceFormatError("there is no such file", where=file)
    sample = sample_file(file)
    if not sample.rows:
        raise SourceFormatError(
            "the file holds no rows that can be read", where=file,
            found=sample.first_damage or "no rows",
        )  # fmt: skip
    found = _look(sample, file, named or Columns())
    classes = list(found.classes.values()) or ["negative", "positive"]
    settings = _settings(sample, found, file, folder)
    calendar = _calendar(sample, found.day)
    files = {
        "defs.yaml": _yaml(name, classes, calendar, settings, found, sample),
        "labeling_functions.py": FUNCTIONS.format(name=name, label=classes[0]),
    }
    taken = {found.text, found.key, found.label, found.day, *found.rename, *found.contract}
    return Inferred(files, (*_told(found, classes, calendar), *sample.left(taken)))


def _told(found: _Found, classes: Sequence[str], calendar: Mapping[str, str]) -> tuple[str, ...]:
    """Return a line for each thing that a project needs of a file."""
    first, last = calendar["start"], calendar["end"]
    days = f"column {found.day}, {first} to {last}"
    if found.day is None:
        days = (
            f"no column holds dates such as 2026-01-31, so all rows are of {first}; one written "
            "otherwise is declared as date_column with date_format, e.g. '%d.%m.%Y'"
        )
    labels = f"column {found.label}, {', '.join(classes)}"
    if found.label is None:
        labels = (
            f"no column found, so the classes {' and '.join(classes)} stand in; name a column with "
            "--label, or write your classes into defs.yaml"
        )
    return f"texts: column {found.text}", f"days: {days}", f"labels of people: {labels}"


def _look(sample: Sample, file: Path, named: Columns) -> _Found:
    """Say what each column is for."""
    rows, columns = sample.rows, sample.columns
    _require_there(sample, file, named)
    text = named.text or _text_column(
        [column for column in columns if column not in (named.label, named.day)], rows, file
    )
    rest = [column for column in columns if column != text]
    key = _named(rest, _KEY_NAMES, lambda c: len(_values(rows, c)) == len(rows))
    label = named.label or _named(
        [column for column in rest if column != named.day], _LABEL_NAMES,
        lambda c: _few_values(sample.distinct(c), len(rows)),
    )  # fmt: skip
    day = named.day or _day_column(sample, [c for c in rest if c not in (key, label)])
    classes = _class_names(sample.distinct(label)) if label else {}
    rename: dict[str, str] = {}
    contract: dict[str, dict[str, Any]] = {}
    for column in [c for c in rest if c not in (key, label, day)][:_MOST_COLUMNS]:
        new = _free_name(_slug(column, "column"), contract)
        if new != column:
            rename[column] = new
        contract[new] = _column(rows, column)
    return _Found(text, key, label, day, classes, rename, contract)


def _require_there(sample: Sample, file: Path, named: Columns) -> None:
    """Refuse named columns that are not there or cannot be what they are named for."""
    columns = [c for c in (named.text, named.label, named.day) if c is not None]
    if len(set(columns)) < len(columns):
        raise SourceFormatError(
            "a column is one thing", where=file.name, found=", ".join(columns),
            next_step="name different columns with --text, --label and --date",
        )  # fmt: skip
    for column in columns:
        if column not in sample.columns:
            raise SourceFormatError(
                "there is no such column", where=file.name,
                expected=", ".join(sample.columns), found=column,
            )  # fmt: skip
    if named.day is not None and not _readable_dates(sample, named.day):
        raise SourceFormatError(
            "the column named with --date does not hold dates", where=file.name,
            expected=f"a date in {_READABLE_SHARE:.0%} of the rows, such as 2026-01-31",
            found=f"{named.day}: {sum(sample.days(named.day).values())} of {sample.count} rows",
            next_step="leave --date out, then declare date_column and date_format, e.g. "
            "'%d.%m.%Y', under options, and the calendar",
        )  # fmt: skip
    if named.label is not None:
        values = sample.distinct(named.label)
        if not 2 <= len(values) <= _MOST_CLASSES:
            raise SourceFormatError(
                "the column named with --label does not hold classes", where=file.name,
                expected=f"2 to {_MOST_CLASSES} different values",
                found=f"{named.label}: {len(values)}",
            )  # fmt: skip


def _day_column(sample: Sample, columns: Sequence[str]) -> str | None:
    """Return the column called so, else the only one that holds dates."""
    named = _named(columns, _DATE_NAMES, lambda c: _readable_dates(sample, c))
    dates = [column for column in columns if _readable_dates(sample, column)]
    return named or (dates[0] if len(dates) == 1 else None)


def _settings(sample: Sample, found: _Found, file: Path, folder: Path | None) -> dict[str, Any]:
    """Return the settings of the `files` connector."""
    settings: dict[str, Any] = {"path": glob.escape(_path_from(file, folder))}
    for setting, column in (
        ("text_column", found.text), ("key_column", found.key), ("date_column", found.day),
    ):  # fmt: skip
        if column is not None and (setting, column) != ("text_column", "text"):
            settings[setting] = column
    if found.rename:
        settings["rename"] = found.rename
    if file.suffix.lower() in TEXT_TABLES:
        settings["format"] = "csv"
    if sample.delimiter != ",":
        settings["delimiter"] = sample.delimiter
    return settings


def _path_from(file: Path, folder: Path | None) -> str:
    whole = file.resolve()
    if folder is not None:
        root = folder.resolve().parents[2]  # of <root>/assets/defs/<name>
        if whole.is_relative_to(root):
            return Path(os.path.relpath(whole, folder.resolve())).as_posix()
    return str(whole)


def _calendar(sample: Sample, day: str | None) -> dict[str, str]:
    """Return the days from the first to the last row, up to today.

    Without dates it is yesterday (UTC): a day is built once it is over.
    """
    today = datetime.now(timezone.utc).date()
    yesterday = (today - timedelta(days=1)).isoformat()
    days = [d for d in sample.days(day) if d <= today.isoformat()] if day else []
    return {"start": min(days, default=yesterday), "end": max(days, default=yesterday)}


def _yaml(
    name: str,
    classes: Sequence[str],
    calendar: Mapping[str, Any],
    settings: Mapping[str, Any],
    found: _Found,
    sample: Sample,
) -> str:
    """Return the project file, one part a line: at most 25 lines."""
    contract = {"text": {"type": "string", "max_chars": 20_000}, **found.contract}
    out = [
        "type: assets.project.ContinuousTraining",
        "attributes:",
        f"  name: {name}",
        f"  taxonomy: {_flow({'classes': list(classes)})}",
        f"  calendar: {_flow(calendar)}",
        "  sources:",
        f"    - {_flow({'name': 'main', 'connector': 'files', 'options': dict(settings)})}",
        f"  contract: {_flow({'columns': contract})}",
    ]
    if found.label:
        values = {value: new for value, new in found.classes.items() if value != new}
        out.append(
            f"  gold: {_flow({'column': found.label} | ({'values': values} if values else {}))}"
        )
    out += [
        "  labeling:",
        "    minimum_coverage: 0.1  # share of rows with a vote; raise it as your functions grow",
        "    functions:  # replace these words by your own",
    ]
    words = _examples(sample.rows, found) or {new: [new] for new in classes}
    for number, (class_name, chosen) in enumerate(list(words.items())[:_MOST_FUNCTIONS]):
        entry = {"kind": "keyword", "name": f"words_{number + 1}", "words": list(chosen),
                 "label": class_name}  # fmt: skip
        out.append(f"      - {_flow(entry)}")
    if found.label:
        nearest = {"kind": "exemplars", "name": "nearest", "per_source": False}
        out.append(f"      - {_flow(nearest)}  # reads up to {_MOST_EXAMPLES} labeled dev rows")
    return "\n".join(out) + "\n"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1 << 20,
                          allow_unicode=True)  # fmt: skip
    return text.strip()


def _text_column(columns: Sequence[str], rows: Sequence[Row], file: Path) -> str:
    named = _named(columns, _TEXT_NAMES, lambda c: True)
    if named is not None:
        return named
    lengths = {
        column: sum(len(row[column]) for row in rows if isinstance(row.get(column), str))
        for column in columns
        if column.strip().casefold() not in _KEY_NAMES
        and not all(is_nested(row.get(column)) for row in rows)
    }
    best = max(sorted(lengths), key=lambda c: lengths[c], default="")
    if not best or lengths[best] < 3 * len(rows):
        raise SourceFormatError(
            "no column looks like text", where=file.name, found=", ".join(columns)
        )
    return best


def _named(columns: Sequence[str], names: Sequence[str], fits: Callable[[str], bool]) -> str | None:
    plain = {column.strip().casefold(): column for column in reversed(columns)}
    return next((plain[name] for name in names if name in plain and fits(plain[name])), None)


def _few_values(values: Sequence[str], rows: int) -> bool:
    """Whether a column can be the classes: few values, each on more than one row on average."""
    return 2 <= len(values) <= min(_MOST_CLASSES, rows // 2)


def _readable_dates(sample: Sample, column: str) -> bool:
    days = sample.days(column)
    return bool(days) and sum(days.values()) >= _READABLE_SHARE * sample.count


def _values(rows: Sequence[Row], column: str) -> set[str]:
    return {as_text(row[column]) for row in rows if row.get(column) not in (None, "")}


def _class_names(values: Sequence[str]) -> dict[str, str]:
    """Return value -> class name; values that give one name get a number behind it."""
    names: dict[str, str] = {}
    for value in values:
        names[value] = _free_name(_slug(value, "class"), names.values(), ())
    return names


def _slug(value: str, prefix: str) -> str:
    slug = _NO_NAME.sub("_", value.strip().casefold()).strip("_")[:48]
    return slug if slug[:1].isalpha() else f"{prefix}_{slug}".rstrip("_")


def _free_name(name: str, taken: Any, words: Sequence[str] = (*COLUMN_WORDS, "text")) -> str:
    free = f"{name}_column" if name in words else name
    number = 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _column(rows: Sequence[Row], column: str) -> dict[str, Any]:
    """Return the contract of a column: the first type that all its values have."""
    present = [as_text(row[column]) for row in rows if row.get(column) not in (None, "")]
    kind = next((k for k, fits in _TYPES if present and all(map(fits, present))), "string")
    return {"type": kind} | ({"nullable": True} if len(present) < len(rows) else {})


_TYPES: tuple[tuple[str, Callable[[str], Any]], ...] = (
    ("integer", re.compile(r"-?\d{1,18}").fullmatch),
    ("number", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?").fullmatch),
    ("boolean", re.compile(r"(?i:true|false)").fullmatch),
    ("date", re.compile(r"\d{4}-[01]\d-[0-3]\d").fullmatch),
    ("timestamp", re.compile(r"\d{4}-[01]\d-[0-3]\d[T ][0-2]\d:[0-5]\d.*").fullmatch),
)


def _examples(rows: Sequence[Row], found: _Found) -> dict[str, list[str]]:
    """Return for each class up to five words that stand in it and in no other class.

    They come from labeled rows of the train and dev sides, never of the test side, and are a
    start for a person, no more.
    """
    if found.label is None:
        return {}
    counts: dict[str, Counter[str]] = {}
    read = 0
    for row in rows:
        key = as_text(row[found.key]) if found.key else as_text(row.get(found.text))
        value = as_text(row.get(found.label))
        if value not in found.classes or split_of(row_id("main", key), Split()) == "test":
            continue
        words = set(_WORD.findall(as_text(row.get(found.text)).casefold()))
        counts.setdefault(found.classes[value], Counter()).update(words)
        read += 1
        if read == _MOST_EXAMPLES:
            break
    chosen = {}
    for name in sorted(counts):
        others = {word for other, c in counts.items() if other != name for word in c}
        own = [word for word in counts[name] if word not in others]
        best = sorted(own, key=lambda w: (-counts[name][w], w))[:5]
        if best:
            chosen[name] = best
    return chosen

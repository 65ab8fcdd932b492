"""A first project from a data file: what `fm init` writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from fm_platform.errors import SourceFormatError
from fm_platform.sources.connectors import as_day
from fm_platform.sources.files import read_head

_ROWS = 2_000
_TEXT_NAMES = ("text", "sentence", "body", "message", "content", "review", "comment")
_KEY_NAMES = ("id", "key", "row_id", "uuid", "guid")
_LABEL_NAMES = ("label", "class", "gold", "category", "target", "sentiment")
_DATE_NAMES = ("day", "date", "created_at", "timestamp", "time", "created")
_MOST_CLASSES = 20

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
#     """Capital letters only: somebody is angry."""
#     return "{label}" if row.text.isupper() else None
'''


def infer_project(name: str, file: Path) -> dict[str, str]:
    """Return file name -> text of a new project for the rows of `file`.

    The text column is the one called so, else the one with the longest values. A column of few
    different values called `label`, `class` or the like becomes gold. Declared columns are those
    whose every value has one type.

    Args:
        name: Project name.
        file: CSV, JSON Lines or Parquet.

    Raises:
        SourceFormatError: If the file cannot be read, holds no rows, or has no text column.
    """
    if not file.is_file():
        raise SourceFormatError("there is no such file", where=file)
    rows = read_head(file, _ROWS)
    if not rows:
        raise SourceFormatError("the file holds no rows", where=file)
    columns = [str(column) for column in rows[0]]
    text = _text_column(columns, rows, file)
    key = _named(columns, _KEY_NAMES, lambda c: _all_different(rows, c))
    label = _named(columns, _LABEL_NAMES, lambda c: 2 <= len(_values(rows, c)) <= _MOST_CLASSES)
    day = _named(columns, _DATE_NAMES, lambda c: all(as_day(row.get(c)) for row in rows))
    classes = [_as_name(v) for v in _values(rows, label)] if label else ["negative", "positive"]
    if label and classes != _values(rows, label):
        label, classes = None, ["negative", "positive"]  # its values are no class names
    used = {text, key, label, day}
    contract = {"text": {"type": "string", "max_chars": 20_000}}
    contract |= {
        c: _column(rows, c) for c in columns if c not in used and c.isidentifier() and c.islower()
    }
    options: dict[str, Any] = {"path": str(file.resolve())}
    for option, column in (("text_column", text), ("key_column", key), ("date_column", day)):
        if column is not None and column != "text":
            options[option] = column
    days = sorted(as_day(row.get(day)) or "" for row in rows) if day else []
    calendar: dict[str, Any] = {"start": days[0] if days else date.today().isoformat()}
    calendar["end"] = days[-1] if days else calendar["start"]
    lines = _yaml(name, classes, calendar, options, contract, label, _examples(rows, text, label))
    return {
        "defs.yaml": lines,
        "labeling_functions.py": FUNCTIONS.format(name=name, label=classes[0]),
    }


def _yaml(
    name: str,
    classes: Sequence[str],
    calendar: Mapping[str, Any],
    options: Mapping[str, Any],
    contract: Mapping[str, Any],
    label: str | None,
    words: Mapping[str, Sequence[str]],
) -> str:
    """Return the project file, one part a line: at most 25 lines."""
    out = [
        "type: assets.project.ContinuousTraining",
        "attributes:",
        f"  name: {name}",
        f"  taxonomy: {_flow({'classes': list(classes)})}",
        f"  calendar: {_flow(calendar)}",
        "  sources:",
        f"    - {_flow({'name': 'main', 'connector': 'files', 'options': dict(options)})}",
        f"  contract: {_flow({'columns': dict(contract)})}",
    ]
    if label:
        out.append(f"  gold: {_flow({'column': label})}")
    out += ["  labeling:", "    functions:  # replace these words by your own"]
    for number, (class_name, found) in enumerate(list(words.items())[:8] or [(classes[0], [])]):
        entry = {"kind": "keyword", "name": f"words_{number + 1}", "words": list(found) or ["?"],
                 "label": class_name}  # fmt: skip
        out.append(f"      - {_flow(entry)}")
    return "\n".join(out) + "\n"


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000,
                          allow_unicode=True)  # fmt: skip
    return text.strip()


def _text_column(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], file: Path) -> str:
    for name in _TEXT_NAMES:
        if name in columns:
            return name
    lengths = {c: sum(len(str(row.get(c) or "")) for row in rows) / len(rows) for c in columns}
    best = max(sorted(lengths), key=lambda c: lengths[c])
    if lengths[best] < 3:
        raise SourceFormatError(
            "no column looks like text", where=file.name, found=", ".join(columns)
        )
    return best


def _named(columns: Sequence[str], names: Sequence[str], fits: Any) -> str | None:
    return next((name for name in names if name in columns and fits(name)), None)


def _values(rows: Sequence[Mapping[str, Any]], column: str) -> list[str]:
    return sorted({str(row.get(column)) for row in rows if row.get(column) not in (None, "")})


def _all_different(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    return len(_values(rows, column)) == len(rows)


def _as_name(value: str) -> str:
    """Return a value if it can be a class name, else the empty string."""
    plain = value.isascii() and value.isidentifier() and value.islower() and value[0] != "_"
    return value if plain else ""


def _column(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, Any]:
    """Return the contract of a column: the first type that all its values have."""
    present = [str(row[column]) for row in rows if row.get(column) not in (None, "")]
    kind = next((k for k, fits in _TYPES if present and all(fits(v) for v in present)), "string")
    return {"type": kind, "nullable": True}


def _number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


_TYPES = (
    ("integer", lambda v: v.lstrip("-").isdecimal()),
    ("number", _number),
    ("boolean", lambda v: v.lower() in ("true", "false")),
    ("date", lambda v: len(v) == 10 and as_day(v) is not None),
)


def _examples(
    rows: Sequence[Mapping[str, Any]], text: str, label: str | None
) -> dict[str, list[str]]:
    """Return for each class up to three words that stand in it and in no other class.

    They come from the first tenth of the labeled rows and are a start for a person, no more.
    """
    if label is None:
        return {}
    head = rows[: max(10, len(rows) // 10)]
    counts: dict[str, Counter[str]] = {}
    for row in head:
        words = {w for w in str(row.get(text) or "").lower().split() if w.isalpha() and len(w) > 3}
        counts.setdefault(str(row.get(label)), Counter()).update(words)
    found = {}
    for name in sorted(counts):
        others = {w for other, c in counts.items() if other != name for w in c}
        best = sorted((w for w in counts[name] if w not in others),
                      key=lambda w: (-counts[name][w], w))  # fmt: skip
        if name and best:
            found[name] = best[:3]
    return found

"""Which day a row belongs to, and which days a file holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.store.files import atomic_write


class DayIndex(dict[str, str]):
    """Day -> content hash of the rows of that day in one file."""

    @classmethod
    def cached(cls, folder: Path, key: str, make: Callable[[], dict[str, str]]) -> DayIndex:
        """Return the index stored as `key`, made and stored where it is not there.

        Args:
            folder: Where indexes are kept; it can be emptied at any time.
            key: Names the bytes of the file and how they are read.
            make: Reads the file.
        """
        path = folder / f"{key}.json"
        found = _stored(path, path.stat().st_mtime_ns) if path.is_file() else None
        if found is None:
            found = cls(make())
            atomic_write(path, json.dumps(found, sort_keys=True).encode())
        return found


@lru_cache(maxsize=4096)
def _stored(path: Path, _mtime_ns: int) -> DayIndex | None:
    try:
        found = json.loads(path.read_bytes())
    except ValueError:
        return None
    if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
        return DayIndex(found)
    return None


def day_column(values: pa.Array, written: str | None, timezone: str) -> pa.Array:
    """Return the day of each value as YYYY-MM-DD; null where it is no date.

    Args:
        values: Dates, timestamps (with a zone: the day there, in `timezone`), or text.
        written: How text is written, e.g. `%d.%m.%Y`; None for ISO 8601, a time may follow.
        timezone: Of the calendar.
    """
    kind = values.type
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        values = pc.local_timestamp(values.cast(pa.timestamp("us", timezone)))
    if pa.types.is_temporal(kind) and not (pa.types.is_time(kind) or pa.types.is_duration(kind)):
        return values.cast(pa.date32()).cast(pa.string())
    import polars as pl

    series = pl.Series(values.cast(pa.large_string())).str.strip_chars()
    if written is None:
        iso = series.str.contains(r"^\d{4}-\d{2}-\d{2}($|[T ])").fill_null(False)
        series = pl.select(pl.when(iso).then(series.str.slice(0, 10))).to_series()
    days = series.str.to_date(written or "%Y-%m-%d", strict=False)
    return days.dt.strftime("%Y-%m-%d").to_arrow().cast(pa.string())

"""Settings of a source by which rows would come on other days, or columns would get lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, time, timezone

from pydantic import ValidationError

from fm_platform.sources.delta import DeltaOptions
from fm_platform.sources.files import FileOptions
from fm_platform.spec.checks import Problem
from fm_platform.spec.mistakes import booleans
from fm_platform.spec.models import ProjectSpec

_OPTIONS: dict[str, type[FileOptions] | type[DeltaOptions]] = {
    "files": FileOptions,
    "delta": DeltaOptions,
}
_TRIED = (date(2001, 2, 3), date(2024, 11, 30))


def mapping_problems(spec: ProjectSpec) -> Iterator[Problem]:
    """Yield such mistakes of files and Delta tables: a check for `load_spec`."""
    for i, source in enumerate(spec.sources):
        model = _OPTIONS.get(source.connector)
        try:
            settings = model.model_validate(source.options) if model is not None else None
        except ValidationError:
            continue  # `options_problems` says so
        if settings is None:
            continue
        for location, message in (
            *booleans(source.options, settings.model_dump()),
            *_date_format_problems(settings),
            *_rename_problems(settings),
        ):
            yield ("sources", i, "options", *location), message


def _date_format_problems(settings: FileOptions | DeltaOptions) -> Iterator[Problem]:
    written = getattr(settings, "date_format", None)
    if written is not None and not tells_the_day(written):
        yield (
            ("date_format",),
            "day, month and year of a date cannot be read from what is written so; e.g. %d.%m.%Y"
            f" reads 31.01.2026 (found {written!r})",
        )


def _rename_problems(settings: FileOptions | DeltaOptions) -> Iterator[Problem]:
    became = defaultdict(list)
    for column, new in settings.rename.items():
        became[new].append(column)
    for new, columns in became.items():
        if len(columns) > 1:
            yield ("rename",), f"{' and '.join(columns)} cannot both become {new!r}"
        elif new == "text" and columns != [settings.text_column]:
            yield ("rename",), f"the column of the text is named by `text_column: {columns[0]}`"


def tells_the_day(written: str) -> bool:
    """Whether a date that is written so can be read again.

    Example:
        >>> tells_the_day("%d.%m.%Y"), tells_the_day("%m/%Y")
        (True, False)
    """
    import polars as pl

    moments = [datetime.combine(day, time(4, 5, 6), timezone.utc) for day in _TRIED]
    try:
        read = pl.Series(moments).dt.strftime(written).str.to_date(written, strict=False)
    except pl.exceptions.PolarsError:  # no such letter
        return False
    return read.to_list() == list(_TRIED)

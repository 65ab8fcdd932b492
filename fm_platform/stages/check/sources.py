"""Sources: can they be reached, have they rows of the calendar, and do these keep the contract?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice

from fm_platform.cleaning.contracts import check_batch
from fm_platform.errors import FMError
from fm_platform.sources.connectors import Connector, connect, origin_of
from fm_platform.sources.ingest import Ingest
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec, Source
from fm_platform.stages.check.findings import NOTE, OK, WRONG, Finding, failing, of_error
from fm_platform.workspace import Workspace

ROWS = 1000
DAYS = 40
"""Looked at, of each source at most: the newest ones, and none whose files were looked at."""
_PART = "sources"


def source_findings(ws: Workspace, project: LoadedProject) -> Iterator[Finding]:
    """Yield what is wrong with the sources, by the first rows of each of their newest files."""
    from fm_platform.stages.probe import project_days  # a run needs less of this package

    spec, days = project.spec, project_days(project)
    found: list[Finding] = []
    silent: set[str] = set()
    gold = 0
    for source in spec.sources:
        begun = [day for day in days if source.starts is None or day >= source.starts.isoformat()]
        if not begun:
            found.append(Finding(_PART, NOTE, f"{source.name}: its first day is not over yet"))
            continue
        try:
            connector = connect(source, spec, project.directory, ws.home.cache)
            held = connector.days()
            chosen = [day for day in held if begun[0] <= day <= begun[-1]]
            silent |= set() if chosen else {source.name}
            found += _outside(source, held, begun)
            refused, labeled = _rows(spec, source, connector, _of_new_files(connector, chosen))
            found += refused
            gold += labeled
        except FMError as error:
            found.append(of_error(_PART, error))
    if len(silent) == len(spec.sources):
        told = f"no source has a row from {days[0]} to {days[-1]}"
        found.append(Finding(_PART, WRONG, told, "mend the calendar, or the days of the rows"))
    yield from found
    for expert in spec.experts:
        if set(expert.sources) <= silent and len(silent) < len(spec.sources):
            told = f"expert {expert.name} has no rows yet: the others are merged without it"
            yield Finding(_PART, NOTE, told)
    if not failing(found) and not gold and spec.task == "classification":
        told = "no row looked at has a label of people: without any, models are made, not evaluated"
        yield Finding(_PART, NOTE, told, "name their column under gold.column, or fm label open")
    if not failing(found):
        yield Finding(_PART, OK, f"{', '.join(source.name for source in spec.sources)}: readable")


def newest_rows(ws: Workspace, project: LoadedProject, most: int) -> list[dict[str, object]]:
    """Return the first rows of the newest day of a source that has any, as `raw` would hold them.

    Raises:
        FMError: If a source cannot be read.
    """
    from fm_platform.stages.probe import project_days

    spec, days = project.spec, set(project_days(project))
    for source in spec.sources:
        connector = connect(source, spec, project.directory, ws.home.cache)
        for day in [day for day in connector.days() if day in days][-1:]:
            read = (batch.slice(0, most) for batch in islice(connector.read(day), 1))
            parts = [*Ingest(spec, day, check_batch).source(source.name, read)]
            if found := [row for part in parts for row in part.rows]:
                return found
    return []


def _outside(source: Source, held: Sequence[str], begun: Sequence[str]) -> Iterator[Finding]:
    """Tell days of rows that no build takes."""
    inside = [day for day in held if begun[0] <= day <= begun[-1]]
    if inside and len(inside) == len(held):
        return
    taken = f"{begun[0]} to {begun[-1]}"
    told = f"{source.name} has no row of {taken}"
    if inside:
        told = f"{source.name} has rows of {held[0]} to {held[-1]}; those of {taken} are taken"
    elif held:
        told += f", its rows are of {held[0]} to {held[-1]}"
    yield Finding(_PART, NOTE, told)


def _of_new_files(connector: Connector, days: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield days, newest first, with rows of a file not looked at yet; and if of several files."""
    known: set[str] = set()
    for day in islice(reversed(days), DAYS):
        files = {str(file["path"]) for file in origin_of(connector, day).get("files", ())}
        if not files or files - known:
            known |= files
            yield day, len(files) > 1


def _rows(
    spec: ProjectSpec, source: Source, connector: Connector, days: Iterator[tuple[str, bool]]
) -> tuple[list[Finding], int]:
    """Return what the contract refuses of the first rows of each day, and how many are gold."""
    found: list[Finding] = []
    gold = 0
    for day, several in days:
        read = (batch.slice(0, ROWS) for batch in connector.read(day))
        first = read if several else islice(read, 1)
        parts = [*Ingest(spec, day, check_batch).source(source.name, first)]
        gold += sum(len(part.gold) for part in parts)
        refused = [row for part in parts for row in part.quarantine]
        rows = sum(len(part.rows) for part in parts) + len(refused)
        if not refused:
            continue
        kinds = Counter((row["column"] or "row", row["reason"]) for row in refused)
        (column, reason), _ = kinds.most_common(1)[0]
        shown = next(row["before"] for row in refused if row["reason"] == reason)
        limit = spec.contract.max_quarantined_share
        wrong = len(refused) / rows > limit
        told = Finding(
            _PART, WRONG if wrong else NOTE,
            f"{source.name}: {len(refused)} of the first {rows} rows of {day} break the contract, "
            f"most by {column}: {reason}" + (f"; found {str(shown)[:60]!r}" if shown else ""),
            f"mend the rows, the options of the source or the contract; {limit:.0%} may break it"
            if wrong else "",
        )  # fmt: skip
        found.append(told)
        if wrong:
            break  # the same is to be expected of the others
    return found, gold

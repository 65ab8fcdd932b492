"""What a connector is, and how one is found by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from fm_platform.errors import RegistryError, SpecError, SpecProblem
from fm_platform.registry import Registry
from fm_platform.spec.checks import Location, Problem, suggest
from fm_platform.spec.models import ProjectSpec, Source

# Columns a connector may give besides the declared ones.
KEY = "key"
GOLD_LABEL = "gold_label"
GOLD_RATERS = "gold_rater_labels"


class Connector(Protocol):
    """Brings the rows of one source.

    A connector class may name the model of its settings as `options_model`: then mistakes in
    them are told together with all others of the project file. With `origin(day)` it may tell
    from which files the rows of a day come (see `origin_of`).
    """

    def days(self) -> list[str]:
        """Return the days that have rows, sorted, as YYYY-MM-DD."""

    def content_id(self, day: str) -> str:
        """Return an id of what `read(day)` would give; it changes when bytes change. Cheap."""

    def read(self, day: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a day: `text`, declared columns, optionally `key`, `gold_label`,
        `gold_rater_labels`, `problem` (see `fm_platform.sources.rows`).

        Raises:
            SourceUnavailableError: If the source cannot be reached.
            SourceFormatError: If it is not what was declared.
        """  # noqa: D205


@dataclass(frozen=True)
class ConnectorContext:
    """What a connector is made from.

    Attributes:
        source: Its declaration.
        spec: The project it belongs to.
        directory: Folder of the project file; relative paths start here.
        cache: Folder for what was fetched and can be fetched again.
    """

    source: Source
    spec: ProjectSpec
    directory: Path
    cache: Path

    @property
    def first_day(self) -> str:
        """The first day of this source."""
        return (self.source.starts or self.spec.calendar.start).isoformat()

    @property
    def calendar_days(self) -> list[str]:
        """Days from the start of this source to the end of the calendar (or the start only)."""
        first = self.source.starts or self.spec.calendar.start
        last = self.spec.calendar.end or first
        count = (last - first).days + 1
        return [(first + timedelta(days=i)).isoformat() for i in range(max(count, 0))]


Factory = Callable[[ConnectorContext], Connector]
CONNECTORS: Registry[Factory] = Registry("source connector", "fm_platform.sources")


class Options(BaseModel):
    """Base of a connector's settings: frozen, extras forbidden."""

    model_config = ConfigDict(frozen=True, extra="forbid")


O = TypeVar("O", bound=Options)  # noqa: E741


def options(context: ConnectorContext, model: type[O]) -> O:
    """Return the checked settings of a connector.

    Raises:
        SpecError: With every mistake.
    """
    mistakes = _mistakes(model, context.source.options)
    if mistakes:
        file = str(context.directory / "defs.yaml")
        place: Location = ("sources", context.source.name, "options")
        raise SpecError(
            [
                SpecProblem(file, None, ".".join(map(str, (*place, *location))), message)
                for location, message in mistakes
            ]
        )
    return model.model_validate(context.source.options)


def connect(source: Source, spec: ProjectSpec, directory: Path, cache: Path) -> Connector:
    """Return the connector that `source` declares.

    Raises:
        RegistryError: If there is no connector of that name; the message lists them.
        SpecError: If its options are wrong.
    """
    _register_built_ins()
    return CONNECTORS.get(source.connector)(ConnectorContext(source, spec, directory, cache))


def origin_of(connector: Connector, day: str) -> dict[str, Any]:
    """Return what the content id of a day stands for, e.g. `files`: path and sha256 of each.

    Empty where the connector does not tell.
    """
    tell = getattr(connector, "origin", None)
    return dict(tell(day)) if tell is not None else {}


def options_problems(spec: ProjectSpec) -> list[Problem]:
    """Return the mistakes in the settings of all connectors: a check for `load_spec`."""
    _register_built_ins()
    found: list[Problem] = []
    for i, source in enumerate(spec.sources):
        try:
            model = getattr(CONNECTORS.get(source.connector), "options_model", None)
        except RegistryError:
            continue  # the spec says so itself
        for location, message in _mistakes(model, source.options) if model else ():
            found.append((("sources", i, "options", *location), message))
    return found


def _mistakes(model: type[Options], given: dict[str, Any]) -> list[Problem]:
    try:
        model.model_validate(given)
    except ValidationError as error:
        return [_mistake(model, item) for item in error.errors()]
    return []


def _mistake(model: type[Options], item: Any) -> Problem:
    location: Location = tuple(item["loc"])
    allowed = sorted(model.model_fields)
    if item["type"] == "extra_forbidden":
        return location, "unknown setting" + suggest(str(location[-1]), allowed)
    if item["type"] == "missing":
        return location, f"is required (settings: {', '.join(allowed)})"
    return location, f"{item['msg']} (found {str(item['input'])[:80]!r})"


def _register_built_ins() -> None:
    from fm_platform.sources import corpora, delta, files

    CONNECTORS.add("files", files.FilesConnector)
    CONNECTORS.add("delta", delta.DeltaConnector)
    CONNECTORS.add("vader_corpora", corpora.CorporaConnector)


def as_day(value: Any) -> str | None:
    """Return a value as YYYY-MM-DD, or None where it is not a date."""
    text = str(value)[:10]
    try:
        return date.fromisoformat(text).isoformat() if len(text) == 10 else None
    except ValueError:
        return None

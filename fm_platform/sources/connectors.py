"""What a connector is, and how one is found by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from fm_platform.errors import SpecError, SpecProblem
from fm_platform.registry import Registry
from fm_platform.spec.models import ProjectSpec, Source

# Columns a connector may give besides the declared ones.
KEY = "key"
GOLD_LABEL = "gold_label"
GOLD_RATERS = "gold_rater_labels"


class Connector(Protocol):
    """Brings the rows of one source."""

    def days(self) -> list[str]:
        """Return the days that have rows, sorted, as YYYY-MM-DD."""

    def content_id(self, day: str) -> str:
        """Return an id of what `read(day)` would give; it changes when bytes change. Cheap."""

    def read(self, day: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a day: `text`, declared columns, optionally `key`, `gold_label`,
        `gold_rater_labels`.

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
    try:
        return model.model_validate(context.source.options)
    except ValidationError as error:
        problems = [
            SpecProblem(
                str(context.directory / "defs.yaml"),
                None,
                ".".join(["sources", context.source.name, "options", *map(str, item["loc"])]),
                f"{item['msg']} (allowed: {', '.join(sorted(model.model_fields))})",
            )
            for item in error.errors()
        ]
        raise SpecError(problems) from None


def connect(source: Source, spec: ProjectSpec, directory: Path, cache: Path) -> Connector:
    """Return the connector that `source` declares.

    Raises:
        RegistryError: If there is no connector of that name; the message lists them.
        SpecError: If its options are wrong.
    """
    _register_built_ins()
    return CONNECTORS.get(source.connector)(ConnectorContext(source, spec, directory, cache))


def _register_built_ins() -> None:
    from fm_platform.sources import corpora, delta, files

    CONNECTORS.add("files", files.FilesConnector)
    CONNECTORS.add("delta", delta.DeltaConnector)
    CONNECTORS.add("vader_corpora", corpora.CorporaConnector)


def as_day(value: Any) -> str | None:
    """Return a value as YYYY-MM-DD, or None where it is not a date."""
    try:
        return date.fromisoformat(str(value)[:10]).isoformat()
    except ValueError:
        return None

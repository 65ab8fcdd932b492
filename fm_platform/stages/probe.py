"""How status and plan look at the world: sources, labeling functions and base model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

from fm_platform.errors import FMError, HomeError, SourceError, StorageFullError
from fm_platform.labeling.functions import LabelingFunction
from fm_platform.labeling.load import load_functions
from fm_platform.lineage import ArtifactVersion
from fm_platform.lineage.choosing_base import measured
from fm_platform.lineage.environment import last_change
from fm_platform.lineage.status import Probe
from fm_platform.spec.load import LoadedProject
from fm_platform.stages.base_choice import candidates_of
from fm_platform.stages.raw import connectors
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace


def project_days(project: LoadedProject, at: datetime | None = None) -> list[str]:
    """Return the days of the calendar that are over at `at` (default: now), in its time zone.

    These are the days that can be built: a day that is not over is not wanted yet.
    """
    calendar = project.spec.calendar
    zone = ZoneInfo(calendar.timezone)
    over = (at or datetime.now(zone)).astimezone(zone).date() - timedelta(days=1)
    last = min(calendar.end or over, over)
    count = (last - calendar.start).days + 1
    return [(calendar.start + timedelta(days=i)).isoformat() for i in range(max(count, 0))]


def source_ids(ws: Workspace, project: LoadedProject, day: str) -> dict[str, str]:
    """Return what each source holds of a day.

    Raises:
        SourceError: If one cannot be read.
    """
    return {name: one.content_id(day) for name, one in connectors(ws, project, day).items()}


def sources_read(raw: ArtifactVersion) -> dict[str, str]:
    """Return what each source held of a day when `raw` was made of it."""
    return {one.name: one.content_hash for one in raw.inputs if one.role == "source"}


@dataclass
class Held:
    """What the sources hold; one that cannot be read counts as what it held when its day was made.

    That is also one that has changed where the index of its days cannot be kept: a full disk.

    Attributes:
        ws: Where connectors keep what they fetch, and the record of what was read.
        project: Whose sources.
        unread: Source -> why it cannot be read, of those that were asked.
    """

    ws: Workspace
    project: LoadedProject
    unread: dict[str, FMError] = field(default_factory=dict)

    def source_ids(self, day: str) -> dict[str, str]:
        """Return what each source holds, or held, of a day."""
        found: dict[str, str] = {}
        for name, one in connectors(self.ws, self.project, day).items():
            try:
                found[name] = one.content_id(day)
            except (SourceError, HomeError, StorageFullError) as error:
                self.unread.setdefault(name, error)
                raw = self.ws.ledger.latest(self.project.spec.name, "raw", "raw", day)
                found[name] = "" if raw is None else sources_read(raw).get(name, "")
        return found


def probe(
    ws: Workspace,
    project: LoadedProject,
    sources: Callable[[str], Mapping[str, str]] | None = None,
) -> Probe:
    """Return the probe of a project; everything is looked at once, when it is asked for.

    Args:
        ws: The workspace.
        project: The project.
        sources: Day -> what each source holds; without it one that cannot be read is an error.
    """

    @cache
    def functions() -> Sequence[LabelingFunction]:
        if project.spec.task == "causal":  # it labels nothing
            return ()
        return load_functions(project.spec, project.directory)

    @cache
    def base() -> str:
        return resolve_base_model(project.spec.base_model, project.directory).content_hash

    @cache
    def candidates() -> Mapping[str, str]:
        found = candidates_of(project)
        return {one.label: one.base.content_hash for one in found if one.base is not None}

    @cache
    def chat() -> str:
        from fm_platform.stages.causal import chat_of

        return chat_of(project)

    @cache
    def unit() -> str:
        from fm_platform.stages.unit import unit_hash

        return unit_hash(project)

    def where(what: str) -> str:
        folders = {"project": project.directory, "code": Path(__file__).resolve().parents[1]}
        return last_change(folders[what]) if what in folders else ""

    return Probe(
        days=lambda: project_days(project), functions=functions, base=base,
        source_ids=sources or (lambda day: source_ids(ws, project, day)),
        candidates=candidates, measured=lambda day: measured(ws.ledger, project.spec, day),
        chosen=lambda i: ws.ledger.get(i).location["chosen"], chat=chat, unit=unit,
        where=where,
    )  # fmt: skip

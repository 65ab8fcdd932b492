"""The champion as monitoring asks it: loaded when it is first asked, once a process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.lineage import ArtifactVersion
from fm_platform.monitoring import Profile
from fm_platform.spec.load import LoadedProject
from fm_platform.workspace import Workspace


def weighed(
    ws: Workspace, project: str, sources: Sequence[str], days: Sequence[str], day: str
) -> dict[str, tuple[str, str]]:
    """Return source -> kind of label model before and now, where they differ.

    Args:
        ws: The workspace.
        project: Whose.
        sources: Those of the day.
        days: What the champion was trained on; the kind of most of them counts.
        day: The day.
    """
    models = {str(v.partition): v for v in ws.ledger.all_latest(project, "label_model")}
    found = {}
    for source in sources if day in models else ():
        known = Counter(_kind(models[one], source) for one in sorted(days) if one in models)
        now = _kind(models[day], source)
        if known and (before := known.most_common(1)[0][0]) != now:
            found[source] = (before, now)
    return found


def _kind(model: ArtifactVersion, source: str) -> str:
    """Return the kind of label model that weighs the votes of a source."""
    chosen = {str(e["group"]): str(e["method"]) for e in model.metrics["evidence"] if e["chosen"]}
    return chosen.get(source) or chosen.get("all", "")


def asked(ws: Workspace, project: LoadedProject, champion: ArtifactVersion) -> Any:
    """Return the champion as a function of texts; it is loaded when it is first asked."""

    def ask(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        from fm_platform.training.predict import predict_probabilities

        limit = project.spec.training.max_tokens
        return predict_probabilities(_loaded(_Key(ws, project, champion)), texts, max_tokens=limit)

    return ask


class _Key:
    """What a loaded model is remembered by: its content and its place."""

    def __init__(self, ws: Workspace, project: LoadedProject, champion: ArtifactVersion) -> None:
        self.ws, self.project, self.champion = ws, project, champion

    def __hash__(self) -> int:
        return hash((str(self.ws.home.root), self.champion.content_hash))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and hash(self) == hash(other)


@lru_cache(maxsize=1)
def _loaded(key: _Key) -> Any:
    from fm_platform.stages.predict import classifier

    return classifier(key.ws, key.project, key.champion)


def asked_rows(profile: Profile) -> pa.Table:
    """Return the rows of a profile that a model is asked of: its sample, then those beside it."""
    names = ["row_id", "text"]
    sides = [side.select(names) for side in (profile.sample, profile.judged) if side is not None]
    return pa.concat_tables(sides)


def told_to(profile: Profile, champion: pa.ChunkedArray) -> Profile:
    """Return a profile with a model's answers, in the order of `asked_rows`."""
    sides, start = [], 0
    for side in (profile.sample, profile.judged):
        rows = 0 if side is None else side.num_rows
        told = champion.slice(start, rows)
        sides.append(None if side is None else side.append_column("champion", told))
        start += rows
    return replace(profile, sample=sides[0], judged=sides[1])


def day_of(profile: Profile, reference: Profile) -> Profile:
    """Return a day's profile with those rows of the reference that are its own."""
    sides = [
        side and side.filter(pc.equal(side["day"], profile.day))
        for side in (reference.sample, reference.judged)
    ]
    if sides[0] is None:
        return profile
    return replace(profile, sample=sides[0], judged=sides[1])

"""What cleaning a day must know of other days and of the test rows, and the hash that tells it.

Only what matters of the past enters a recipe: so a change of an old day stops here unless it
matters today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow.compute as pc

from fm_platform.hashing import fingerprint
from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.lineage.recipes import seen_key
from fm_platform.spec.cleaning import (
    ExactDuplicatesRule,
    LabelNoiseRule,
    MetadataRepairRule,
    NearDuplicatesRule,
)
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.common import Reporter
from fm_platform.stages.window import window
from fm_platform.workspace import Workspace


def days_before(
    ws: Workspace, spec: ProjectSpec, day: str, width: int | None
) -> list[ArtifactVersion]:
    """Return `raw` of the `width` days before `day`, oldest first; none where it is None."""
    if not width:
        return []
    found = window(ws, spec, "raw", "raw", day, width + 1)
    return [version for version in found if version.partition != day]


@dataclass
class Lookups:
    """What the rules of a project look up for one day.

    Attributes:
        ws: Where everything is.
        project: What is declared.
        weak_labels: The rows that are cleaned.
        run: For the shingles and embeddings that are built on the way.
        log: Told of these.
    """

    ws: Workspace
    project: LoadedProject
    weak_labels: ArtifactVersion
    run: RunContext
    log: Reporter

    @property
    def spec(self) -> ProjectSpec:
        """What is declared."""
        return self.project.spec

    @property
    def day(self) -> str:
        """The day that is cleaned."""
        return str(self.weak_labels.partition)

    @cached_property
    def seen_hash(self) -> str:
        """Hash of all that is looked up; taken from the ledger where it follows from recipes."""
        more = [version for built in self._shingles.values() for _, version in built]
        for days in self._learned_from.values():
            more += [self._embeddings.version(raw) for raw, _ in days]
            more += [weak_labels for _, weak_labels in days]
        for raws in self._repaired_from.values():
            more += raws
        key = seen_key(self.spec, self.weak_labels, self._exact_days, more)
        return self.ws.ledger.derive(key, self._summary)

    @cached_property
    def seen(self) -> frozenset[str]:
        """Those of today's text keys that may not be used again.

        They stand in one of the days before, or in today's test rows.
        """
        columns = ["text_key", "split"]
        today = tables.read(self.ws, self.weak_labels, "weak_labels", columns)
        test = today.filter(pc.equal(today["split"], "test"))["text_key"]
        found = set(test.to_pylist())
        wanted = pc.unique(today["text_key"])
        for raw in self._exact_days:
            keys = tables.read(self.ws, raw, "raw", ["text_key"])["text_key"]
            found.update(keys.filter(pc.is_in(keys, value_set=wanted)).to_pylist())
        return frozenset(found)

    @cached_property
    def known(self) -> Mapping[int, Any]:
        """Position of a rule -> what was looked up for it."""
        found: dict[int, Any] = {}
        if self._shingles:
            from fm_platform.stages.shingles import twins_of_day

            for nth, built in self._shingles.items():
                found[nth] = twins_of_day(self.ws, built, self._near[nth].similarity)
        if self._noise:
            from fm_platform.stages.noise import doubts_of_day

            classes = self.spec.taxonomy.classes
            for nth, rule in self._noise.items():
                days = self._learned_from[nth]
                found[nth] = doubts_of_day(self.ws, rule, days, self._embeddings, classes)
        if self._repaired_from:
            from fm_platform.stages.repairs import repairs_of_day

            for nth, raws in self._repaired_from.items():
                repairing = self.spec.cleaning[nth]
                if isinstance(repairing, MetadataRepairRule):
                    found[nth] = repairs_of_day(self.ws, repairing, raws)
        return found

    @cached_property
    def _repaired_from(self) -> Mapping[int, list[ArtifactVersion]]:
        """Position of a rule -> `raw` of its window, today last."""
        return {
            nth: window(self.ws, self.spec, "raw", "raw", self.day, rule.window_days + 1)
            for nth, rule in enumerate(self.spec.cleaning)
            if isinstance(rule, MetadataRepairRule)
        }

    @cached_property
    def _noise(self) -> Mapping[int, LabelNoiseRule]:
        rules = enumerate(self.spec.cleaning)
        return {nth: rule for nth, rule in rules if isinstance(rule, LabelNoiseRule)}

    @cached_property
    def _embeddings(self) -> Any:
        from fm_platform.stages.embeddings import Embeddings

        return Embeddings(self.ws, self.project, self.run, self.log)

    @cached_property
    def _learned_from(self) -> Mapping[int, list[tuple[ArtifactVersion, ArtifactVersion]]]:
        """Position of a rule -> (raw, weak_labels) of its window, today last."""
        found = {}
        for nth, rule in self._noise.items():
            width = rule.window_days + 1
            raw = window(self.ws, self.spec, "raw", "raw", self.day, width)
            labels = window(self.ws, self.spec, "weak_labels", "weak_labels", self.day, width)
            by_day = {version.partition: version for version in labels}
            by_day[self.day] = self.weak_labels
            pairs = [(r, by_day[r.partition]) for r in raw if r.partition in by_day]
            found[nth] = self._of_one_piece(pairs)
        return found

    def _of_one_piece(
        self, pairs: list[tuple[ArtifactVersion, ArtifactVersion]]
    ) -> list[tuple[ArtifactVersion, ArtifactVersion]]:
        """Leave out days before whose rows were read again and not labeled again since."""
        inputs = self.ws.ledger.inputs([labels.id for _, labels in pairs])
        return [
            (raw, labels) for raw, labels in pairs
            if raw.partition == self.day
            or any(i.content_hash == raw.content_hash for i in inputs.get(labels.id, ()))
        ]  # fmt: skip

    @cached_property
    def _exact_days(self) -> list[ArtifactVersion]:
        rules = self.spec.cleaning
        widths = [rule.window_days for rule in rules if isinstance(rule, ExactDuplicatesRule)]
        return days_before(self.ws, self.spec, self.day, max(widths, default=None))

    @cached_property
    def _near(self) -> Mapping[int, NearDuplicatesRule]:
        rules = enumerate(self.spec.cleaning)
        return {nth: rule for nth, rule in rules if isinstance(rule, NearDuplicatesRule)}

    @cached_property
    def _shingles(self) -> Mapping[int, list[tuple[ArtifactVersion, ArtifactVersion]]]:
        """Position of a rule -> (raw, shingles) of its window, today last."""
        if not self._near:
            return {}
        from fm_platform.stages.shingles import shingles_version

        raw = self.ws.ledger.latest(self.spec.name, "raw", "raw", self.day)
        today = [] if raw is None else [raw]
        found = {}
        for nth, rule in self._near.items():
            before = days_before(self.ws, self.spec, self.day, rule.window_days)
            found[nth] = [
                (version, shingles_version(self.ws, self.spec, rule, version, self.run))
                for version in (*before, *today)
            ]
        return found

    def _summary(self) -> str:
        keys = sorted(self.seen)
        if not self.known:
            return fingerprint(keys)
        told = [found.told() for _, found in sorted(self.known.items())]
        return fingerprint({"seen": keys, "known": told})

"""Fresh, stale or unbuilt, and why: for every artifact of a project, from the ledger alone.

No table is read and nothing is verified: a status of 400 days costs a few queries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache, cached_property
from typing import Any, Literal

from fm_platform.lineage.causes import Before, contents_of_rows, differences, label, sentence
from fm_platform.lineage.continuing import past_of
from fm_platform.lineage.fingerprints import code_stands_still, described
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.process import without_pauses
from fm_platform.lineage.recorded import recipes_made, refused_gold
from fm_platform.lineage.records import ArtifactVersion, Head, Readable, Recipe, Slot
from fm_platform.lineage.settings import can_be_carried, same_settings, settings_of
from fm_platform.lineage.wanted import Probe, Wanted, Wants
from fm_platform.spec.models import ProjectSpec

__all__ = ["Probe", "StatusRow", "plan", "status"]

State = Literal["fresh", "stale", "unbuilt"]
Action = Literal["none", "build", "carry", "reuse", "check"]


@dataclass(frozen=True)
class StatusRow:
    """One artifact of a project.

    Attributes:
        kind: `raw`, `votes`, … `evaluation`.
        name: Name of the artifact.
        partition: Its day, or None.
        state: `fresh`: its recipe is what the project wants now; `stale`: it is built, but from
            something else, or something above it is stale; `unbuilt`.
        why: The cause, with the path to it; empty where fresh.
        action: What a run would do: `build` it; `carry` the version in use over to the classes of
            today, which asks no source and no function; `reuse` a version that the same recipe
            made before; `check` it, for only something above it is stale, and if that comes out
            the same, this one is reused; `none`.
        recipe_hash: Of the version in use.
        content_hash: Of the version in use.
        rows: Of the version in use.
        created_at: When the version in use was made, UTC.
        alias: Names of the aliases of the version in use, with commas.
    """

    kind: str
    name: str
    partition: str | None
    state: State
    why: str = ""
    action: Action = "none"
    recipe_hash: str | None = None
    content_hash: str | None = None
    rows: int | None = None
    created_at: datetime | None = None
    alias: str | None = None


def status(ledger: Ledger, spec: ProjectSpec, probe: Probe) -> list[StatusRow]:
    """Return one row for every artifact that the project wants, in build order.

    Args:
        ledger: The record of what is there.
        spec: What is declared.
        probe: How to look at sources, labeling functions and base model.
    """
    with code_stands_still(), without_pauses():
        return _Status(ledger, spec, probe).rows()


def plan(ledger: Ledger, spec: ProjectSpec, probe: Probe) -> list[StatusRow]:
    """Return what a run would build or check, in build order; nothing where all is fresh."""
    return [row for row in status(ledger, spec, probe) if row.state != "fresh"]


@dataclass(frozen=True)
class _Verdict:
    """State of one slot, with the causes still unspoken."""

    slot: Slot
    state: State
    head: Head | None = None
    recipe: Recipe | None = None  # where it differs from the head's
    above: Slot | None = None  # nearest slot that is not fresh
    above_count: int = 0
    waits: str = ""
    action: Action = "build"


class _Status:
    def __init__(self, ledger: Ledger, spec: ProjectSpec, probe: Probe) -> None:
        self.ledger, self.spec, self.where = ledger, spec, cache(probe.where)
        self.heads: dict[Slot, Head] = {head.slot: head for head in ledger.heads(spec.name)}
        reviews = ledger.standing_by_day(spec.name)
        wants = Wants(
            spec, self.heads, probe, self._champion, reviews, self._past, ledger.known_derived
        )
        self.functions, self.settled = wants.functions, wants.spec
        self.wanted = list(wants)
        self.derived = ledger.known_derived(w.derive[0] for w in self.wanted if w.derive)
        self.verdicts: dict[Slot, _Verdict] = {}
        self.before: dict[int, Before] = {}
        self._roots: dict[Slot, str] = {}

    def _champion(self, merged: Head) -> Readable | None:
        return self.ledger.rival(self.spec.name, "champion", merged)

    def _past(self, expert: str) -> Sequence[ArtifactVersion]:
        rhythm = self.spec.training.continuing
        most = rhythm.full_every + 1 if rhythm is not None else 0
        return past_of(self.ledger, self.spec.name, expert, most)

    def rows(self) -> list[StatusRow]:
        not_fresh: set[Slot] = set()
        for wanted in self.wanted:
            verdict = self._judge(wanted, not_fresh)
            if self._keeps_its_rows(verdict):
                verdict = replace(verdict, action="carry")
            elif verdict.state != "fresh":
                not_fresh.add(wanted.slot)
            self.verdicts[wanted.slot] = verdict
        self._look_closer()
        self.before = _made_from(self.ledger, self.verdicts.values())
        self.describe = cache(self._describe)
        names: dict[int, list[str]] = {}
        for alias, version_id in self.ledger.aliases(self.spec.name).items():
            names.setdefault(version_id, []).append(alias)
        return [self._row(verdict, names) for verdict in self.verdicts.values()]

    def _keeps_its_rows(self, verdict: _Verdict) -> bool:
        """Whether a day of raw is carried over to other classes: nothing below it goes stale."""
        if verdict.head is None or verdict.recipe is None or verdict.head.kind != "raw":
            return False
        before = self.of_raw[verdict.head.id]
        carried = can_be_carried(verdict.head, before, verdict.recipe)
        return carried and verdict.head.id not in self.refusing

    @cached_property
    def of_raw(self) -> dict[int, dict[str, Any]]:
        """Id -> config of the days of raw in use; asked for only where one of them is stale."""
        return self.ledger.configs([h.id for h in self.heads.values() if h.kind == "raw"])

    @cached_property
    def refusing(self) -> set[int]:
        """Ids of the days of raw that refused gold labels, which may be classes by now."""
        return refused_gold(self.ledger, list(self.of_raw))

    def _look_closer(self) -> None:
        """Find what is certain although inputs are not known, and what need not be computed."""
        judged = [v for v in self.verdicts.values() if v.state == "stale" and v.head is not None]
        configs = self.ledger.configs([v.head.id for v in judged if v.head])
        made = recipes_made(self.ledger, [v.recipe.hash for v in judged if v.recipe])
        for verdict in judged:
            recipe = verdict.recipe or settings_of(self.settled, verdict.slot, self.functions)
            if verdict.head is None or recipe is None or verdict.action == "carry":
                continue
            before = configs[verdict.head.id]
            action: Action = "build"
            if verdict.recipe is None:
                action = "check" if same_settings(verdict.head, before, recipe) else "build"
            elif recipe.hash in made:
                action = "reuse"
            elif recipe.kind == "votes" and can_be_carried(verdict.head, before, recipe):
                action = "carry"
            self.verdicts[verdict.slot] = replace(verdict, action=action)

    def _describe(self, hash_: str) -> Any:
        """Return what a fingerprint stands for: recorded, or of the code and packages of now."""
        known = self.ledger.document(hash_)
        return known if known is not None else next((b for *_, b in described([hash_])), None)

    def _judge(self, wanted: Wanted, not_fresh: set[Slot]) -> _Verdict:
        head = self.heads.get(wanted.slot)
        above = [slot for slot in wanted.reads() if slot in not_fresh] if not_fresh else []
        first = next(iter(above), None)
        if head is None:
            return _Verdict(wanted.slot, "unbuilt", None, None, first, len(above))
        recipe, waits = wanted.recipe, ""
        if wanted.derive is not None:
            key, made_of = wanted.derive
            value = self.derived.get(key)
            recipe = None if value is None else made_of(value)
            waits = wanted.waits if value is None else ""
        if recipe is not None and recipe.hash != head.recipe_hash:
            return _Verdict(wanted.slot, "stale", head, recipe, first, len(above))
        if waits or recipe is None or above:
            return _Verdict(wanted.slot, "stale", head, None, first, len(above), waits)
        return _Verdict(wanted.slot, "fresh", head)

    def _row(self, verdict: _Verdict, names: Mapping[int, Sequence[str]]) -> StatusRow:
        kind, name, partition = verdict.slot
        head = verdict.head
        fresh = verdict.state == "fresh"
        action: Action = "none" if fresh else verdict.action
        if head is None:
            return StatusRow(kind, name, partition, verdict.state, self.why(verdict.slot), action)
        return StatusRow(
            kind, name, partition, verdict.state, "" if fresh else self.why(verdict.slot), action,
            head.recipe_hash, head.content_hash, head.rows, head.created_at,
            ", ".join(names[head.id]) if head.id in names else None,
        )  # fmt: skip

    def why(self, slot: Slot) -> str:
        """Return the causes of a slot that is not fresh, with the path to them."""
        verdict = self.verdicts[slot]
        path: list[str] = []
        while verdict.recipe is None and verdict.above is not None:
            above = self.verdicts[verdict.above]
            if verdict.head is None and above.head is not None:
                break  # what is above is stale; this was never built
            below, verdict = verdict.slot, above
            if above.head is None:
                root = f"{label(self._topmost_unbuilt(above), below)} is not built"
                return sentence(path, root, self._more(slot))
            path.append(label(verdict.slot, below))
        return sentence(path, self._root(verdict), self._more(slot))

    def _root(self, verdict: _Verdict) -> str:
        if verdict.head is None:
            return "never built"
        if verdict.recipe is not None:
            if verdict.slot not in self._roots:
                before = self.before[verdict.head.id]
                self._roots[verdict.slot] = differences(
                    before, verdict.recipe, self.describe, self.where
                )
            return self._roots[verdict.slot]
        return f"{verdict.waits or 'what it was made from'} may have changed"

    def _more(self, slot: Slot) -> str:
        others = self.verdicts[slot].above_count - 1
        return f" (and {others} more)" if others > 0 else ""

    def _topmost_unbuilt(self, verdict: _Verdict) -> Slot:
        while verdict.above is not None and self.verdicts[verdict.above].head is None:
            verdict = self.verdicts[verdict.above]
        return verdict.slot


def _made_from(ledger: Ledger, verdicts: Iterable[_Verdict]) -> dict[int, Before]:
    """Load what stale versions were made from: inputs only where they differ."""
    changed = {v.head.id: (v.head, v.recipe) for v in verdicts if v.head and v.recipe}
    configs = ledger.configs(sorted(changed))
    inputs = ledger.input_rows(
        sorted(i for i, (h, r) in changed.items() if h.inputs_hash != r.inputs_hash)
    )
    return {
        i: Before(
            None if head.inputs_hash == recipe.inputs_hash else contents_of_rows(inputs.get(i, ())),
            configs[i], head.code, head.environment, head.seed,
        )
        for i, (head, recipe) in changed.items()
    }  # fmt: skip

"""What the project wants of its models; the other half of `wanted`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import reduce

from fm_platform.lineage import recipes, training_recipes
from fm_platform.lineage.choosing import chosen_by
from fm_platform.lineage.continuing import Past, anchor_day, continued_recipe
from fm_platform.lineage.records import Head, Readable, Recipe, Slot
from fm_platform.lineage.silent import Known
from fm_platform.lineage.training_recipes import activations_name, activations_recipe, replay_recipe
from fm_platform.lineage.wanting import Probe, Wanted
from fm_platform.spec.models import ProjectSpec, Training


class ModelWants:
    """The slots below `cleaned`."""

    spec: ProjectSpec
    heads: Mapping[Slot, Head]
    probe: Probe
    days: list[str]
    past: Past
    known: Known
    choice: Wanted | None
    base_choice: Wanted | None
    searched: Training
    champion: Callable[[Head], Readable | None]

    def _window(self, last: str, width: int) -> list[str]:
        raise NotImplementedError

    def _have(self, kind: str, name: str, days: Sequence[str]) -> list[Head]:
        raise NotImplementedError

    def _gold_key(self, day: str) -> str:
        raise NotImplementedError

    def base(self) -> str | None:
        """Return the content of the base that models are made of; None: not chosen yet."""
        if self.base_choice is None:
            return self.probe.base()
        head = self.heads.get(self.base_choice.slot)
        return None if head is None else head.content_hash

    def _activations(self, day: str) -> Iterator[Wanted]:
        frozen = self.spec.training.frozen_layers
        cleaned = self.heads.get(("cleaned", "cleaned", day))
        if not frozen or (cleaned is not None and not cleaned.rows):
            return
        slot: Slot = ("activations", activations_name(frozen), day)
        read: Slot = ("cleaned", "cleaned", day)
        recipe, base = None, self.base()
        if cleaned is not None and base is not None:
            recipe = activations_recipe(self.spec, cleaned, base, frozen)
        yield Wanted(slot, lambda: (read,), recipe)

    def _replay(self, day: str) -> Iterator[Wanted]:
        if self.spec.training.continuing is None:
            return
        last = (date.fromisoformat(day) - timedelta(days=1)).isoformat()
        earlier = self._window(last, recipes.CARRY_DAYS)
        read: Slot = ("cleaned", "cleaned", day)
        cleaned = self.heads.get(read)
        recipe = None
        if cleaned is not None:
            before = self._have("replay", "replay", earlier)
            recipe = replay_recipe(self.spec, cleaned, before[-1] if before else None)
        reads = (read, *(("replay", "replay", other) for other in reversed(earlier)))
        yield Wanted(("replay", "replay", day), lambda: reads, recipe)

    def _start_days(self, days: list[Head]) -> list[Head]:
        """Return the days that the shared start is trained on."""
        if self.spec.training.continuing is None or not days:
            return days
        anchor = anchor_day(self.spec, str(days[-1].partition))
        width = self.spec.training.window_days
        held = self._have("cleaned", "cleaned", self._window(anchor, width))
        return held if any(day.rows for day in held) else days

    def _last(self, kind: str) -> str | None:
        """Return the last built day of a stage, of the days the project has."""
        built = [day for day in self.days if (kind, kind, day) in self.heads]
        return built[-1] if built else None

    def _training_days(self) -> tuple[list[Head], tuple[Slot, ...]]:
        """Return the cleaned days in use for training, and the slots that should be."""
        width = self.spec.training.window_days
        last = self._last("cleaned")
        have = self._have("cleaned", "cleaned", self._window(last, width)) if last else []
        wanted = self._window(self.days[-1], width) if self.days else []
        return have, tuple(("cleaned", "cleaned", day) for day in wanted)

    def _row_vectors(self, days: Sequence[Head]) -> tuple[list[Head] | None, tuple[Slot, ...]]:
        """Return the embeddings by which rows are chosen, None where one is missing; the slots."""
        if not self.spec.training.covers:
            return [], ()
        slots: list[Slot] = [("embeddings", "embeddings", d.partition) for d in days if d.rows]
        found = [self.heads[slot] for slot in slots if slot in self.heads]
        return (found if len(found) == len(slots) else None), tuple(slots)

    def _start(self) -> Wanted:
        days, target = self._training_days()
        slot: Slot = ("start", "shared_start", None)
        if not days:
            return Wanted(slot, lambda: target)
        own = self._start_days(days)
        if len(own) < len(days):  # what came after the last full retrain is not waited for
            target = tuple(day.slot for day in own)
        chosen = tuple(one.slot for one in (self.base_choice, self.choice) if one is not None)
        heads, base = [self.heads.get(one) for one in chosen], self.base()
        made = [head for head in heads if head is not None]
        vectors, embedded = self._row_vectors(own)
        reads = (*chosen, *target, *embedded)
        if base is None or vectors is None or len(made) < len(chosen):
            return Wanted(slot, lambda: reads)
        recipe = training_recipes.start_recipe(self.spec, own, base, vectors)
        return Wanted(slot, lambda: reads, reduce(chosen_by, made, recipe))

    def _adapter(self, index: int) -> Wanted:
        expert = self.spec.experts[index]
        days, target = self._training_days()
        start: Slot = ("start", "shared_start", None)
        head = self.heads.get(start)
        slot: Slot = ("adapter", expert.name, None)
        vectors, embedded = self._row_vectors(training_recipes.days_of(expert, days))

        def reads() -> Iterable[Slot]:
            return (start, *target, *embedded)

        if head is None or not days or vectors is None:
            return Wanted(slot, reads)
        if self.spec.training.continuing is not None:
            replay = self.heads.get(("replay", "replay", days[-1].partition))
            if replay is None:
                return Wanted(slot, lambda: (start, ("replay", "replay", days[-1].partition)))
            past = self.past(expert.name)
            recipe = continued_recipe(self.spec, expert, days, head, replay, past)
            return Wanted(slot, reads, recipe)
        recipe = training_recipes.adapter_recipe(self.spec, expert, days, head, vectors)
        return Wanted(slot, reads, recipe)

    def _adapters(self) -> tuple[list[Head], tuple[Slot, ...]]:
        slots: list[Slot] = [("adapter", expert.name, None) for expert in self.spec.experts]
        found = [self.heads[slot] for slot in slots if slot in self.heads]
        return (found if len(found) == len(slots) else []), tuple(slots)

    def _merged_model(self) -> Wanted:
        adapters, target = self._adapters()
        days, _ = self._training_days()
        start = self.heads.get(("start", "shared_start", None))
        slot: Slot = ("merged_model", "merged_model", None)
        base = self.base()
        if start is None or not adapters or base is None:
            return Wanted(slot, lambda: target)
        began, made_of = start, base

        def with_gold(value: str | None) -> Recipe:
            return training_recipes.merged_recipe(self.spec, adapters, began, days, made_of, value)

        if not days or not training_recipes.decides_by_gold(self.spec):
            return Wanted(slot, lambda: target, with_gold(None))
        return Wanted(
            slot, lambda: target, None, (self._gold_key(str(days[-1].partition)), with_gold),
            "the gold rows that decide among merges",
        )  # fmt: skip

    def _evaluation(self) -> Wanted:
        slot: Slot = ("evaluation", "evaluation", None)
        merged_slot: Slot = ("merged_model", "merged_model", None)
        adapters, _ = self._adapters()
        merged, last = self.heads.get(merged_slot), self._last("weak_labels")
        start = self.heads.get(("start", "shared_start", None))
        if merged is None or start is None or not adapters or last is None:
            return Wanted(slot, lambda: (merged_slot,))
        days = self._window(last, self.spec.training.window_days)
        labels, raw = self._have("weak_labels", "weak_labels", days), self._have("raw", "raw", days)
        trained = self._training_days()[0]
        recipe = recipes.evaluation_recipe(
            self.spec, merged, start, adapters, self.champion(merged), labels, raw, trained
        )
        target = self._window(self.days[-1], self.spec.training.window_days)

        def reads() -> Iterable[Slot]:
            return (merged_slot, *(("weak_labels", "weak_labels", day) for day in target))

        return Wanted(slot, reads, recipe)

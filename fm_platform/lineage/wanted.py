"""What the project wants now: the recipe of every slot, from the spec and the heads in use.

The windows here are those of the stages (`stages/window.py`, `stages/models.py`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from itertools import chain

from fm_platform.lineage import choosing_base, recipes
from fm_platform.lineage.choosing import choice_of, searched_days, settled
from fm_platform.lineage.continuing import Past, no_past
from fm_platform.lineage.records import Head, Readable, Recipe, Slot
from fm_platform.lineage.reviews import Standing
from fm_platform.lineage.silent import Known, with_rows
from fm_platform.lineage.unit_recipes import unit_of
from fm_platform.lineage.wanted_causal import wanted_of_causal
from fm_platform.lineage.wanted_models import ModelWants
from fm_platform.lineage.wanting import Function, Probe, Wanted
from fm_platform.spec.cleaning import (
    ExactDuplicatesRule,
    LabelNoiseRule,
    MetadataRepairRule,
    NearDuplicatesRule,
)
from fm_platform.spec.models import ProjectSpec

__all__ = ["Function", "Probe", "Wanted", "Wants"]


class Wants(ModelWants):
    """Goes through all slots of a project in build order."""

    def __init__(
        self,
        spec: ProjectSpec,
        heads: Mapping[Slot, Head],
        probe: Probe,
        champion: Callable[[Head], Readable | None],
        reviews: Mapping[str, Standing] | None = None,
        past: Past = no_past,
        known: Known = lambda _keys: {},
    ) -> None:
        self.spec, self.heads, self.probe, self.champion = spec, heads, probe, champion
        self.reviews, self.past, self.known = reviews or {}, past, known
        self.days = sorted(probe.days())
        self.functions = tuple(probe.functions())
        self.plain = [function for function in self.functions if not function.needs]
        self.learning = [function for function in self.functions if function.needs]
        self.people = recipes.people_asked(spec)
        self.annotations = [head for head in heads.values() if head.kind == "annotations"]
        self._votes_keys: dict[str, str] = {}
        self._complete: dict[tuple[str, bool], Sequence[Head]] = {}
        self._slots: dict[str, Sequence[Slot]] = {}
        self._gold_keys: dict[str, str] = {}
        self.searched = spec.training
        self.unit = unit_of(spec, probe)
        self.base_choice = choosing_base.base_choice_of(self)
        if self.base_choice is not None and (head := heads.get(self.base_choice.slot)) is not None:
            self.spec = choosing_base.settled(self.spec, probe.chosen(head.id))
        self.choice = choice_of(self)
        if self.choice is not None and (head := heads.get(self.choice.slot)) is not None:
            self.spec = settled(self.spec, probe.chosen(head.id))
        if self.spec.task == "classification":
            self.spec = with_rows(self.spec, self._training_days()[0], known)

    def __iter__(self) -> Iterator[Wanted]:
        if self.spec.task == "causal":
            yield from (self._raw(day) for day in self.days)
            yield from wanted_of_causal(self)
            return
        if self.unit is not None:
            yield self.unit
        embedded = self._embedded_days()
        for day in self.days:
            yield self._raw(day)
            if day in embedded:
                yield self._embeddings(day)
            for function in self.plain:
                yield self._plain_votes(day, function)
            for function in self.learning:
                yield self._learned_votes(day, function)
            yield self._label_model(day)
            yield self._weak_labels(day)
            yield from self._shingles(day)
            yield self._cleaned(day)
            yield from self._activations(day)
            yield from self._replay(day)
        yield from (one for one in (self.base_choice, self.choice) if one is not None)
        yield self._start()
        for index, _expert in enumerate(self.spec.experts):
            yield self._adapter(index)
        yield self._merged_model()
        yield self._evaluation()

    # --- helpers ----------------------------------------------------------------------------

    def _window(self, last: str, width: int) -> list[str]:
        first = (date.fromisoformat(last) - timedelta(days=width - 1)).isoformat()
        return self.days[bisect_left(self.days, first) : bisect_right(self.days, last)]

    def _have(self, kind: str, name: str, days: Sequence[str]) -> list[Head]:
        found = (self.heads.get((kind, name, day)) for day in days)
        return [head for head in found if head is not None]

    def _embedded_days(self) -> set[str]:
        """Return the days whose rows are embedded, for labels, cleaning or training."""
        if self.learning or self._noise_rules():
            return set(self.days)
        found: set[str] = set()
        if self.searched.method == "auto" and self.searched.covers:
            tried = searched_days(self, self.searched.auto.every)
            found.update(() if tried is None else tried[2])
        if self.spec.training.method != "auto" and self.spec.training.covers and self.days:
            found.update(self._window(self.days[-1], self.spec.training.window_days))
        without_rows = {head.partition for head in self._have("cleaned", "cleaned", [*found])
                        if not head.rows}  # fmt: skip
        return found - without_rows

    def _votes(self, day: str, plain: bool = False) -> Sequence[Head] | None:
        """Return the votes of a day in the order of the functions; None where one is missing.

        Votes for another list of classes are no votes: their numbers mean something else.
        """
        if (day, plain) not in self._complete:
            functions = self.plain if plain else self.functions
            found = [self.heads.get(("votes", function.name, day)) for function in functions]
            complete = [h for h in found if h is not None and recipes.of_taxonomy(self.spec, h)]
            if len(complete) < len(found):
                return None
            self._complete[day, plain] = complete
        return self._complete[day, plain]

    def _vote_slots(self, day: str) -> Sequence[Slot]:
        if day not in self._slots:
            self._slots[day] = [("votes", function.name, day) for function in self.functions]
        return self._slots[day]

    def _votes_key(self, day: str) -> str | None:
        if day not in self._votes_keys:
            votes = self._votes(day, plain=True)
            self._votes_keys[day] = "" if votes is None else recipes.votes_key(votes)
        return self._votes_keys[day] or None

    def _labeling_window(self, day: str) -> list[str]:
        return self._window(day, self.spec.labeling.label_model.window_days)

    def _carried(self, day: str) -> list[str]:
        """Return the days whose label model may be the one that this day's carries on from."""
        if not self.spec.labeling.label_model.carry:
            return []
        last = (date.fromisoformat(day) - timedelta(days=1)).isoformat()
        return self._window(last, recipes.CARRY_DAYS)

    def _gold_key(self, day: str) -> str:
        if day not in self._gold_keys:
            raw = self._have("raw", "raw", self._labeling_window(day))
            self._gold_keys[day] = recipes.gold_key(self.spec, raw, self.annotations)
        return self._gold_keys[day]

    # --- days -------------------------------------------------------------------------------

    def _raw(self, day: str) -> Wanted:
        recipe = recipes.raw_recipe(self.spec, day, self.probe.source_ids(day))
        return Wanted(("raw", "raw", day), tuple, recipe)

    def _embeddings(self, day: str) -> Wanted:
        slot, read = ("embeddings", "embeddings", day), ("raw", "raw", day)
        raw = self.heads.get(read)
        if raw is None:
            return Wanted(slot, lambda: (read,))
        recipe = recipes.embeddings_recipe(self.spec, day, raw, self.probe.base())
        return Wanted(slot, lambda: (read,), recipe)

    def _plain_votes(self, day: str, function: Function) -> Wanted:
        slot, read = ("votes", function.name, day), ("raw", "raw", day)
        raw = self.heads.get(read)
        if raw is None:
            return Wanted(slot, lambda: (read,))
        person = self.people.get(function.name)
        if person is None:
            recipe = recipes.votes_recipe(self.spec, day, function.name, function.fingerprint, raw)
            return Wanted(slot, lambda: (read,), recipe)
        rows = raw

        def with_answers(value: str) -> Recipe:
            said = recipes.people_input(person, day, value)
            return recipes.votes_recipe(
                self.spec, day, function.name, function.fingerprint, rows, (said,)
            )

        key = recipes.people_key(self.spec, person, self.annotations, raw)
        return Wanted(
            slot, lambda: (read,), None, (key, with_answers), f"what {person} answered on its rows"
        )

    def _learned_votes(self, day: str, function: Function) -> Wanted:
        days = self._labeling_window(day)
        slot: Slot = ("votes", function.name, day)
        gold, reads_votes = "gold" in function.needs, "votes" in function.needs

        def reads() -> Iterable[Slot]:
            yield from (("raw", "raw", day), ("embeddings", "embeddings", day))
            if reads_votes:
                yield from (("votes", other.name, day) for other in self.plain)
            if gold:
                yield from (("raw", "raw", other) for other in days[:-1])

        raw = self.heads.get(("raw", "raw", day))
        embeddings = self.heads.get(("embeddings", "embeddings", day))
        votes = self._votes(day, plain=True) if reads_votes else ()
        if raw is None or embeddings is None or votes is None:
            return Wanted(slot, reads)
        head, vectors, plain = raw, embeddings, votes

        def seeing(value: str) -> Recipe:
            extra = recipes.learned_inputs(day, function.needs, vectors, value, plain)
            return recipes.votes_recipe(
                self.spec, day, function.name, function.fingerprint, head, extra
            )

        if not gold:
            return Wanted(slot, reads, seeing(""))
        key, what = self._gold_key(day), "the gold rows it may read in its window"
        if reads_votes:
            known = {d: own for d in days if (own := self._votes_key(d)) is not None}
            key = recipes.exemplars_key(key, known)
            what = "the exemplars or their votes in its window"
        return Wanted(slot, reads, None, (key, seeing), what)

    def _label_model(self, day: str) -> Wanted:
        days = self._labeling_window(day)
        slot: Slot = ("label_model", "label_model", day)

        carried = self._carried(day)

        def reads() -> Iterable[Slot]:
            votes = chain.from_iterable(self._vote_slots(other) for other in reversed(days))
            return chain(votes, (("label_model", "label_model", other) for other in carried))

        votes: list[Head] = []
        for other in days:
            found = self._votes(other)
            if found is None and other == day:
                return Wanted(slot, reads)
            votes += found or []

        def with_gold(value: str) -> Recipe:
            before = self._have("label_model", "label_model", carried)
            return recipes.label_model_recipe(
                self.spec, day, votes, value, before[-1] if before else None
            )

        return Wanted(
            slot, reads, None, (self._gold_key(day), with_gold),
            "the gold rows it may read in its window",
        )  # fmt: skip

    def _weak_labels(self, day: str) -> Wanted:
        slot: Slot = ("weak_labels", "weak_labels", day)
        model: Slot = ("label_model", "label_model", day)
        read: Slot = ("raw", "raw", day)

        def reads() -> Iterable[Slot]:
            return (read, *self._vote_slots(day), model)

        raw, fitted = self.heads.get(read), self.heads.get(model)
        votes = self._votes(day)
        if raw is None or fitted is None or votes is None:
            return Wanted(slot, reads)
        recipe = recipes.weak_labels_recipe(self.spec, day, raw, votes, fitted)
        return Wanted(slot, reads, recipe)

    def _near_rules(self) -> list[NearDuplicatesRule]:
        return [rule for rule in self.spec.cleaning if isinstance(rule, NearDuplicatesRule)]

    def _noise_rules(self) -> list[LabelNoiseRule]:
        return [rule for rule in self.spec.cleaning if isinstance(rule, LabelNoiseRule)]

    def _shingles(self, day: str) -> Iterator[Wanted]:
        read: Slot = ("raw", "raw", day)
        raw = self.heads.get(read)
        for name, rule in {recipes.shingles_name(r): r for r in self._near_rules()}.items():
            slot: Slot = ("shingles", name, day)
            recipe = None
            if raw is not None:
                recipe = recipes.shingles_recipe(self.spec, day, raw, rule)
            yield Wanted(slot, lambda: (read,), recipe)

    def _cleaned(self, day: str) -> Wanted:
        rules = self.spec.cleaning
        widths = [rule.window_days for rule in rules if isinstance(rule, ExactDuplicatesRule)]
        before = self._window(day, max(widths) + 1)[:-1] if widths else []
        labels: Slot = ("weak_labels", "weak_labels", day)
        slot: Slot = ("cleaned", "cleaned", day)
        near: list[Slot] = [
            ("shingles", recipes.shingles_name(rule), other)
            for rule in self._near_rules()
            for other in self._window(day, rule.window_days + 1)
        ]

        for noise in self._noise_rules():
            days = self._window(day, noise.window_days + 1)
            near += [("embeddings", "embeddings", other) for other in days]
            near += [("weak_labels", "weak_labels", other) for other in days]
        for repair in (rule for rule in rules if isinstance(rule, MetadataRepairRule)):
            days = self._window(day, repair.window_days + 1)
            near += [("raw", "raw", other) for other in days]

        def reads() -> Iterable[Slot]:
            return (labels, *(("raw", "raw", other) for other in before), *near)

        head = self.heads.get(labels)
        if head is None:
            return Wanted(slot, reads)
        today = head

        def with_seen(value: str) -> Recipe:
            return recipes.cleaned_recipe(self.spec, day, today, value, self.reviews.get(day))

        key = recipes.seen_key(
            self.spec, today, self._have("raw", "raw", before),
            [found for other in near if (found := self.heads.get(other)) is not None],
        )  # fmt: skip
        return Wanted(slot, reads, None, (key, with_seen), "the texts of the days before")

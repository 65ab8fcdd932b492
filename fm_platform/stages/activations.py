"""What the frozen layers give for the texts of each cleaned day, computed once for each text."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from fm_platform.errors import CorruptArtifactError, MissingArtifactError
from fm_platform.lineage import ArtifactVersion, Produced, Recipe, RunContext
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.training_recipes import activations_recipe
from fm_platform.numerics import reproducible
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.common import Reporter
from fm_platform.store.ragged import Ragged, Writer
from fm_platform.training.base_model import BaseModel, resolve_base_model
from fm_platform.training.data import tokenize
from fm_platform.training.prefix import Half, key_of, prefix_states
from fm_platform.workspace import Workspace

_LOG = logging.getLogger(__name__)


class DayStates:
    """The states of several days as one; the newest day is asked first."""

    def __init__(self, days: Sequence[Ragged]) -> None:
        self._days = list(reversed(days))
        self._held: dict[bytes, Ragged] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._held or any(key in day for day in self._days)

    def get(self, key: bytes) -> Half | None:
        """Return float16[tokens, width]; None where no day has the text.

        Raises:
            CorruptArtifactError: If its bytes differ from what was written.
        """
        if key not in self._held:
            found = next((day for day in self._days if key in day), None)
            if found is None:
                return None
            self._held[key] = found
        return self._held[key].get(key)


class MoreStates:
    """The states of days, and of texts that belong to none of them."""

    def __init__(self, days: DayStates, more: Mapping[bytes, Half]) -> None:
        self._days, self._more = days, more

    def get(self, key: bytes) -> Half | None:
        """Return float16[tokens, width]; None where the text is not known."""
        found = self._more.get(key)
        return self._days.get(key) if found is None else found


class Activations:
    """States below layer `frozen` of the rows of `cleaned`: an artifact a day."""

    def __init__(
        self, ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter, frozen: int
    ) -> None:
        self.ws, self.project, self.run, self.log, self.frozen = ws, project, run, log, frozen

    @cached_property
    def base(self) -> BaseModel:
        """The base model of the project."""
        return resolve_base_model(self.project.spec.base_model, self.project.directory)

    @cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer."""
        return self.base.tokenizer()

    def of_days(self, days: Sequence[ArtifactVersion]) -> DayStates:
        """Return the states of all texts of these days; only new texts are computed.

        Raises:
            TrainingError: If as many layers cannot be frozen, or their states do not fit.
        """
        names = [self.version(day).location["states"] for day in days if day.rows]
        return DayStates([self.ws.states.open(str(name)) for name in names])

    def with_texts(self, days: DayStates, texts: Sequence[str]) -> MoreStates:
        """Return the states of days and of these texts; those of no day are computed, not kept."""
        limit = self.project.spec.training.max_tokens
        tokens = {key_of(ids): ids for ids in tokenize(self.tokenizer, texts, limit)}
        rest = {key: ids for key, ids in sorted(tokens.items()) if key not in days}
        keys = list(rest)
        with reproducible(self.project.spec.training.threads):
            found = prefix_states(self.base, self.frozen, [rest[key] for key in keys])
            return MoreStates(days, {keys[at]: rows for at, rows in found})

    def heal(self, days: Sequence[ArtifactVersion]) -> int:
        """Compute again what is damaged, and only that; return how many texts.

        The damaged files stay as evidence beside the store.
        """
        healed = 0
        for day in days:
            if not day.rows:
                continue
            name = str(self.version(day).location["states"])
            held = self.ws.states.open(name)
            bad = set(held.damage())
            if not bad:
                continue
            found = ((key, held.get(key)) for key in held.keys() if key not in bad)  # noqa: SIM118
            good = [(key, rows) for key, rows in found if rows is not None]
            texts = self._texts(day)
            _LOG.warning("%d cached states of %s are damaged: computed again", len(bad), day.name)
            with self.ws.states.writer(held.width) as writer:
                for key, rows in good:
                    writer.add(key, rows)
                self._compute(writer, {key: texts[key] for key in bad}, str(day.partition))
                self.ws.states.quarantine(name)
                writer.finish()
            healed += len(bad)
        return healed

    def version(self, cleaned: ArtifactVersion) -> ArtifactVersion:
        """Return the states of one day, building them where they are missing."""
        recipe = activations_recipe(self.project.spec, cleaned, self.base.content_hash, self.frozen)

        def compute(lease: Lease) -> Produced:
            texts = self._texts(cleaned)
            before = self._before(recipe)
            with self.ws.states.writer(self._width) as writer:
                known = self._carry(writer, before, texts)
                rest = {key: text for key, text in texts.items() if key not in known}
                self._compute(writer, rest, str(cleaned.partition))
                self.ws.ledger.check_lease(lease)
                content = writer.finish()
            size = self.ws.states.size(content)
            numbers = {"texts": len(texts), "computed": len(rest), "bytes": size}
            return Produced(content, {"states": content}, len(texts), size, {"numbers": numbers})

        return tables.build(self.ws, recipe, compute, self.run).version

    @property
    def _width(self) -> int:
        return self.base.hidden_size

    def _texts(self, cleaned: ArtifactVersion) -> dict[bytes, list[int]]:
        """Return key -> token ids of the distinct texts of a day, in order of the key."""
        rows = tables.read(self.ws, cleaned, "cleaned", ["text"])
        limit = self.project.spec.training.max_tokens
        tokens = tokenize(self.tokenizer, rows["text"].to_pylist(), limit)
        return dict(sorted({key_of(ids): ids for ids in tokens}.items()))

    def _before(self, recipe: Recipe) -> Ragged | None:
        """Return what this day had before, where it was made the same way of other rows."""
        kind, name, day = recipe.slot
        held = self.ws.ledger.latest(recipe.project, kind, name, day)
        if held is None or (held.code, held.environment) != (recipe.code, recipe.environment):
            return None
        bases = [i.content_hash for i in held.inputs if i.role == "base_model"]
        wanted = [i.content_hash for i in recipe.inputs if i.role == "base_model"]
        if dict(held.config) != dict(recipe.config) or bases != wanted:
            return None
        try:
            return self.ws.states.open(str(held.location["states"]))
        except (CorruptArtifactError, MissingArtifactError) as error:
            _LOG.warning("cached states are not used: %s", error.message)
            return None

    @staticmethod
    def _carry(
        writer: Writer, before: Ragged | None, texts: Mapping[bytes, list[int]]
    ) -> set[bytes]:
        """Write what is known already; a damaged entry is not known."""
        known: set[bytes] = set()
        for key in texts if before is not None else ():
            try:
                rows = before.get(key) if before is not None else None
            except CorruptArtifactError:
                continue  # it is computed again, as if it were new
            if rows is not None:
                writer.add(key, rows)
                known.add(key)
        return known

    def _compute(self, writer: Writer, texts: Mapping[bytes, list[int]], day: str) -> None:
        keys = list(texts)

        def told(done: int, total: int) -> None:
            self.log.progress(f"frozen layers {day}", done, total)

        with reproducible(self.project.spec.training.threads):
            found = prefix_states(self.base, self.frozen, [texts[k] for k in keys], told)
            for position, rows in found:
                writer.add(keys[position], rows)

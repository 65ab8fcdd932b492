"""A project that is built without computing anything: contents are names.

`Simulation.run()` goes through all slots in build order and records what is not there, in one
transaction, so that histories of many days are made quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from fm_platform.hashing import fingerprint
from fm_platform.lineage import recipes, rows, schema
from fm_platform.lineage.database import now
from fm_platform.lineage.fingerprints import code_stands_still, described
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import Head, Produced, Recipe, RunContext, Slot
from fm_platform.lineage.status import StatusRow, plan, status
from fm_platform.lineage.wanted import Probe, Wants
from fm_platform.spec.models import ProjectSpec

DERIVED_KINDS = ("cleaned", "label_model", "votes")


@dataclass(frozen=True)
class Function:
    name: str
    fingerprint: str
    needs: tuple[str, ...] = ()


def make_spec(
    days: int = 4, sources: tuple[str, ...] = ("mail", "chat"), **more: Any
) -> ProjectSpec:
    fields: dict[str, Any] = {
        "name": "shop",
        "taxonomy": {"classes": ["good", "bad"]},
        "calendar": {
            "start": "2026-01-01",
            "end": (date(2026, 1, 1) + timedelta(days=days - 1)).isoformat(),
        },
        "sources": [{"name": name} for name in sources],
        "experts": [{"name": name, "sources": [name]} for name in sources],
    }
    return ProjectSpec(**{**fields, **more})


class Simulation:
    """A ledger, a spec, and a world that can be changed."""

    def __init__(
        self, ledger: Ledger, spec: ProjectSpec, functions: int = 2, learning: int = 1
    ) -> None:
        self.ledger, self.spec = ledger, spec
        start, end = spec.calendar.start, spec.calendar.end or spec.calendar.start
        self.days = [(start + timedelta(days=n)).isoformat() for n in range((end - start).days + 1)]
        self.sources = {
            (source.name, day): f"{source.name} {day}"
            for source in spec.sources
            for day in self.days
        }
        self.functions = [Function(f"plain_{n}", f"source of plain_{n}") for n in range(functions)]
        self.functions += [
            Function(f"learned_{n}", f"source of learned_{n}", ("gold", "votes"))
            for n in range(learning)
        ]
        self.base = "base model"
        self.same_content: dict[Slot, str] = {}
        self.made: list[Slot] = []

    @property
    def probe(self) -> Probe:
        return Probe(
            days=lambda: self.days,
            source_ids=lambda day: {s: i for (s, d), i in self.sources.items() if d == day},
            functions=lambda: self.functions,
            base=lambda: self.base,
        )

    def status(self) -> list[StatusRow]:
        return status(self.ledger, self.spec, self.probe)

    def plan(self) -> list[StatusRow]:
        return plan(self.ledger, self.spec, self.probe)

    def row(self, kind: str, name: str | None = None, day: str | None = None) -> StatusRow:
        """Return the status of one slot."""
        slot = (kind, name or kind, day)
        return next(r for r in self.status() if (r.kind, r.name, r.partition) == slot)

    def states(self) -> dict[str, set[str]]:
        """Return state -> kinds that have an artifact in that state."""
        found: dict[str, set[str]] = {}
        for row in self.status():
            found.setdefault(row.state, set()).add(row.kind)
        return found

    def edit(self, name: str, source: str) -> None:
        """Edit a labeling function."""
        self.functions = [
            replace(f, fingerprint=source) if f.name == name else f for f in self.functions
        ]

    def run(self, only: set[str] | None = None) -> list[Slot]:
        """Build or reuse every slot (of some kinds); return those that were computed."""
        heads = {head.slot: head for head in self.ledger.heads(self.spec.name)}
        self.made = []
        wants = Wants(
            self.spec, heads, self.probe,
            lambda merged: self.ledger.rival(self.spec.name, "champion", merged),
        )  # fmt: skip
        derived: dict[str, str] = {}
        with code_stands_still(), self.ledger._write() as connection:
            for wanted in wants:
                if only is not None and wanted.slot[0] not in only:
                    continue
                recipe = wanted.recipe
                if wanted.derive is not None:
                    key, made_of = wanted.derive
                    derived[key] = self._summary(key, wanted.slot)
                    recipe = made_of(derived[key])
                assert recipe is not None, wanted.slot
                heads[wanted.slot] = self._build(connection, recipe)
            known = set(connection.scalars(schema.sa.select(schema.derived.c.key)))
            fresh = [{"key": k, "value": v} for k, v in derived.items() if k not in known]
            if fresh:
                connection.execute(schema.derived.insert(), fresh)
        return self.made

    def _summary(self, key: str, slot: Slot) -> str:
        return self.same_content.get(("derived", *slot[:1], slot[2]), fingerprint(key))

    def _build(self, connection: Any, recipe: Recipe) -> Head:
        v = schema.versions.c
        row = connection.execute(schema.sa.select(v.id).where(v.recipe_hash == recipe.hash)).first()
        if row is None:
            self.made.append(recipe.slot)
            produced = self._produce(recipe)
            at = now()
            version_id = rows.insert_version(
                connection, recipe, produced, RunContext(), at, at, "-"
            )
            self.ledger._remember(connection, described((recipe.code, recipe.environment)))
        else:
            version_id = row.id
        rows.put_in_use(connection, recipe, version_id)
        fields = [v[name] for name in Head.__dataclass_fields__]
        values = list(connection.execute(schema.sa.select(*fields).where(v.id == version_id)).one())
        values[3] = values[3] or None
        return Head(*values)

    def _produce(self, recipe: Recipe) -> Produced:
        content = self.same_content.get(recipe.slot, fingerprint(["content", recipe.hash]))
        return Produced(content, {}, rows=10, parts=self._parts(recipe, content))

    def _parts(self, recipe: Recipe, content: str) -> Mapping[str, str]:
        names = [source.name for source in self.spec.sources]
        if recipe.kind == "votes":
            return recipes.taxonomy_part(recipe.config["classes"])
        if recipe.kind == "raw":
            # the gold table of a day follows from the gold of the sources: here, from their names
            return {"gold": fingerprint(["gold", recipe.partition])}
        if recipe.kind == "weak_labels":
            return {split: fingerprint([split, content]) for split in ("train", "dev", "test")}
        if recipe.kind == "cleaned":
            own = {name: fingerprint([name, content]) for name in names}
            return {**own, "dev": fingerprint(["dev", content])}
        return {}

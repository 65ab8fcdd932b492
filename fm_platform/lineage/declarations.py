"""What a project declared at each moment, and what of it mattered to which artifact.

Every run records a definition (`stages.definition`). A version in use at a time is stale when
what was declared then differs, in what matters to it, from what was declared when it was made.
Both sides are read with today's rules of what matters (`lineage.configs`), so a new release of
the platform does not make the past look stale.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from fm_platform.hashing import canonical_json
from fm_platform.lineage import choosing_base, configs
from fm_platform.lineage.causes import Before, contents_of, differences
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion, Input, Recipe, Slot
from fm_platform.spec.models import ProjectSpec

__all__ = ["Declarations", "Declared"]

_READS_BASE = ("embeddings", "activations", "start", "merged_model")
_SEEDED = ("start", "adapter", "merged_model")
_BASE_CHOICE = ("choice", choosing_base.NAME)


@dataclass(frozen=True)
class Declared:
    """One recorded definition.

    Attributes:
        version: Its record.
        spec: The project file.
        inputs: Role -> name -> hash: `function`, `code`, `environment`, `base_model`, ….
    """

    version: ArtifactVersion
    spec: ProjectSpec
    inputs: Mapping[str, Mapping[str, str]]

    @property
    def commit(self) -> str:
        """In words, the commit that it came with; empty where that is not known."""
        if not self.version.git_commit:
            return ""
        changed = " with uncommitted changes" if self.version.git_dirty else ""
        return f" at commit {self.version.git_commit[:7]}{changed}"


@dataclass
class Declarations:
    """The definitions of a project up to a moment; each is loaded when it is first needed."""

    ledger: Ledger
    project: str
    at: datetime | None = None
    _ids: list[int] = field(default_factory=list)
    _timelines: dict[str, tuple[list[datetime], list[int]]] = field(default_factory=dict)
    _known: dict[int, Declared | None] = field(default_factory=dict)
    _specs: dict[str, ProjectSpec] = field(default_factory=dict)
    _lenses: dict[tuple[Any, ...], Recipe | None] = field(default_factory=dict)
    _told: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ids = self._timeline(self.ledger.scope(self.project, self.at))[1]

    @property
    def now(self) -> Declared | None:
        """What was declared last; None where no definition is recorded."""
        return self._load(self._ids[-1]) if self._ids else None

    def changes(self, slot: Slot, made_at: datetime, made_in: str = "") -> str:
        """Return what changed in the declaration since a version was made; empty where nothing.

        Versions made before the first recorded definition are not judged.

        Args:
            slot: What it is a version of.
            made_at: When it was made.
            made_in: Namespace of the branch that it was made on; empty: on main.
        """
        since, ids = self._timeline(made_in or self.project)
        position = bisect_right(since, made_at) - 1
        if position < 0 or not self._ids or ids[position] == self._ids[-1]:
            return ""
        key = (ids[position], *slot[:2], self._begun(slot))
        if key not in self._told:
            self._told[key] = self._compare(ids[position], slot)
        return self._told[key]

    def _timeline(self, scope: str) -> tuple[list[datetime], list[int]]:
        """Return since when which definition was in use in a universe, up to the moment."""
        if scope not in self._timelines:
            held = [
                use
                for use in self.ledger.uses(self.project, "spec", "spec", scope=scope)
                if self.at is None or use.since <= self.at
            ]
            self._timelines[scope] = ([u.since for u in held], [u.version_id for u in held])
        return self._timelines[scope]

    def _compare(self, definition_id: int, slot: Slot) -> str:
        before, after = self._load(definition_id), self.now
        if before is None or after is None:
            return ""
        old, new = self._lens(before, slot), self._lens(after, slot)
        if old is None:
            return ""
        where = self._changed_at(definition_id, slot, new)
        if new is None:
            what = f"labeling function {slot[1]}" if slot[0] == "votes" else f"{slot[0]} {slot[1]}"
            return f"{what} is no longer declared{where}"
        if old.hash == new.hash:
            return ""
        made = Before(contents_of(old.inputs), old.config, old.code, old.environment, old.seed)
        return differences(made, new, self.ledger.document, lambda _what: where)

    def _changed_at(self, made_by: int, slot: Slot, new: Recipe | None) -> str:
        """Return the commit of the definition that first said what is said now."""
        first = self.now
        for version_id in reversed(self._ids):
            if version_id == made_by:
                break
            declared = self._load(version_id)
            if declared is None:
                continue
            lens = self._lens(declared, slot)
            if (lens and lens.hash) != (new and new.hash):
                break
            first = declared
        return first.commit if first else ""

    def _load(self, version_id: int) -> Declared | None:
        if version_id not in self._known:
            listed = dict.fromkeys([version_id, *self._ids])
            missing = [i for i in listed if i not in self._known]
            wanted = missing if len(missing) < 100 else [version_id]
            for version in self.ledger.get_many(wanted):
                self._known[version.id] = self._declared(version)
        return self._known[version_id]

    def _declared(self, version: ArtifactVersion) -> Declared | None:
        text = canonical_json(version.config)
        try:
            spec = self._specs.get(text) or ProjectSpec.model_validate(version.config)
        except ValidationError:  # declared for another release: what mattered is not known
            return None
        self._specs[text] = spec
        inputs: dict[str, dict[str, str]] = {}
        for item in version.inputs:
            inputs.setdefault(item.role, {})[item.name] = item.content_hash
        return Declared(version, spec, inputs) if "code" in inputs else None

    def _begun(self, slot: Slot) -> tuple[str, ...]:
        """Return the sources that matter to a day of raw: those that have begun."""
        now = self.now
        if slot[0] != "raw" or now is None:
            return ()
        return tuple(_begun(now.spec, slot[2]))

    def _lens(self, declared: Declared, slot: Slot) -> Recipe | None:
        """Return what matters to a slot, as a recipe without data; None: not declared."""
        kind, name, day = slot
        key = (declared.version.id, kind, name, self._begun(slot))
        if key not in self._lenses:
            self._lenses[key] = self._look(declared, kind, name, day)
        return self._lenses[key]

    def _look(self, declared: Declared, kind: str, name: str, day: str | None) -> Recipe | None:
        spec, functions = declared.spec, declared.inputs.get("function", {})
        config = _config(spec, kind, name, day, functions)
        if config is None:
            return None
        learns = kind == "votes" and self._learns(functions[name])
        works_as = "exemplar_votes" if learns else kind
        if (kind, name) == _BASE_CHOICE:
            works_as = "base_choice"
        reads = _bases(declared, kind, name)
        seed = spec.training.seed if kind in _SEEDED or learns else None
        return Recipe(
            spec.name, kind, name, day if kind == "raw" else None,
            reads, declared.inputs.get("code", {}).get(works_as, ""), config,
            declared.inputs.get("environment", {}).get(works_as, ""),
            spec.evaluation.seed if kind == "evaluation" else seed,
        )  # fmt: skip

    def _learns(self, fingerprint: str) -> bool:
        document = self.ledger.document(fingerprint)
        return isinstance(document, Mapping) and document.get("needs", []) not in ([], "rows")


def _bases(declared: Declared, kind: str, name: str) -> tuple[Input, ...]:
    """Return the base models that an artifact reads by declaration.

    Where one of several is chosen, the candidates matter to the choice, and models follow it.
    """
    chosen = bool(declared.spec.base_model.candidates)
    if (kind, name) == _BASE_CHOICE:
        found = sorted(declared.inputs.get("candidate", {}).items())
        return tuple(Input("candidate", label, None, content) for label, content in found)
    base = declared.inputs.get("base_model", {}).get("base_model")
    if base is None or kind not in _READS_BASE or (chosen and kind != "embeddings"):
        return ()
    return (Input("base_model", "base_model", None, base),)


def _begun(spec: ProjectSpec, day: str | None) -> list[str]:
    first = spec.calendar.start
    return [s.name for s in spec.sources if (s.starts or first).isoformat() <= str(day)]


def _config(
    spec: ProjectSpec, kind: str, name: str, day: str | None, functions: Mapping[str, str]
) -> configs.Config | None:
    """Return the settings that matter to an artifact; None where it is not declared."""
    names: Sequence[str] = sorted(functions)
    experts = {expert.name: sorted(expert.sources) for expert in spec.experts}
    if kind == "votes":
        return configs.votes(spec, functions[name]) if name in functions else None
    if kind == "adapter":
        if name not in experts:
            return None
        return {**configs.trained(spec), "sources": experts[name]}
    if kind == "raw":
        return configs.raw(spec, _begun(spec, day))
    if kind == "merged_model":
        chosen = {"base_model": "as chosen"} if spec.base_model.candidates else {}
        return {**configs.merged_model(spec), "experts": list(experts), **chosen}
    if (kind, name) == _BASE_CHOICE:
        return choosing_base.config(spec, {}) if spec.base_model.candidates else None
    if kind == "evaluation":
        return {**configs.evaluation(spec), "experts": list(experts)}
    if kind == "label_model":
        return configs.label_model(spec, names)
    if kind == "weak_labels":
        return configs.weak_labels(spec, names)
    plain = {
        "embeddings": configs.embeddings, "cleaned": configs.cleaned,
        "activations": configs.activations, "replay": configs.replay, "start": configs.trained,
    }  # fmt: skip
    return plain[kind](spec) if kind in plain else {}

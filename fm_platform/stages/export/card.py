"""The model card of a version, from the ledger: nothing is typed, and nothing is guessed.

What the ledger does not know is an error that names the field and where it would come from. The
licence and the languages are those of the base model's own card, read only if its files are the
recorded ones, unless the project declares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fm_platform.errors import BaseModelError, FMError, TrackingError
from fm_platform.lineage.records import ArtifactVersion, Input
from fm_platform.lineage.refs import version_name
from fm_platform.spec.models import BaseModelSpec, ProjectSpec
from fm_platform.stages.definition import read_definition
from fm_platform.stages.diff.answers import Judged, judged
from fm_platform.tracking.model_card import base_card, languages
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.evaluation.table import EvaluationTable
    from fm_platform.tracking.model_card import CardExpert, CardFunction, CardInput

_SYSTEM = "merged_model"


def model_card(
    ws: Workspace,
    model: ArtifactVersion,
    project_dir: Path | None = None,
    at: datetime | None = None,
) -> str:
    """Return the card of a merged model in the form of the Hugging Face hub.

    Args:
        ws: The ledger and the stores.
        model: A merged model, with its inputs.
        project_dir: Where the project lies, if it is there: a base model may be named from it.
        at: Nothing that was recorded later is told; None: all that is known now.

    Raises:
        FMError: If it is no merged model.
        TrackingError: If a required field is not known; all of them are named.
    """
    from fm_platform.tracking.model_card import ModelCardInputs, write_card

    if model.kind != "merged_model":
        raise FMError(
            "only a merged model has a card", found=f"{model.kind} {version_name(model)}",
            next_step="name a merged model, e.g. champion",
        )  # fmt: skip
    if model.config.get("task") == "causal":
        raise FMError(
            "a causal model has no card: it tells of classes and labels, and there are none",
            found=version_name(model), next_step="leave it out with --format openlineage",
        )  # fmt: skip
    known = _Known(ws, model, project_dir or Path(), at)
    fields = known.fields()
    if known.missing:
        raise TrackingError(
            "a model card needs values that are not known",
            where=version_name(model),
            expected="\n    ".join(["", *(f"{n}: {how}" for n, how in known.missing.items())]),
            next_step=f"declare what is missing, fm run {model.project}, and export again; "
            "--format openlineage leaves the card out",
        )
    return write_card(ModelCardInputs(**fields))


@dataclass
class _Known:
    """What the ledger says about one model, and what it does not."""

    ws: Workspace
    model: ArtifactVersion
    project_dir: Path
    at: datetime | None = None
    missing: dict[str, str] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """Return the fields of the card; `missing` then names those that are not known."""
        model, spec = self.model, self.definition()
        base = next((i for i in model.inputs if i.role == "base_model"), None)
        own = self.own_card(spec, None if base is None else base.content_hash)
        evaluation, table = self.evaluation()
        location = str(model.config.get("base_model") or "")
        commit = model.git_commit
        if commit is not None and model.git_dirty:
            commit += " with changes that no commit holds"
        return {
            "project": model.project,
            "description": self.need(
                "description", model.config.get("description"), "description in the project file"
            ),
            "classes": tuple(self.need("classes", model.config.get("classes"), "the recipe") or ()),
            "taxonomy_version": spec and spec.taxonomy.version,
            "base_model": self.need(
                "base_model", location and BaseModelSpec(location=location).public, "the recipe"
            ),
            "base_model_hash": self.need(
                "base_model_hash", base and base.content_hash, "the recipe"
            ),
            "language": self.need("language", languages(spec, own), _HOW["language"]),
            "license": self.need(
                "license", self.declared_license(spec, base) or own.get("license"), _HOW["license"]
            ),
            "recipe_hash": model.recipe_hash,
            "merge_method": self.need(
                "merge_method", model.config.get("merge", {}).get("method"), "the recipe"
            ),
            "experts": self.need("experts", self.experts(), "weights recorded by the merge"),
            "inputs": self.need("inputs", self.data(), "cleaned days among the inputs"),
            "functions": self.functions(),
            "git_commit": self.need("git_commit", commit, "a build from a git checkout"),
            "created_at": model.created_at.isoformat(),
            "training_method": model.config.get("training", {}).get("method", "lora"),
            "evaluation": table,
            "evaluation_hash": evaluation and evaluation.content_hash,
            "limits": () if table is None else limits(table),
        }

    def need(self, name: str, value: Any, how: str) -> Any:
        """Return a value; without one remember that it is missing, and where it comes from."""
        if value is None or value == () or (isinstance(value, str) and not value.strip()):
            self.missing[name] = how
        return value

    def definition(self) -> ProjectSpec | None:
        """Return the spec in use when the model was made."""
        model = self.model
        found = self.ws.ledger.latest(model.project, "spec", "spec", at=model.created_at)
        if found is None or "model" not in found.location:
            self.missing["taxonomy_version"] = "a run records it: fm run " + model.project
            return None
        return read_definition(self.ws, found).spec

    def declared(self, spec: ProjectSpec) -> BaseModelSpec:
        """Return the declaration of the base that the model was made of."""
        return spec.base_model.at(str(self.model.config.get("base_model") or ""))

    def declared_license(self, spec: ProjectSpec | None, base: Input | None) -> str | None:
        """Return the licence of the base as declared last, or when the model was made.

        What is declared later counts where it is of the very same base: it makes no new model.
        """
        last = self.ws.ledger.latest(self.model.project, "spec", "spec", at=self.at)
        specs = [] if spec is None else [spec]
        if last is not None and base is not None and any(
            item.role in ("base_model", "candidate") and item.content_hash == base.content_hash
            for item in last.inputs
        ):  # fmt: skip
            specs.insert(0, ProjectSpec.model_validate(last.config))
        return next((told for told in (self.declared(s).license for s in specs) if told), None)

    def own_card(self, spec: ProjectSpec | None, recorded: str | None) -> Mapping[str, Any]:
        """Return what the base model's own card says, if its files are the recorded ones."""
        declared = self.declared(spec) if spec is not None else None
        if declared is None:
            location = str(self.model.config.get("base_model") or "")
            declared = BaseModelSpec(location=location) if location else None
        if declared is None or recorded is None:
            return {}
        try:
            base = resolve_base_model(declared, self.project_dir)
        except BaseModelError:
            return {}
        return base_card(base.directory) if base.content_hash == recorded else {}

    def evaluation(self) -> tuple[ArtifactVersion | None, EvaluationTable | None]:
        """Return the newest evaluation in which the model was the one to be judged."""
        from fm_platform.evaluation.table import EvaluationTable

        listed = self.ws.ledger.versions(self.model.project, "evaluation")
        known = self.ws.ledger.get_many(
            [v.id for v in listed if self.at is None or v.created_at <= self.at]
        )
        found: list[Judged] = [j for j in judged(known, self.model) if j.system == _SYSTEM]
        if not found:
            self.missing["evaluation"] = f"fm run {self.model.project} evaluates the model in use"
            return None, None
        version = found[0].evaluation
        return version, EvaluationTable.from_json(version.metrics["evaluation"])

    def experts(self) -> tuple[CardExpert, ...]:
        """Return what was merged, with the sources each expert read."""
        from fm_platform.tracking.model_card import CardExpert

        weights = self.model.metrics.get("weights", {})
        ids = [i.version_id for i in self.model.inputs if i.role == "adapter" and i.version_id]
        found = self.ws.ledger.get_many(ids)
        if not weights or {a.name for a in found} != set(weights):
            return ()
        return tuple(
            CardExpert(
                adapter.name, tuple(sorted({i.part for i in adapter.inputs if i.part})),
                float(weights[adapter.name]), adapter.content_hash,
            )
            for adapter in sorted(found, key=lambda a: a.name)
        )  # fmt: skip

    def data(self) -> tuple[CardInput, ...]:
        """Return the days behind the model, with their content hashes."""
        from fm_platform.tracking.model_card import CardInput

        return tuple(
            CardInput(f"{day.name}/{day.partition}", day.content_hash, day.rows)
            for day in self._days()
        )

    def functions(self) -> tuple[CardFunction, ...]:
        """Return the labeling functions behind the labels of the last day."""
        from fm_platform.tracking.model_card import CardFunction

        days = self._days()
        if not days:
            return ()
        labels = self._made_from(self._made_from(days[-1:], "weak_labels"), "label_model")
        records = labels[-1].metrics.get("functions", []) if labels else []
        return tuple(
            CardFunction(f["function"], f["coverage"], f["dev_accuracy"], f["low"], f["high"])
            for f in records
            if f["group"] == "all"
        )

    def _days(self) -> list[ArtifactVersion]:
        found = self._made_from([self.model], "data")
        return sorted(found, key=lambda version: str(version.partition))

    def _made_from(self, versions: list[ArtifactVersion], role: str) -> list[ArtifactVersion]:
        ids = [i.version_id for v in versions for i in v.inputs if i.role == role and i.version_id]
        return self.ws.ledger.get_many(ids)


_HOW = {
    "license": "base_model.license in the project file, or a license in the base model's card",
    "language": "a language rule under cleaning, or a language in the base model's card",
}


def limits(table: EvaluationTable) -> tuple[str, ...]:
    """Return where the model is weaker than its average, or than something simpler.

    Only differences beyond the intervals count: the interval of a slice lies below the overall
    value, or below that of another system.
    """
    from fm_platform.evaluation.metrics import ALL

    overall = table.get(_SYSTEM)
    if overall is None:
        return ()
    found = []
    for row in table.rows:
        if row.system != _SYSTEM or row.source == ALL:
            continue
        mine = row.f1_weighted
        told = f"{mine.value:.3f} ({mine.low:.3f} to {mine.high:.3f})"
        if mine.high < overall.f1_weighted.value:
            found.append(
                f"It is weaker on {row.source} than on average: support-weighted F1 {told} "
                f"against {overall.f1_weighted.value:.3f}, on {row.n} rows."
            )
        for other in table.rows:
            better = other.source == row.source and other.f1_weighted.low > mine.high
            if better and other.system not in (_SYSTEM, "human"):
                found.append(
                    f"On {row.source} {other.system} is better: {other.f1_weighted.value:.3f} "
                    f"against {told}."
                )
    return tuple(found)

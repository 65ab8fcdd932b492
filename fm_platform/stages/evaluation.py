"""`evaluation`: every system on the same gold test rows, and the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import EvaluationError
from fm_platform.hashing import fingerprint
from fm_platform.lineage import ArtifactVersion, Produced, Recipe, RunContext
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.recipes import evaluation_recipe
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.common import (
    CheckResult,
    Reporter,
    StageResult,
    stage_result,
    summary,
)
from fm_platform.stages.decision import decide, previous_champion
from fm_platform.stages.held_out import HeldOut, held_out
from fm_platform.stages.models import load_plot, required, rows_of, save_plot, training_days
from fm_platform.stages.requirements import tested, timed
from fm_platform.stages.window import last_built_day, window
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.evaluation.behaviour import BehaviourResult
    from fm_platform.evaluation.gate import GateDecision
    from fm_platform.evaluation.metrics import SystemPredictions
    from fm_platform.evaluation.table import EvaluationTable

ABSTAIN = -1
_REFERENCE_ROWS = 2_000  # training rows that the report shows the model's answers on


def build_evaluation(
    ws: Workspace,
    project: LoadedProject,
    run: RunContext,
    log: Reporter,
    twin: ArtifactVersion | None = None,
) -> StageResult:
    """Evaluate the merged model beside everything it must beat, and decide.

    With a `twin`, the same evaluation elsewhere, what was timed there is not timed again.

    Raises:
        EvaluationError: If there are no gold test rows.
        MissingArtifactError: If the merged model is not built.
    """
    spec = project.spec
    merged = required(ws, spec, "merged_model", "merged_model", "the merged model")
    adapters = [
        required(ws, spec, "adapter", expert.name, f"the adapter of expert {expert.name}")
        for expert in spec.experts
    ]
    start = required(ws, spec, "start", "shared_start", "the shared start of the experts")
    champion = previous_champion(ws, spec.name, merged)
    last = last_built_day(ws, spec, "weak_labels", "weak_labels") or ""
    width = spec.training.window_days
    labels = window(ws, spec, "weak_labels", "weak_labels", last, width)
    raws = window(ws, spec, "raw", "raw", last, width)
    trained = training_days(ws, spec)
    recipe = evaluation_recipe(spec, merged, start, adapters, champion, labels, raws, trained)

    def compute(lease: Lease) -> Produced:
        rows = held_out(ws, spec, labels, raws, trained, f"evaluation-{recipe.hash[:16]}")
        return _Evaluation(ws, project, merged, start, adapters, champion, labels, rows, log).write(
            recipe, lease, twin
        )

    built = tables.build(ws, recipe, compute, run)
    decide(ws, built.version, merged, champion, run, spec.gate.canary)
    return stage_result(built, load_plot(ws, built.version))


class _Evaluation:
    """One evaluation: rows, systems, table, gate, report."""

    def __init__(
        self,
        ws: Workspace,
        project: LoadedProject,
        merged: ArtifactVersion,
        start: ArtifactVersion,
        adapters: list[ArtifactVersion],
        champion: ArtifactVersion | None,
        labels: list[ArtifactVersion],
        held: HeldOut,
        log: Reporter,
    ) -> None:
        self.ws, self.project, self.spec = ws, project, project.spec
        self.merged, self.start, self.adapters, self.champion = merged, start, adapters, champion
        self.labels, self.log = labels, log
        self.classes = list(self.spec.taxonomy.classes)
        self.rows, self.held = held.rows, held
        if self.rows.num_rows == 0:
            raise EvaluationError(
                "there are no gold test rows to evaluate on",
                expected="labels of people for some rows of the test split",
                where=f"gold table of {self.spec.name}",
                next_step="declare `gold.column`, the column that holds people's labels",
            )
        index = {name: i for i, name in enumerate(self.classes)}
        self.gold: npt.NDArray[np.int64] = np.array(
            [index[label] for label in self.rows["gold"].to_pylist()], np.int64
        )
        self.sources = self.rows["source"].to_pylist()

    def systems(self) -> dict[str, SystemPredictions]:
        """Return the predictions of every system on the test rows."""
        found = {"merged_model": self._model(self.merged)}
        if self.champion is not None:
            found["champion"] = self._answers(self.champion)
        for adapter in self.adapters:
            found[f"expert:{adapter.name}"] = self._model(adapter)
        if self.spec.evaluation.router:
            found["router"] = self._routed(found)
        found["shared_start"] = self._model(self.start)  # one model trained on every source
        found |= self._weak()
        found |= self._baselines()
        human = self._human()
        return found | ({} if human is None else {"human": human})

    def _model(self, version: ArtifactVersion) -> SystemPredictions:
        from fm_platform.evaluation.metrics import SystemPredictions

        probabilities = self._probabilities(version, self.rows["text"].to_pylist())
        return SystemPredictions(probabilities.argmax(axis=1), probabilities)

    def _routed(self, found: dict[str, SystemPredictions]) -> SystemPredictions:
        """Return what the experts say together, each where a text is of its kind."""
        from fm_platform.evaluation.metrics import SystemPredictions
        from fm_platform.merging.router import Router, compose

        trained = rows_of(self.ws, training_days(self.ws, self.spec), "train")
        owner = {
            source: expert.name for expert in reversed(self.spec.experts)
            for source in expert.sources
        }  # fmt: skip
        trained = trained.filter(pc.is_in(trained["source"], pa.array(sorted(owner))))
        router = Router(
            trained["text"].to_pylist(), [owner[s] for s in trained["source"].to_pylist()],
            self.spec.evaluation.seed,
        )  # fmt: skip
        answers = {name: np.asarray(found[f"expert:{name}"].probabilities) for name in router.names}
        weights = router.weights(self.rows["text"].to_pylist())
        probabilities = compose(weights, router.names, answers)
        return SystemPredictions(probabilities.argmax(axis=1), probabilities)

    def _answers(self, champion: ArtifactVersion) -> SystemPredictions:
        """Return what an earlier champion says, in the classes of today.

        One that was renamed or merged is the class it became. Where it names one that is gone or
        split, it has no answer; probabilities are compared only where the classes are the same.
        """
        from fm_platform.evaluation.metrics import SystemPredictions

        before = list(champion.config["classes"])
        probabilities = self._probabilities(champion, self.rows["text"].to_pylist())
        if before == self.classes:
            return SystemPredictions(probabilities.argmax(axis=1), probabilities)
        index, today = {name: i for i, name in enumerate(self.classes)}, self.spec.taxonomy.single
        names = np.array([index.get(today.get(name, ""), ABSTAIN) for name in before], np.int64)
        return SystemPredictions(names[probabilities.argmax(axis=1)], None)

    def _probabilities(self, version: ArtifactVersion, texts: list[str]) -> Any:
        """Return what a model says of texts, float32[n, k]."""
        from fm_platform.stages.predict import classifier
        from fm_platform.training.predict import predict_probabilities

        return predict_probabilities(
            classifier(self.ws, self.project, version),
            texts,
            max_tokens=self.spec.training.max_tokens,
            on_progress=lambda done, total: self.log.progress(
                f"evaluate {version.name}", done, total
            ),
        )

    def _weak(self) -> dict[str, SystemPredictions]:
        from fm_platform.evaluation.metrics import SystemPredictions

        labeled = self.rows["labeled"].to_numpy()
        found = {}
        for system, column in (("label_model", "probabilities"), ("majority_vote", "majority")):
            probabilities = tables.matrix(self.rows[column])
            labels = np.where(labeled, probabilities.argmax(axis=1), ABSTAIN)
            found[system] = SystemPredictions(labels, probabilities)
        return found

    def _baselines(self) -> dict[str, SystemPredictions]:
        from fm_platform.evaluation.metrics import SystemPredictions

        functions = list(self.labels[-1].metrics["functions"])
        found = {}
        for system, function in sorted(self.spec.evaluation.baselines.items()):
            if function not in functions:
                raise EvaluationError(
                    f"baseline {system!r} names a labeling function that does not exist",
                    found=function,
                    expected=", ".join(functions),
                    where="evaluation.baselines",
                )
            votes = tables.matrix(self.rows["votes"])[:, functions.index(function)]
            found[system] = SystemPredictions(votes.astype(np.int64), None)
        return found

    def _human(self) -> SystemPredictions | None:
        from fm_platform.evaluation.human import one_random_rater

        raters = self.rows["rater_labels"]
        if raters.null_count == len(raters):
            return None
        return one_random_rater(raters, self.classes, seed=self.spec.evaluation.seed)

    def write(self, recipe: Recipe, lease: Lease, twin: ArtifactVersion | None) -> Produced:
        """Measure, decide, write predictions and report."""
        from fm_platform.evaluation.gate import gate, require
        from fm_platform.evaluation.plot import source_bars_png
        from fm_platform.evaluation.table import evaluate

        systems = self.systems()
        self.log.info(f"{len(systems)} systems on {len(self.gold)} gold test rows")
        table = evaluate(systems, self.gold, self.sources, self.classes, self.spec.evaluation)
        behaviour = self._behaviour()
        decision = gate(
            systems["merged_model"],
            systems.get("champion"),
            self.gold,
            self.sources,
            self.classes,
            self.spec.evaluation,
            self.spec.gate,
            tested(
                self.spec, self.merged, systems["merged_model"], self.gold, self.rows, behaviour
            ),
        )
        latency = timed(self.ws, self.project, self.merged, self.rows, self.log, twin)
        whole = require(decision, latency)
        shown: dict[str, Any] = {}
        if behaviour:
            shown["behaviour"] = [found.to_json() for found in behaviour]
        data = self._predictions(systems, recipe)
        refs = {
            "predictions": tables.write(
                self.ws, recipe, lease, "predictions", data, column="part", value=recipe.hash[:16]
            )
        }
        if self.held.aside.num_rows:
            refs["quarantine"] = tables.write(
                self.ws, recipe, lease, "quarantine", self.held.aside, column="part",
                value=f"evaluation-{recipe.hash[:16]}",
            )  # fmt: skip
            shown["set_aside"] = refs["quarantine"].content_hash
        ref = refs["predictions"]
        content = fingerprint(
            {
                "table": table.to_json(self.spec.name, ""),
                "gate": decision.to_json(),
                "predictions": ref.content_hash,
                **shown,
                **self._timed(),
            }
        )
        save_plot(self.ws, content, source_bars_png(table))
        self._report(content, systems["merged_model"])
        return Produced(
            content_hash=content,
            location=tables.location(refs),
            rows=ref.rows,
            bytes=sum(file.bytes for each in refs.values() for file in each.files),
            metrics={
                **_summary(table, whole, behaviour, self.held),
                "evaluation": table.to_json(self.spec.name, content),
                "gate": whole.to_json(),
                **shown,
            },
        )

    def _timed(self) -> dict[str, Any]:
        """Return what is declared of time: it counts for the content, what was measured does not.

        So the same evaluation has the same content on a slower machine, and another ceiling
        another one.
        """
        rule = self.spec.gate.constraints.latency
        return {} if rule is None else {"latency": rule.model_dump(mode="json")}

    def _behaviour(self) -> tuple[BehaviourResult, ...]:
        """Return what the declared tests found of the merged model."""
        from fm_platform.evaluation.behaviour import run_behaviour

        declared = self.spec.evaluation.behaviour
        rows = list(
            zip(self.rows["row_id"].to_pylist(), self.rows["text"].to_pylist(), strict=True)
        )
        return run_behaviour(
            declared,
            lambda texts: self._probabilities(self.merged, texts),
            self.classes,
            rows if any(test.texts.rows for test in declared) else (),
            self.spec.evaluation.seed,
        )

    def _predictions(self, systems: dict[str, SystemPredictions], recipe: Recipe) -> pa.Table:
        blocks = []
        names = np.array([*self.classes, None], dtype=object)  # index -1 is "no answer"
        for system in sorted(systems):
            told = systems[system]
            n = len(self.gold)
            blocks.append(
                pa.table(
                    {
                        "row_id": self.rows["row_id"],
                        "day": self.rows["day"],
                        "source": self.rows["source"],
                        "system": pa.array([system] * n, pa.string()),
                        "label": pa.array(names[told.labels].tolist(), pa.string()),
                        "probabilities": pa.nulls(n, pa.list_(pa.float32()))
                        if told.probabilities is None
                        else tables.lists(np.asarray(told.probabilities, np.float32), pa.float32()),
                        "gold": self.rows["gold"],
                        "part": pa.array([recipe.hash[:16]] * n, pa.string()),
                    },
                    schema=tables.PREDICTIONS,
                )
            )
        return pa.concat_tables(blocks)

    def _report(self, content: str, merged: SystemPredictions) -> None:
        from fm_platform.evaluation.report import write_report

        train = rows_of(self.ws, training_days(self.ws, self.spec), "train")
        seen = _sample(train, _REFERENCE_ROWS, self.spec.evaluation.seed)
        on_seen = self._probabilities(self.merged, seen["text"].to_pylist()).argmax(axis=1)

        def with_answers(rows: pa.Table, target: str, labels: Any) -> pa.Table:
            answers = pa.array([self.classes[i] for i in labels], pa.string())
            return (
                rows.select(["text", "source"])
                .append_column("target", rows[target])
                .append_column("prediction", answers)
            )

        reference = with_answers(seen, "label", on_seen)
        current = with_answers(self.rows, "gold", merged.labels)
        path = self.ws.home.reports / content[:16] / "report.html"
        write_report(reference, current, path, seed=self.spec.evaluation.seed)


def _sample(rows: pa.Table, most: int, seed: int) -> pa.Table:
    """Return at most so many rows, drawn by a generator of their own, in their order."""
    if rows.num_rows <= most:
        return rows
    chosen = np.random.default_rng(seed).choice(rows.num_rows, most, replace=False)
    return rows.take(pa.array(np.sort(chosen)))


def _summary(
    table: EvaluationTable,
    decision: GateDecision,
    behaviour: tuple[BehaviourResult, ...],
    held: HeldOut,
) -> dict[str, Any]:
    numbers = {f"merged_{k}": v for k, v in table.metrics("merged_model").items()}
    shown: dict[str, Any] = {
        "support-weighted F1": table.records("f1_weighted"), "gate": decision.records(),
    }  # fmt: skip
    if decision.requirements:
        shown["requirements"] = [requirement.to_json() for requirement in decision.requirements]
    if held.by_source:
        shown["test rows that were trained on"] = held.by_source
    if behaviour:
        shown["behaviour"] = [found.record() for found in behaviour]
        numbers |= {f"behaviour_{found.name}": found.share for found in behaviour}
    return summary(
        numbers,
        shown,
        (
            CheckResult("gate", decision.promote, decision.reason, decision.to_json()),
            CheckResult(
                "non_empty", True, f"{table.rows[0].n} gold test rows.", {"rows": table.rows[0].n}
            ),
            CheckResult("leaks", held.fair, held.told, held.numbers, blocking=False),
        ),
    )

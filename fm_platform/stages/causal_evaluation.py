"""`evaluation` of a causal project: how likely each system finds the right answers, and the gate.

A system is judged on the test pairs of every source by the loss of their answers (mean negative
log likelihood of a token, nats) and by the share of answers that it generates word for word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import EvaluationError
from fm_platform.hashing import fingerprint
from fm_platform.lineage import ArtifactVersion, Produced, RunContext
from fm_platform.lineage.causal_recipes import evaluation_recipe, sources_of
from fm_platform.lineage.ledger import Lease
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.causal import base_of, chat_of, encoded, of_split, pairs_of, raw_days
from fm_platform.stages.common import CheckResult, Reporter, StageResult, stage_result, summary
from fm_platform.stages.decision import carry_out, previous_champion
from fm_platform.stages.held_out import HeldOut, held_against
from fm_platform.stages.models import required
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.training.data import Encoded
    from fm_platform.training.instruct import Answering

Floats = npt.NDArray[np.float64]
ALL = "all"


def build_causal_evaluation(
    ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter
) -> StageResult:
    """Evaluate the merged model beside its base, its experts and the champion, and decide.

    Raises:
        EvaluationError: If there are no test pairs.
        MissingArtifactError: If the merged model is not built.
    """
    spec = project.spec
    merged = required(ws, spec, "merged_model", "merged_model", "the merged model")
    adapters = [
        required(ws, spec, "adapter", expert.name, f"the adapter of expert {expert.name}")
        for expert in spec.experts
    ]
    champion = previous_champion(ws, spec.name, merged)
    days, base = raw_days(ws, spec), base_of(project)
    recipe = evaluation_recipe(
        spec, merged, adapters, champion, days, base.content_hash, chat_of(project)
    )

    def compute(lease: Lease) -> Produced:
        part = f"evaluation-{recipe.hash[:16]}"
        held = held_pairs(spec, pairs_of(ws, spec, days, sources_of(spec)), part)
        found = _Measured(ws, project, held.rows, log)
        found.measure("merged_model", merged)
        if champion is not None:
            found.measure("champion", champion)
        for adapter in adapters:
            found.measure(f"expert:{adapter.name}", adapter)
        found.measure("base", None)
        gate, rows = found.gate(), found.rows()
        shown: dict[str, Any] = {"rows": rows, "gate": gate}
        refs = {}
        if held.aside.num_rows:
            refs["quarantine"] = tables.write(
                ws, recipe, lease, "quarantine", held.aside, column="part", value=part
            )
            shown["set_aside"] = refs["quarantine"].content_hash
        return Produced(
            content_hash=fingerprint(shown),
            location=tables.location(refs) if refs else {},
            rows=len(found.pairs),
            metrics={**_summary(rows, gate, len(found.pairs), held), **shown},
        )

    built = tables.build(ws, recipe, compute, run)
    carry_out(ws, built.version, merged, champion, run)
    return stage_result(built)


class _Measured:
    """Systems on the same test pairs."""

    def __init__(
        self, ws: Workspace, project: LoadedProject, rows: pa.Table, log: Reporter
    ) -> None:
        from fm_platform.training.data import balanced_sample
        from fm_platform.training.instruct import Dialogue

        self.ws, self.project, self.spec, self.log = ws, project, project.spec, log
        self.base = base_of(project)
        self.dialogue = Dialogue.of(self.base.tokenizer(), self.spec.instruction)
        self.pairs: Encoded = encoded(self.dialogue, self.spec, rows)[0]
        if not len(self.pairs):
            raise EvaluationError(
                "there are no test pairs to evaluate on",
                expected="pairs of the test split that fit training.max_tokens",
                next_step="look at `split`, or wait for more rows",
            )
        self.sources = np.array(self.pairs.sources)
        few = balanced_sample(
            self.pairs.sources, self.spec.instruction.generated_rows, np.random.default_rng(0)
        )
        self.asked, position = few, {r: i for i, r in enumerate(rows["row_id"].to_pylist())}
        table = rows.take([position[self.pairs.row_ids[i]] for i in few])
        self.records = [
            {name: "" if value is None else str(value) for name, value in row.items()}
            for row in table.to_pylist()
        ]
        self.losses: dict[str, Floats] = {}
        self.right: dict[str, npt.NDArray[np.bool_]] = {}

    def measure(self, system: str, version: ArtifactVersion | None) -> None:
        """Ask one system; None is the base model alone."""
        from fm_platform.training.answering import generate, losses_of, same_answer

        self.log.info(f"{system}: {len(self.pairs)} answers, {len(self.asked)} of them generated")
        answering = self._load(version)
        pad = self.dialogue.tokenizer.pad_token_id or 0
        self.losses[system] = losses_of(answering.model, self.pairs, pad).astype(np.float64)
        told = generate(answering, self.records)
        wanted = [row[self.spec.instruction.answer] for row in self.records]
        self.right[system] = np.array(
            [same_answer(one, other) for one, other in zip(told, wanted, strict=True)], bool
        )

    def _load(self, version: ArtifactVersion | None) -> Answering:
        from fm_platform.training.instruct import (
            Answering,
            load_answering,
            load_answering_adapter,
        )

        if version is None:
            return Answering(self.base.new_classifier((), 0), self.dialogue)
        path = self.ws.model_path(version)
        if version.kind == "merged_model":
            return load_answering(path)
        return load_answering_adapter(self.base, path)

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each system and source, and for all: loss with interval, exactness."""
        found = []
        asked = self.sources[self.asked]
        for system, each in self.losses.items():
            for source in (ALL, *sorted(set(self.sources.tolist()))):
                own = np.ones(len(each), bool) if source == ALL else self.sources == source
                told = self.right[system][asked == source if source != ALL else slice(None)]
                low, high = self._interval(each[own])
                found.append({
                    "system": system, "source": source, "n": int(own.sum()),
                    "answer_loss": round(float(each[own].mean()), 6),
                    "low": round(low, 6), "high": round(high, 6),
                    "exact_match": round(float(told.mean()), 6) if len(told) else None,
                })  # fmt: skip
        return found

    def _interval(self, values: Floats) -> tuple[float, float]:
        from fm_platform.evaluation.bootstrap import percentile_interval, resampled_sums

        rule = self.spec.evaluation
        strata = np.zeros(len(values), np.int64)
        sums = resampled_sums(
            [values[:, None]], strata, 1, samples=rule.bootstrap_samples, seed=rule.seed
        )[0]
        return percentile_interval(sums[:, 0, 0] / len(values), rule.confidence_level)

    def gate(self) -> dict[str, Any]:
        """Return whether the merged model becomes champion: not worse, overall or on a source.

        It is worse where the interval of its loss less the champion's, pair by pair, lies wholly
        above `gate.tolerance`.
        """
        ours, theirs = self.losses["merged_model"], self.losses.get("champion")
        value = round(float(ours.mean()), 6)
        if theirs is None:
            reason = f"There is no champion yet; the loss of an answer's token is {value:.3f}."
            return {"promote": True, "reason": reason, "value": value, "differences": []}
        found = []
        for source in (ALL, *sorted(set(self.sources.tolist()))):
            own = np.ones(len(ours), bool) if source == ALL else self.sources == source
            change = ours[own] - theirs[own]
            low, high = self._interval(change)
            verdict = "worse" if low > self.spec.gate.tolerance else "not worse"
            found.append({
                "source": source, "difference": round(float(change.mean()), 6),
                "low": round(low, 6), "high": round(high, 6), "verdict": verdict,
            })  # fmt: skip
        worse = [row["source"] for row in found if row["verdict"] == "worse"]
        told = f"{value:.3f} against {float(theirs.mean()):.3f} nats a token"
        reason = (
            f"Worse than the champion: {told}; on {', '.join(worse)}."
            if worse
            else f"Not worse than the champion anywhere: {told}."
        )
        return {"promote": not worse, "reason": reason, "value": value, "differences": found}


def held_pairs(spec: ProjectSpec, pairs: pa.Table, part: str) -> HeldOut:
    """Return the test pairs, held against the train pairs by the text of the prompts."""
    columns = [pairs[name].cast(pa.string()) for name in spec.instruction.columns]
    text = pc.binary_join_element_wise(*columns, "\n", null_handling="skip")
    asked = pairs.select(["row_id", "day", "source", "split"]).append_column("text", text)
    held = held_against(spec, of_split(asked, "test"), [of_split(asked, "train")], part)
    tested = of_split(pairs, "test")
    kept = pc.is_in(tested["row_id"], held.rows["row_id"].combine_chunks())
    return replace(held, rows=tested.filter(kept))


def _summary(
    rows: list[dict[str, Any]], gate: Mapping[str, Any], pairs: int, held: HeldOut
) -> dict[str, Any]:
    overall = {row["system"]: row for row in rows if row["source"] == ALL}
    return summary(
        {"test_pairs": pairs, "answer_loss": overall["merged_model"]["answer_loss"],
         "base_answer_loss": overall["base"]["answer_loss"]},
        {"answers": rows, **({"gate": gate["differences"]} if gate["differences"] else {})},
        (
            CheckResult("non_empty", True, f"{pairs} test pairs."),
            CheckResult("leaks", held.fair, held.told, held.numbers, blocking=False),
            CheckResult("gate", bool(gate["promote"]), str(gate["reason"])),
        ),
    )  # fmt: skip

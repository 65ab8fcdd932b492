"""`adapters` of a causal project: LoRA on the raw pairs of prompt and answer, answers only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import FMError, TrainingError
from fm_platform.hashing import sha256_file
from fm_platform.lineage import ArtifactVersion, Produced, Recipe, RunContext
from fm_platform.lineage.causal_recipes import adapter_recipe
from fm_platform.lineage.ledger import Lease
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.common import CheckResult, Reporter, StageResult, stage_result, summary
from fm_platform.stages.models import (
    days_of_window,
    load_plot,
    save_plot,
    step_reporter,
    work_folder,
)
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.training.data import Encoded
    from fm_platform.training.instruct import CausalBase, Dialogue, Refused
    from fm_platform.training.train import TrainedExpert


def build_causal_adapter(
    ws: Workspace, project: LoadedProject, expert_name: str, run: RunContext, log: Reporter
) -> StageResult:
    """Train one expert on the pairs of its sources.

    Raises:
        MissingArtifactError: If no day has come.
        TrainingError: If there are no pairs, or the loss is not finite.
    """
    spec = project.spec
    expert = next((e for e in spec.experts if e.name == expert_name), None)
    if expert is None:
        raise FMError(
            f"there is no expert {expert_name!r}", expected=", ".join(e.name for e in spec.experts)
        )
    days, base = raw_days(ws, spec), base_of(project)
    recipe = adapter_recipe(spec, expert, days, base.content_hash, chat_of(project))

    def compute(lease: Lease) -> Produced:
        from fm_platform.training.instruct import Dialogue, train_answers

        dialogue = Dialogue.of(base.tokenizer(), spec.instruction)
        rows = pairs_of(ws, spec, days, expert.sources)
        train, refused = encoded(dialogue, spec, of_split(rows, "train"))
        dev, more = encoded(dialogue, spec, of_split(rows, "dev"))
        _require_pairs(train, refused, expert.name)
        with work_folder(ws, recipe.hash) as folder:
            trained = train_answers(
                train, dev, base, dialogue, spec.training, folder,
                step_reporter(log, f"expert {expert.name}"),
            )  # fmt: skip
            return _publish(ws, recipe, lease, trained, len(train), [*refused, *more])

    built = tables.build(ws, recipe, compute, run)
    if not built.reused:
        from fm_platform.stages.adapters import track

        track(ws, project, built.version, run)
    return stage_result(built, load_plot(ws, built.version))


def base_of(project: LoadedProject) -> CausalBase:
    """Return the causal base model of a project."""
    from fm_platform.training.instruct import causal_base

    return causal_base(resolve_base_model(project.spec.base_model, project.directory))


def chat_of(project: LoadedProject) -> str:
    """Return the hash of the chat template beside the base model; empty where none is used."""
    if not project.spec.instruction.chat:
        return ""
    from fm_platform.training.instruct import CHAT_TEMPLATE

    base = resolve_base_model(project.spec.base_model, project.directory)
    path: Path = base.directory / CHAT_TEMPLATE
    return sha256_file(path) if path.is_file() else ""


def raw_days(ws: Workspace, spec: ProjectSpec) -> list[ArtifactVersion]:
    """Return `raw` of the training window, which ends with the last day that came.

    Raises:
        MissingArtifactError: If no day has come.
    """
    return days_of_window(ws, spec, "raw", f"no day of {spec.name} is there yet")


def pairs_of(
    ws: Workspace, spec: ProjectSpec, days: Sequence[ArtifactVersion], sources: Sequence[str]
) -> pa.Table:
    """Return the pairs of some sources, in order of day and row id.

    A train or dev pair whose text is that of a test pair of these sources is left out: what is
    tested was not learned.
    """
    names = ["row_id", "day", "source", "split", "text_key"]
    names += sorted({*spec.instruction.columns, spec.instruction.answer} - set(names))
    found = []
    for day in days:
        if set(sources) & set(day.parts):
            rows = tables.read(ws, day, "raw", names)
            found.append(rows.filter(pc.is_in(rows["source"], pa.array(sorted(sources)))))
    schema = tables.raw_schema(spec)
    rows = tables.combine(found, pa.schema([schema.field(name) for name in names]))
    tested = rows.filter(pc.equal(rows["split"], "test"))["text_key"].combine_chunks()
    known = pc.and_(pc.is_in(rows["text_key"], tested), pc.not_equal(rows["split"], "test"))
    return rows.filter(pc.invert(known))


def of_split(rows: pa.Table, split: str) -> pa.Table:
    """Return the pairs of one side."""
    return rows.filter(pc.equal(rows["split"], split))


def encoded(dialogue: Dialogue, spec: ProjectSpec, rows: pa.Table) -> tuple[Encoded, list[Refused]]:
    """Return pairs as tokens, at most `training.max_rows`, and those that cannot be used."""
    from fm_platform.training.data import take
    from fm_platform.training.instruct import encode_pairs

    found, refused = encode_pairs(dialogue, rows, spec.training.max_tokens)
    if len(found) > spec.training.max_rows:
        import numpy as np

        drawn = np.random.default_rng([spec.training.seed, 1]).permutation(len(found))
        found = take(found, sorted(drawn[: spec.training.max_rows].tolist()))
    return found, refused


def _require_pairs(train: Encoded, refused: Sequence[Refused], name: str) -> None:
    if len(train) == 0:
        raise TrainingError(
            f"{name} has no pairs to learn from",
            expected="train rows with a prompt and an answer that fit training.max_tokens",
            found="; ".join(sorted({f"{r.rule}: {r.reason}" for r in refused})[:3]) or "no rows",
            next_step="look at the contract and the sources of the expert",
        )


def _publish(
    ws: Workspace,
    recipe: Recipe,
    lease: Lease,
    trained: TrainedExpert,
    rows: int,
    refused: Sequence[Refused],
) -> Produced:
    from fm_platform.evaluation.plot import loss_curves_png
    from fm_platform.stages.adapters import named_losses

    ref = tables.write(
        ws, recipe, lease, "quarantine", _quarantined(recipe.name, refused), column="part",
        value=f"adapter-{recipe.name}",
    )  # fmt: skip
    ws.ledger.check_lease(lease)
    identity = {"project": recipe.project, "name": recipe.name, "recipe_hash": recipe.hash}
    model = ws.models.publish(trained.directory, identity)
    save_plot(ws, model.content_hash, loss_curves_png(named_losses(trained.history)))
    numbers: dict[str, Any] = {
        **{key: value for key, value in trained.metrics.items() if value is not None},
        "train_rows": rows, "refused_pairs": len(refused), "adapter_bytes": model.bytes,
    }  # fmt: skip
    loss = float(trained.metrics.get("train_loss") or 0.0)
    told = f"every loss and gradient of {recipe.name} was finite."
    check = CheckResult("finite_loss", True, told, {"final_train_loss": loss})
    counted = [
        {"rule": rule, "pairs": sum(one.rule == rule for one in refused)}
        for rule in sorted({one.rule for one in refused})
    ]
    return Produced(
        content_hash=model.content_hash,
        location={"model": model.content_hash, **tables.location({"quarantine": ref})},
        rows=rows,
        bytes=model.bytes,
        metrics={
            **summary(numbers, {"refused pairs": counted} if counted else {}, (check,)),
            "history": trained.history,
        },
    )


def _quarantined(expert: str, refused: Sequence[Refused]) -> pa.Table:
    rows = [
        {
            "row_id": one.row_id, "day": "", "stage": "adapters", "source": one.source,
            "rule": one.rule, "reason": one.reason, "column": None, "before": None, "after": None,
            "removed": True, "part": f"adapter-{expert}",
        }
        for one in sorted(refused, key=lambda one: one.row_id)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, tables.QUARANTINE)

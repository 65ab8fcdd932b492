"""What a merged model must show whatever the champion does: declared tests and constraints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fm_platform.lineage import ArtifactVersion
from fm_platform.lineage.configs import compared_slices
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages.common import Reporter
from fm_platform.workspace import Workspace

if TYPE_CHECKING:
    from fm_platform.evaluation.behaviour import BehaviourResult
    from fm_platform.evaluation.gate import Requirement
    from fm_platform.evaluation.metrics import SystemPredictions


def tested(
    spec: ProjectSpec,
    merged: ArtifactVersion,
    model: SystemPredictions,
    gold: npt.NDArray[np.integer],
    rows: pa.Table,
    behaviour: Sequence[BehaviourResult],
) -> tuple[Requirement, ...]:
    """Return the required behaviour tests and the constraints that the same bytes always meet.

    Args:
        spec: The project.
        merged: The model.
        model: What it answers on the n test rows.
        gold: int[n] class indices.
        rows: The n test rows: source, text, and the columns of compared slices.
        behaviour: What the declared tests found.
    """
    from fm_platform.evaluation.constraints import constraints
    from fm_platform.evaluation.gate import Requirement
    from fm_platform.labeling.slices import in_slices

    return (
        *(Requirement(test.name, test.ok, test.told) for test in behaviour if test.required),
        *constraints(
            model, gold, rows["source"].to_pylist(), spec.taxonomy.classes, spec.evaluation,
            spec.gate, merged.bytes or 0, in_slices(compared_slices(spec), rows),
        ),
    )  # fmt: skip


def timed(
    ws: Workspace,
    project: LoadedProject,
    merged: ArtifactVersion,
    rows: pa.Table,
    log: Reporter,
    twin: ArtifactVersion | None = None,
) -> tuple[Requirement, ...]:
    """Return the requirement on latency, measured now; nothing where none is declared.

    Its numbers are of this machine and this moment: they belong in no recipe and no content hash.
    Where an evaluation is built again elsewhere, what its twin found counts, so that a slower
    machine comes to the same champion.

    Args:
        ws: Where the model is.
        project: The project.
        merged: The model.
        rows: Test rows with their text.
        log: Told what is measured.
        twin: The same evaluation, as it was recorded; None: there is none.
    """
    declared, spec = project.spec.gate.constraints, project.spec
    rule = declared.latency
    if rule is None:
        return ()
    from fm_platform.evaluation.gate import Requirement
    from fm_platform.evaluation.latency import answer_times, latency
    from fm_platform.numerics import reproducible
    from fm_platform.stages.predict import classifier
    from fm_platform.training.single import answer

    if twin is not None:
        return (Requirement(**twin.metrics["gate"]["requirements"][-1]),)  # what is timed is last
    drawn = np.random.default_rng([spec.evaluation.seed, 1]).permutation(rows.num_rows)
    texts = rows["text"].take(pa.array(np.sort(drawn[: rule.texts]))).to_pylist()
    log.info(f"latency of {merged.name}: {len(texts)} texts, one by one")
    model = classifier(ws, project, merged)
    with reproducible(rule.threads):
        times = answer_times(lambda text: answer(model, text, spec.training.max_tokens), texts)
    return (latency(times, rule, declared),)

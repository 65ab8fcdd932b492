"""The hand-made set of a project: tried end to end on every change, in seconds, before training.

It is an artifact: what came of it is computed when its recipe is new, and told again otherwise.
Nothing is built from it; a run that would train begins with it (`require_unit`).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from fm_platform.errors import UnitSetError
from fm_platform.hashing import fingerprint
from fm_platform.labeling.load import load_functions
from fm_platform.lineage import Produced, RunContext
from fm_platform.lineage.fingerprints import code_stands_still
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.unit_recipes import unit_recipe
from fm_platform.spec.load import LoadedProject
from fm_platform.stages import tables
from fm_platform.stages.common import Reporter, StageResult, stage_result, summary
from fm_platform.stages.unit.rows import read_unit, unit_hash
from fm_platform.training.base_model import resolve_base_model
from fm_platform.workspace import Workspace

__all__ = ["build_unit", "require_unit", "unit_hash"]


def build_unit(
    ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter
) -> StageResult | None:
    """Return what came of the set; its checks say what does not hold. None where none is declared.

    Raises:
        UnitSetError: If the file cannot be used.
        FMError: If functions do not import or the base model is not there.
    """
    spec = project.spec
    if spec.unit is None:
        return None
    with code_stands_still():
        functions = load_functions(spec, project.directory)
        base = resolve_base_model(spec.base_model, project.directory)
        rows = read_unit(project)
        recipe = unit_recipe(spec, unit_hash(project), functions, base.content_hash)
    if recipe is None:
        return None

    def compute(_lease: Lease) -> Produced:
        from fm_platform.stages.unit.chain import run_chain
        from fm_platform.stages.unit.verdict import judge, row_table

        began_s = time.monotonic()
        ws.home.work.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="unit-", dir=ws.home.work))
        try:
            outcome = run_chain(ws, project, rows, folder, log)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        checks, shown = judge(spec, rows, outcome), row_table(spec, rows, outcome)
        numbers: dict[str, Any] = {
            "rows": len(rows.labels),
            "failed": sum(not check.passed for check in checks),
            "seconds": round(time.monotonic() - began_s, 1),
            **{f"share_{c.name}": c.metadata["share"] for c in checks if "share" in c.metadata},
        }
        content = fingerprint([shown, [[check.name, check.passed] for check in checks]])
        metrics = summary(numbers, {"unit set": shown}, checks)
        return Produced(content, {}, rows=len(rows.labels), metrics=metrics)

    return stage_result(tables.build(ws, recipe, compute, run))


def require_unit(ws: Workspace, project: LoadedProject, run: RunContext, log: Reporter) -> None:
    """Refuse to go on where the hand-made set does not hold; what is known is not tried again.

    Raises:
        UnitSetError: With every link of the chain that does not hold: row, expected, found.
        FMError: As `build_unit`.
    """
    result = build_unit(ws, project, run, log)
    wrong = [check for check in result.checks if not check.passed] if result is not None else []
    if wrong:
        name = project.spec.name
        raise UnitSetError(
            f"the unit set of {name} does not hold, so nothing is trained",
            where=project.spec.unit.file if project.spec.unit else None,
            found="\n    ".join(f"{check.name}: {check.description}" for check in wrong),
            next_step=f"mend the functions, the settings or the rows, then fm check {name}",
        )

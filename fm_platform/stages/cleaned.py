"""`cleaned`: the rows of one day that training may see; everything else is in quarantine."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.cleaning.clean import clean_day
from fm_platform.errors import MissingArtifactError
from fm_platform.hashing import fingerprint
from fm_platform.lineage import ArtifactVersion, Produced, RunContext
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.recipes import cleaned_recipe, seen_key
from fm_platform.spec.cleaning import ExactDuplicatesRule
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.common import CheckResult, Reporter, StageResult, stage_result, summary
from fm_platform.stages.window import window
from fm_platform.workspace import Workspace


def days_before(ws: Workspace, spec: ProjectSpec, day: str) -> list[ArtifactVersion]:
    """Return `raw` of the days before `day` that the duplicates rule looks at, oldest first."""
    widths = [rule.window_days for rule in spec.cleaning if isinstance(rule, ExactDuplicatesRule)]
    if not widths:
        return []
    found = window(ws, spec, "raw", "raw", day, max(widths) + 1)
    return [version for version in found if version.partition != day]


def seen_keys(
    ws: Workspace, before: list[ArtifactVersion], weak_labels: ArtifactVersion
) -> frozenset[str]:
    """Return those of today's text keys that may not be used again.

    They stand in one of the days before, or in today's test rows.
    """
    today = tables.read(ws, weak_labels, "weak_labels", ["text_key", "split"])
    test = today.filter(pc.equal(today["split"], "test"))["text_key"]
    found = set(test.to_pylist())
    wanted = pc.unique(today["text_key"])
    for raw in before:
        keys = tables.read(ws, raw, "raw", ["text_key"])["text_key"]
        found.update(keys.filter(pc.is_in(keys, value_set=wanted)).to_pylist())
    return frozenset(found)


def build_cleaned(
    ws: Workspace, project: LoadedProject, day: str, run: RunContext, log: Reporter
) -> StageResult:
    """Clean one day.

    Raises:
        MissingArtifactError: If `weak_labels` of that day is not built.
    """
    spec = project.spec
    weak_labels = ws.ledger.latest(spec.name, "weak_labels", "weak_labels", day)
    if weak_labels is None:
        raise MissingArtifactError(
            f"weak_labels of {day} is not built", next_step=f"fm run {spec.name} --from {day}"
        )
    before = days_before(ws, spec, day)
    seen_hash = ws.ledger.derive(
        seen_key(spec, weak_labels, before),
        lambda: fingerprint(sorted(seen_keys(ws, before, weak_labels))),
    )
    recipe = cleaned_recipe(spec, day, weak_labels, seen_hash)

    def compute(lease: Lease) -> Produced:
        seen = seen_keys(ws, before, weak_labels)
        rows = tables.read(ws, weak_labels, "weak_labels")
        rows = rows.filter(pc.not_equal(rows["split"], "test"))
        done = clean_day(
            rows.to_batches(max_chunksize=16_384), spec.cleaning, spec.taxonomy.classes, seen, day
        )
        kept = tables.combine(done.kept, tables.CLEANED).sort_by("row_id")
        refused = tables.combine(done.quarantine, tables.QUARANTINE)
        refs = {
            "cleaned": tables.write(ws, recipe, lease, "cleaned", kept),
            "quarantine": tables.write(
                ws, recipe, lease, "quarantine", refused, column="part", value=f"cleaned-{day}"
            ),
        }
        train = kept.filter(pc.equal(kept["split"], "train"))
        dev = kept.filter(pc.equal(kept["split"], "dev"))
        parts = tables.parts_by(kept, "source")
        if dev.num_rows:
            parts["dev"] = tables.hash_rows(dev)
        removed = refused.filter(refused["removed"]).num_rows
        balanced = rows.num_rows == kept.num_rows + removed
        return Produced(
            content_hash=refs["cleaned"].content_hash,
            location=tables.location(refs),
            rows=kept.num_rows,
            bytes=sum(file.bytes for ref in refs.values() for file in ref.files),
            parts=parts,
            metrics=summary(
                {
                    "rows_in": rows.num_rows,
                    "rows_kept": kept.num_rows,
                    "rows_removed": removed,
                    "train_rows": train.num_rows,
                    "dev_rows": dev.num_rows,
                },
                {
                    "kept by class": tables.count_by(kept, "label"),
                    "kept by source": tables.count_by(kept, "source"),
                    "removed or changed by rule": _by_rule(refused),
                },
                (
                    CheckResult(
                        "nothing_lost",
                        balanced,
                        f"{rows.num_rows} rows came, {kept.num_rows} stay, {removed} are in "
                        "quarantine with the rule and the reason.",
                        {"rows_in": rows.num_rows, "kept": kept.num_rows, "removed": removed},
                    ),
                ),
            ),
        )

    return stage_result(tables.build(ws, recipe, compute, run))


def _by_rule(refused: pa.Table) -> list[dict[str, object]]:
    grouped = refused.group_by(["rule", "removed"]).aggregate([([], "count_all")])
    return [
        {
            "rule": row["rule"],
            "what": "removed" if row["removed"] else "changed",
            "rows": row["count_all"],
        }
        for row in grouped.sort_by([("rule", "ascending"), ("removed", "ascending")]).to_pylist()
    ]

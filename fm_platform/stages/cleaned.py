"""`cleaned`: the rows of one day that training may see; everything else is in quarantine."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.cleaning.clean import clean_day
from fm_platform.errors import MissingArtifactError
from fm_platform.lineage import Produced, RunContext
from fm_platform.lineage.ledger import Lease
from fm_platform.lineage.recipes import cleaned_recipe
from fm_platform.spec.load import LoadedProject
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.common import CheckResult, Reporter, StageResult, stage_result, summary
from fm_platform.stages.lookups import Lookups
from fm_platform.workspace import Workspace


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
    lookups = Lookups(ws, project, weak_labels, run, log)
    reviews = ws.ledger.standing(spec.name, day)
    recipe = cleaned_recipe(spec, day, weak_labels, lookups.seen_hash, reviews)

    def compute(lease: Lease) -> Produced:
        rows = tables.read(ws, weak_labels, "weak_labels")
        rows = _with_metadata(ws, spec, rows.filter(pc.not_equal(rows["split"], "test")), day)
        done = clean_day(
            rows.to_batches(max_chunksize=16_384), spec.cleaning, spec.taxonomy.classes,
            lookups.seen, day, known=lookups.known, rejected=reviews.rejected,
            accepted=reviews.accepted,
        )  # fmt: skip
        kept = tables.combine(done.kept, tables.cleaned_schema(spec)).sort_by("row_id")
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
            location={**tables.location(refs), **_kept(ws, done.corrections)},
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
                    **_leaks(lookups.known.values()),
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


def _with_metadata(ws: Workspace, spec: ProjectSpec, rows: pa.Table, day: str) -> pa.Table:
    """Return rows with the metadata columns that a rule repairs, where one does."""
    wanted = tables.repaired_columns(spec)
    if not wanted:
        return rows
    raw = ws.ledger.latest(spec.name, "raw", "raw", day)
    if raw is None:
        raise MissingArtifactError(f"raw of {day} is gone", next_step=f"fm run {spec.name}")
    read = tables.read(ws, raw, "raw", ["row_id", *wanted])
    spot = pc.index_in(rows["row_id"], value_set=read["row_id"].combine_chunks()).combine_chunks()
    for name in wanted:
        rows = rows.append_column(read.schema.field(name), read[name].take(spot))
    return rows


def _kept(ws: Workspace, corrections: list[dict[str, object]]) -> dict[str, str]:
    """Keep corrections with their probabilities; return where, if there are any."""
    return {"column": ws.columns.put(pa.Table.from_pylist(corrections))} if corrections else {}


def _leaks(known: Iterable[object]) -> dict[str, int]:
    """Return how many test rows are like a row of an earlier day, where that is looked up."""
    leaked = [len(found.leaked) for found in known if hasattr(found, "leaked")]
    return {"test_rows_like_earlier_rows": max(leaked)} if leaked else {}


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

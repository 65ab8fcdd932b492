"""Column schema and column lineage of the tables, as Dagster shows them."""

from __future__ import annotations

import dagster as dg

from assets.keys import stage_key
from fm_platform.spec import ProjectSpec

_ROW = (
    ("row_id", "string", "stable id: a hash of source and key"),
    ("day", "string", "YYYY-MM-DD"),
    ("source", "string", "which declared source the row came from"),
    ("split", "string", "train, dev or test: a hash of the row id, made once"),
    ("text", "string", "the text"),
)
_LABELS = (
    ("label", "string", "class of the highest probability"),
    ("probabilities", "list<float>", "one probability a class, in taxonomy order"),
    ("confidence", "float", "the highest probability"),
)
_CELLS = ("cells", "list<int8>", "classes that the votes on a row do not tell apart, after a split")
_TEXT_KEY = ("text_key", "string", "hash of the text without case and spacing; finds duplicates")


def column_schema(spec: ProjectSpec, stage: str) -> dg.TableSchema | None:
    """Return the columns of the table a stage writes, or None where it writes no table."""
    if stage == "raw":
        extra = tuple(
            (name, column.type, "declared in the contract")
            for name, column in sorted(spec.contract.columns.items())
            if name != "text"
        )
        columns = (*_ROW, _TEXT_KEY, *extra)
    elif stage == "weak_labels":
        columns = (
            *_ROW,
            _TEXT_KEY,
            (
                "votes",
                "list<int8>",
                "one vote a labeling function; -1 abstains, below is a set of classes",
            ),
            ("majority", "list<float>", "probabilities by majority vote"),
            *_LABELS,
            ("labeled", "bool", "whether any function voted"),
            *_cells(spec),
        )
    elif stage == "cleaned":
        columns = (*_ROW, *_LABELS, *_cells(spec))
    elif stage == "evaluation":
        columns = (
            ("row_id", "string", "the test row"),
            ("day", "string", "YYYY-MM-DD"),
            ("source", "string", "which declared source the row came from"),
            ("system", "string", "what predicted: the merged model, an expert, a baseline"),
            ("label", "string", "predicted class"),
            ("probabilities", "list<float>", "predicted probabilities, null where there are none"),
            ("gold", "string", "class by human raters"),
        )
    else:
        return None
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                type_,
                description=words,
                constraints=dg.TableColumnConstraints(
                    nullable=name not in ("row_id", "day", "source"),
                    unique=name == "row_id" and stage != "evaluation",
                ),
            )
            for name, type_, words in columns
        ]
    )


def _cells(spec: ProjectSpec) -> tuple[tuple[str, str, str], ...]:
    return (_CELLS,) if spec.taxonomy.sets else ()


def column_lineage(spec: ProjectSpec, stage: str) -> dg.TableColumnLineage | None:
    """Return which upstream columns each column is made from."""
    raw, weak = stage_key(spec, "raw"), stage_key(spec, "weak_labels")
    carried = [name for name, _, _ in _ROW]
    if stage == "weak_labels":
        made = {name: [(raw, name)] for name in [*carried, "text_key"]}
        votes = [(raw, name) for name in sorted(spec.contract.columns)]
        made |= dict.fromkeys(
            ("votes", "majority", "label", "probabilities", "confidence", "labeled"), votes
        )
    elif stage == "cleaned":
        names = [*carried, "label", "probabilities", "confidence"]
        made = {name: [(weak, name)] for name in names}
    elif stage == "evaluation":
        model = stage_key(spec, "merged_model")
        made = {name: [(weak, name)] for name in ("row_id", "day", "source")}
        made |= {name: [(weak, "text"), (model, "model")] for name in ("label", "probabilities")}
    else:
        return None
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(asset_key=key, column_name=column) for key, column in deps]
            for name, deps in made.items()
        }
    )

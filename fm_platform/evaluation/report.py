"""The Evidently report on data and predictions, as one HTML file that cannot be turned on us.

Evidently writes strings of the data unescaped into a script block: a value holding
`</script><script>` would run. Every string and column name is made inert first, texts are
replaced by their lengths, and the page may not fetch anything.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.display import inert_markup, plain
from fm_platform.errors import EvaluationError
from fm_platform.hashing import sha256_file

if TYPE_CHECKING:
    import pandas as pd

TARGET = "target"
PREDICTION = "prediction"
MAX_ROWS = 5_000
MAX_CATEGORIES = 50
_CELL_CHARS = 80

# The page holds everything it needs; nothing may be fetched or sent, whatever it contains.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval' blob:; worker-src blob:; "
    "style-src 'unsafe-inline'; img-src data: blob:; font-src data:; connect-src 'none'; "
    "form-action 'none'; base-uri 'none'"
)


@dataclass(frozen=True)
class ReportFile:
    """A written report.

    Attributes:
        path: The HTML file.
        sha256: Of its bytes; differs between runs, as Evidently numbers widgets at random.
        bytes: Size.
        reference_rows: Rows sampled from the training data.
        current_rows: Rows sampled from the test data.
    """

    path: Path
    sha256: str
    bytes: int
    reference_rows: int
    current_rows: int


def write_report(
    reference: pa.Table,
    current: pa.Table,
    path: Path,
    *,
    seed: int = 0,
    max_rows: int = MAX_ROWS,
) -> ReportFile:
    """Write the report of `current` (test rows) against `reference` (training rows).

    Columns that both tables have are shown. `target` and `prediction` (class names) give the
    classification part. A column `text` is replaced by its lengths and never shown; strings
    with more than 50 different values (ids, texts) are left out.

    Args:
        reference: Rows the model was trained on, target = their weak label.
        current: Gold test rows, target = gold.
        path: HTML file to write.
        seed: Of the sampling.
        max_rows: Most rows of each table.

    Raises:
        EvaluationError: If a table is empty or they have no column in common.
    """
    frames = [_frame(table, seed, max_rows) for table in (reference, current)]
    if min(len(frame) for frame in frames) == 0:
        raise EvaluationError(
            "a report needs rows on both sides",
            found=f"{reference.num_rows} reference rows, {current.num_rows} current rows",
        )
    columns = _common_columns(frames[0], frames[1])
    if not columns:
        raise EvaluationError(
            "the tables of the report have no column in common",
            found=f"{reference.column_names} and {current.column_names}",
        )
    snapshot = _run(frames[0][columns], frames[1][columns])
    path.parent.mkdir(parents=True, exist_ok=True)
    snapshot.save_html(str(path))
    page = path.read_text("utf-8")
    head, mark, rest = page.partition("<head>")
    if not mark:
        raise EvaluationError("the report has no head to put its policy into", where=path)
    policy = f'\n<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    path.write_text(f"{head}{mark}{policy}{rest}", "utf-8")
    return ReportFile(path, sha256_file(path), path.stat().st_size, len(frames[0]), len(frames[1]))


def inert_string(value: object) -> str:
    """Return a string of the data as the report may hold it: short, visible, without a tag.

    `[`, `]`, `(` and `!` keep their look but no longer make a Markdown link or image.
    """
    return (
        inert_markup(plain(value, _CELL_CHARS)).replace("](", "]\u200b(").replace("![", "!\u200b[")
    )


def _frame(table: pa.Table, seed: int, max_rows: int) -> pd.DataFrame:
    """Return a seeded sample with lengths for the text, and every string inert."""
    if table.num_rows > max_rows:
        generator = np.random.default_rng(seed)
        rows = np.sort(generator.choice(table.num_rows, max_rows, replace=False))
        table = table.take(pa.array(rows))
    if "text" in table.column_names:
        text = table["text"].cast(pa.string())
        words = pc.list_value_length(pc.utf8_split_whitespace(pc.utf8_trim_whitespace(text)))
        table = table.append_column("char_count", pc.utf8_length(text).cast(pa.float64()))
        table = table.append_column("word_count", words.cast(pa.float64())).drop_columns("text")
    frame: pd.DataFrame = table.to_pandas()
    for name in frame.columns:
        column = frame[name]
        if column.dtype == bool or column.dtype.kind not in "iuf":
            frame[name] = [None if _missing(value) else inert_string(value) for value in column]
        else:
            frame[name] = column.astype(float)
    frame.columns = _unique([inert_string(name) for name in frame.columns])
    return frame


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        result.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return result


def _common_columns(reference: pd.DataFrame, current: pd.DataFrame) -> list[str]:
    columns = []
    for name in reference.columns:
        if name not in current.columns:
            continue
        sides = (reference[name], current[name])
        numeric = [side.dtype.kind == "f" for side in sides]
        empty = any(side.notna().sum() == 0 for side in sides)
        many = not all(numeric) and max(side.nunique() for side in sides) > MAX_CATEGORIES
        if numeric[0] == numeric[1] and not empty and (not many or name in (TARGET, PREDICTION)):
            columns.append(str(name))
    return columns


def _run(reference: pd.DataFrame, current: pd.DataFrame) -> Any:
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import ClassificationPreset, DataDriftPreset, DataSummaryPreset
    from sklearn.exceptions import UndefinedMetricWarning

    task = _task(reference, current)
    definition = DataDefinition(
        numerical_columns=[name for name in reference if reference[name].dtype.kind == "f"],
        categorical_columns=[name for name in reference if reference[name].dtype.kind != "f"],
        classification=[task] if task else None,
    )
    presets: list[Any] = [DataSummaryPreset(), DataDriftPreset()]
    if task:
        presets.insert(0, ClassificationPreset())
    datasets = [
        Dataset.from_pandas(frame, data_definition=definition) for frame in (reference, current)
    ]
    with warnings.catch_warnings():
        # classes without an answer and empty bins: the report shows them as such
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        return Report(presets).run(datasets[1], datasets[0])


def _task(reference: pd.DataFrame, current: pd.DataFrame) -> Any:
    """Return Evidently's kind of task, or None where it has no classification part.

    It takes a side on which two classes are answered for a binary task, whatever it is told, and
    then stops at the third class; and it stops where a class is known to one side only.
    """
    from evidently import BinaryClassification, MulticlassClassification

    if not {TARGET, PREDICTION} <= set(reference.columns):
        return None
    answered = [set(side[PREDICTION]) for side in (reference, current)]
    known, other = (set(side[TARGET]) | set(side[PREDICTION]) for side in (reference, current))
    if known != other:
        return None
    if all(len(labels) != 2 for labels in answered):
        return MulticlassClassification(target=TARGET, prediction_labels=PREDICTION)
    if len(known) > 2:
        return None
    return BinaryClassification(target=TARGET, prediction_labels=PREDICTION, pos_label=max(known))

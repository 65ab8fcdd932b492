from __future__ import annotations

import pyarrow as pa
import pytest

from fm_platform.errors import LabelingError
from fm_platform.labeling.slices import in_slices
from fm_platform.spec.slices import Slice

ROWS = pa.table(
    {"text": ["a b", "abc d e f", "x"], "stars": [5, None, 1], "lang": ["en", "de", None]}
)


def declared(column: str, operator: str, value: object) -> Slice:
    return Slice(name="one", column=column, operator=operator, value=value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("slice_", "inside"),
    [
        (declared("stars", ">=", 2), [True, False, False]),
        (declared("stars", "!=", 5.0), [False, False, True]),
        (declared("lang", "in", ("de", "fr")), [False, True, False]),
        (declared("word_count", "<", 3), [True, False, True]),
        (declared("char_count", "==", 1), [False, False, True]),
    ],
)
def test_a_row_without_a_value_is_in_no_slice_of_it(slice_: Slice, inside: list[bool]) -> None:
    assert in_slices([slice_], ROWS)["one"].tolist() == inside


def test_a_value_of_another_type_is_told() -> None:
    with pytest.raises(LabelingError, match="another type"):
        in_slices([declared("stars", "<", "many")], ROWS)

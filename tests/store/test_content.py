from __future__ import annotations

import itertools
import struct

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_platform.errors import SchemaMismatchError
from fm_platform.store.content import ContentHasher, content_hash, plain_schema

SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("count", pa.int64()),
        ("share", pa.float32()),
        ("flag", pa.bool_()),
        ("votes", pa.list_(pa.int8())),
        ("inner", pa.struct([("a", pa.string()), ("b", pa.int32())])),
    ]
)
ROW = st.fixed_dictionaries(
    {
        "name": st.none() | st.text(max_size=8),
        "count": st.none() | st.integers(-(2**63), 2**63 - 1),
        "share": st.none() | st.floats(width=32, allow_nan=True),
        "flag": st.none() | st.booleans(),
        "votes": st.none() | st.lists(st.none() | st.integers(-1, 5), max_size=4),
        "inner": st.none()
        | st.fixed_dictionaries(
            {"a": st.none() | st.text(max_size=3), "b": st.none() | st.integers(0, 9)}
        ),
    }
)
ROWS = st.lists(ROW, min_size=0, max_size=12)


def batch_of(rows: list[dict[str, object]], schema: pa.Schema = SCHEMA) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=schema)


def hash_of(rows: list[dict[str, object]], schema: pa.Schema = SCHEMA) -> str:
    return content_hash([batch_of(rows, schema)], schema)


def canonical(rows: list[dict[str, object]]) -> list[object]:
    """Rows as values that compare like the hash should: NaN equals NaN, -0.0 differs from 0.0."""
    return [
        {**row, "share": None if row["share"] is None else struct.pack("<f", row["share"])}
        if row["share"] == row["share"]
        else {**row, "share": "nan"}
        for row in rows
    ]


@given(ROWS, st.lists(st.integers(0, 12), max_size=4))
@settings(deadline=None)
def test_hash_does_not_depend_on_batches_and_slices(
    rows: list[dict[str, object]], cuts: list[int]
) -> None:
    whole = batch_of(rows)
    edges = sorted({0, len(rows), *(min(cut, len(rows)) for cut in cuts)})
    padded = batch_of([*rows[:1], *rows, *rows[:1]])
    start = len(rows[:1])
    pieces = [padded.slice(start + low, high - low) for low, high in itertools.pairwise(edges)]

    assert content_hash(pieces, SCHEMA) == content_hash([whole], SCHEMA)


@given(ROWS, ROWS)
@settings(max_examples=80, deadline=None)
def test_hash_is_equal_exactly_for_equal_rows(
    left: list[dict[str, object]], right: list[dict[str, object]]
) -> None:
    assert (hash_of(left) == hash_of(right)) == (canonical(left) == canonical(right))


@given(st.lists(ROW, min_size=1, max_size=6), st.data())
@settings(max_examples=80, deadline=None)
def test_hash_sees_any_one_value(rows: list[dict[str, object]], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(rows) - 1))
    column = data.draw(st.sampled_from(sorted(SCHEMA.names)))
    changed = [dict(row) for row in rows]
    changed[place][column] = data.draw(ROW)[column]

    assert (hash_of(rows) == hash_of(changed)) == (canonical(rows) == canonical(changed))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ([{"x": None}], [{"x": ""}]),
        ([{"x": "ab"}, {"x": "c"}], [{"x": "a"}, {"x": "bc"}]),
        ([{"x": ""}], [{"x": ""}, {"x": ""}]),
        ([{"x": "a"}, {"x": None}], [{"x": None}, {"x": "a"}]),
        ([{"x": "a"}, {"x": "b"}], [{"x": "b"}, {"x": "a"}]),
    ],
)
def test_hash_tells_null_empty_and_boundaries_apart(
    left: list[dict[str, object]], right: list[dict[str, object]]
) -> None:
    schema = pa.schema([("x", pa.string())])

    assert hash_of(left, schema) != hash_of(right, schema)


def test_hash_tells_null_list_empty_list_and_list_of_null_apart() -> None:
    schema = pa.schema([("x", pa.list_(pa.int8()))])
    hashes = {hash_of([{"x": value}], schema) for value in (None, [], [None], [0])}

    assert len(hashes) == 4


def test_hash_sees_column_order_name_and_type() -> None:
    def one(*fields: tuple[str, pa.DataType]) -> str:
        return hash_of([{name: None for name, _ in fields}], pa.schema(fields))

    hashes = {
        one(("a", pa.int8()), ("b", pa.int8())),
        one(("b", pa.int8()), ("a", pa.int8())),
        one(("a", pa.int8()), ("c", pa.int8())),
        one(("a", pa.int8()), ("b", pa.int16())),
        one(("a", pa.int8())),
    }

    assert len(hashes) == 5


def test_hash_of_no_rows_depends_on_the_columns_alone() -> None:
    empty = ContentHasher(SCHEMA).hexdigest()

    assert empty == hash_of([])
    assert empty != ContentHasher(pa.schema([("name", pa.string())])).hexdigest()


def test_hash_does_not_depend_on_the_encoding() -> None:
    values = ["a", None, "b", "a", ""]
    plain = pa.array(values)
    forms = [
        plain, plain.cast(pa.large_string()), plain.dictionary_encode(),
        plain.cast(pa.string_view()),
        pa.array(["zz", *values]).slice(1),
    ]  # fmt: skip
    hashes = set()
    for form in forms:
        batch = pa.record_batch([form], names=["x"])
        hashes.add(content_hash([batch], batch.schema))

    assert len(hashes) == 1


def test_hash_does_not_see_the_bytes_under_a_null() -> None:
    valid = pa.array([True, False, True]).buffers()[1]
    hashes = set()
    for hidden in (0, 77):
        data = pa.py_buffer(np.array([1, hidden, 3], np.int64))
        array = pa.Array.from_buffers(pa.int64(), 3, [valid, data])
        offsets = pa.py_buffer(np.array([0, 1, 1 + (hidden > 0), 2 + (hidden > 0)], np.int32))
        letters = pa.py_buffer(b"a" + b"?" * (hidden > 0) + b"c")
        text = pa.Array.from_buffers(pa.string(), 3, [valid, offsets, letters])
        batch = pa.record_batch([array, text], names=["x", "y"])
        hashes.add(content_hash([batch], batch.schema))

    assert len(hashes) == 1


def test_a_batch_with_other_columns_is_refused() -> None:
    hasher = ContentHasher(SCHEMA)

    with pytest.raises(SchemaMismatchError, match="columns of the table"):
        hasher.update(pa.record_batch({"name": ["a"]}))


def test_a_map_column_is_refused() -> None:
    with pytest.raises(SchemaMismatchError, match="cannot hold"):
        plain_schema(pa.schema([("x", pa.map_(pa.string(), pa.string()))]))


@pytest.mark.parametrize(
    "array",
    [
        pa.array([1, None, 3], pa.timestamp("us", "UTC")),
        pa.array([1, None, 3], pa.date32()),
        pa.array(["1.50", None], pa.string()).cast(pa.decimal128(9, 2)),
        pa.array([b"ab", None], pa.binary(2)),
        pa.array([b"ab", None], pa.binary()),
        pa.array([[1.0, 2.0], None], pa.list_(pa.float32(), 2)),
        pa.array([None, None], pa.null()),
    ],
    ids=lambda array: str(array.type),
)
def test_other_types_can_be_hashed_in_slices(array: pa.Array) -> None:
    batch = pa.record_batch([array], names=["x"])
    pieces = [batch.slice(n, 1) for n in range(batch.num_rows)]

    assert content_hash(pieces, batch.schema) == content_hash([batch], batch.schema)

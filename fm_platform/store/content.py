"""The content hash of a table: of its logical rows, not of any file.

Each column is split into streams (validity, lengths, bytes, and those of its children), each
stream is hashed on its own, and the digests are hashed together with names, types and the row
count. So the hash does not depend on batch boundaries, slices, dictionaries, views, large types
or the bytes under a null, and differs for any other value, order, column name or type.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fm_platform.errors import SchemaMismatchError
from fm_platform.hashing import fingerprint


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type without its encoding: no dictionary, view, run-end or large variant.

    Raises:
        SchemaMismatchError: For maps, unions and other types that tables do not hold.
    """
    types = pa.types
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return pa.string()
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return pa.binary()
    if _is_list(kind):
        return pa.list_(plain_type(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([(field.name, plain_type(field.type)) for field in kind])
    if types.is_primitive(kind) or types.is_decimal(kind) or types.is_null(kind):
        return kind
    if types.is_fixed_size_binary(kind):
        return kind
    raise SchemaMismatchError("a column type that tables cannot hold", found=str(kind))


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """Return `schema` with plain nullable types and no metadata."""
    return pa.schema([(field.name, plain_type(field.type)) for field in schema])


def plain_array(array: pa.Array) -> pa.Array:
    """Return `array` in its plain type; the same object if it already is.

    Raises:
        SchemaMismatchError: If the type has no plain form.
    """
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    target = plain_type(array.type)
    return array if array.type == target else array.cast(target)


class ContentHasher:
    """Hashes rows as they stream by.

    Example:
        >>> schema = pa.schema([("x", pa.int64())])
        >>> batch = pa.record_batch({"x": [1, 2, 3]}, schema=schema)
        >>> one, two = ContentHasher(schema), ContentHasher(schema)
        >>> one.update(batch)
        >>> two.update(batch.slice(0, 1)); two.update(batch.slice(1))
        >>> one.hexdigest() == two.hexdigest()
        True
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = plain_schema(schema)
        self.rows = 0
        self._streams: list[hashlib._Hash] = []

    def update(self, batch: pa.RecordBatch) -> None:
        """Add the rows of `batch`.

        Raises:
            SchemaMismatchError: If its columns are not those of the schema, in that order.
        """
        if plain_schema(batch.schema) != self.schema:
            raise SchemaMismatchError(
                "a batch does not have the columns of the table",
                expected=_columns(self.schema),
                found=_columns(batch.schema),
            )
        self.rows += batch.num_rows
        place = 0
        for column in batch.columns:
            place = self._array(plain_array(column), place)

    def hexdigest(self) -> str:
        """Return the hash of all rows so far, 64 hex digits."""
        return fingerprint(
            {
                "format": 1,
                "columns": [[field.name, str(field.type)] for field in self.schema],
                "rows": self.rows,
                # A table without rows has no streams or only empty ones: both mean the same.
                "streams": [h.hexdigest() for h in self._streams] if self.rows else [],
            }
        )

    def _feed(self, data: npt.NDArray[np.generic] | pa.Buffer | memoryview, place: int) -> int:
        if place == len(self._streams):
            self._streams.append(hashlib.sha256())
        if len(data):
            self._streams[place].update(data)  # type: ignore[arg-type]
        return place + 1

    def _array(self, array: pa.Array, place: int) -> int:
        kind = array.type
        if pa.types.is_null(kind):
            return place
        valid = np.asarray(array.is_valid().cast(pa.uint8()))
        place = self._feed(valid, place)
        if pa.types.is_string(kind) or pa.types.is_binary(kind):
            lengths, data = _string_parts(array)
            return self._feed(data, self._feed(lengths, place))
        if pa.types.is_list(kind):
            lengths = pc.fill_null(pc.list_value_length(array), 0)
            place = self._feed(np.asarray(lengths.cast(pa.int64())), place)
            return self._array(plain_array(array.flatten()), place)
        if pa.types.is_struct(kind):
            for child in array.flatten():
                place = self._array(plain_array(child), place)
            return place
        return self._feed(_fixed_bytes(array, valid), place)


def content_hash(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> str:
    """Return the hash of the logical rows of `batches`, in their order.

    Raises:
        SchemaMismatchError: If a batch does not have the columns of `schema`, in that order.
    """
    hasher = ContentHasher(schema)
    for batch in batches:
        hasher.update(batch)
    return hasher.hexdigest()


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
        or types.is_list_view(kind)
        or types.is_large_list_view(kind)
    )


def _columns(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)


def _string_parts(array: pa.Array) -> tuple[npt.NDArray[np.int64], memoryview]:
    """Return lengths int64[n] and all bytes in a row; a null has length 0."""
    if array.null_count:  # a null may hide bytes: they are no part of the content
        array = array.fill_null("" if pa.types.is_string(array.type) else b"")
    _, offsets_buffer, data = array.buffers()
    if len(array) == 0 or offsets_buffer is None:
        return np.zeros(0, np.int64), memoryview(b"")
    offsets = np.frombuffer(offsets_buffer, np.int32)[array.offset : array.offset + len(array) + 1]
    if data is None:
        return np.zeros(len(array), np.int64), memoryview(b"")
    return (
        np.diff(offsets).astype(np.int64),
        memoryview(data)[int(offsets[0]) : int(offsets[-1])],
    )


def _fixed_bytes(array: pa.Array, valid: npt.NDArray[np.uint8]) -> npt.NDArray[np.generic]:
    """Return the values as bytes uint8[n * width]; nulls are zero, every NaN is the same NaN."""
    if len(array) == 0:
        return np.zeros(0, np.uint8)
    if pa.types.is_boolean(array.type):
        return np.asarray(pc.fill_null(array, False).cast(pa.uint8()))
    width = array.type.bit_width // 8
    start = array.offset * width
    data = np.frombuffer(array.buffers()[1], np.uint8)[start : start + len(array) * width]
    rows = data.reshape(len(array), width)
    if pa.types.is_floating(array.type):
        values = data.view(f"<f{width}")
        if np.isnan(values).any():
            values = np.where(np.isnan(values), np.array(np.nan, values.dtype), values)
            rows = values.view(np.uint8).reshape(len(array), width)
    if array.null_count:
        rows = np.where(valid[:, None].astype(bool), rows, np.uint8(0))
    return np.ascontiguousarray(rows).reshape(-1)

"""Safetensors files come back byte for byte, whatever is in them."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save

from fm_platform.store import tensors

DTYPES = ("float32", "float16", "int8", "int64", "bool", "uint8")
shapes = st.lists(st.integers(0, 4), max_size=3)
files = st.dictionaries(
    st.text(min_size=1, max_size=12).filter(lambda name: name != "__metadata__"),
    st.tuples(st.sampled_from(DTYPES), shapes),
    min_size=1,
    max_size=6,
)


@given(files, st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=2))
def test_a_file_comes_back(named: dict[str, tuple[str, list[int]]], note: dict[str, str]) -> None:
    data = save(
        {name: np.ones(shape, dtype) for name, (dtype, shape) in named.items()}, metadata=note
    )

    parsed = tensors.parse(memoryview(data))

    assert parsed is not None
    singles = [tensors.single_header(s) + data[s.start : s.end] for s in parsed.tensors]
    payloads = b"".join(tensors.payload(memoryview(single)) for single in singles)
    assert tensors.prefix(parsed.header) + payloads == data
    assert list(tensors.names(parsed.header)) == [span.name for span in parsed.tensors]
    for span, single in zip(parsed.tensors, singles, strict=True):
        read = load(single)
        assert list(read) == [span.name]
        assert read[span.name].shape == tuple(named[span.name][1])
        assert read[span.name].dtype == named[span.name][0]


def raw(header: object, body: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"1234567",
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 4) + b"\xff\xff\xff\xff",
        raw([], b""),
        raw({}, b""),
        raw({"a": {"dtype": "I8", "shape": [2], "data_offsets": [0, 2]}}, b"123"),
        raw({"a": {"dtype": "I8", "shape": [2], "data_offsets": [1, 3]}}, b"123"),
        raw({"a": {"dtype": "I8", "shape": [2], "data_offsets": [0, 9]}}, b"12"),
        raw({"a": {"dtype": "I8", "shape": [2]}}, b"12"),
        raw({"a": 7}, b"12"),
    ],
)
def test_an_unusual_file_is_kept_whole(data: bytes) -> None:
    assert tensors.parse(memoryview(data)) is None


@given(st.binary(max_size=64))
def test_any_bytes_are_answered(data: bytes) -> None:
    tensors.parse(memoryview(data))

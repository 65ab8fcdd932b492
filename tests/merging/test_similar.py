"""Weights by whose texts are alike: planted domains come back, and no label is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.merge import MergeResult, merge_experts
from fm_platform.merging.similar import similar_weights, similarities
from fm_platform.spec.models import Merge
from tests.merging.conftest import Family
from tests.support.tiny_model import CLASSES, WORDS

OWNED = {"a": ("red",), "b": ("blue",), "c": ("green",)}
AXES = np.eye(4, dtype=np.float32)


def near(axis: int, count: int, seed: int, also: int | None = None) -> np.ndarray:
    """Unit vectors around an axis; around another one, too, for every second of them."""
    generator = np.random.default_rng(seed)
    middle = np.stack([AXES[axis if also is None or i % 2 else also] for i in range(count)])
    found = middle + 0.1 * generator.standard_normal((count, 4)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def world(new: np.ndarray) -> tuple[np.ndarray, list[str]]:
    parts = [near(0, 30, 1), near(1, 20, 2), near(2, 50, 3), new]
    names = ["red"] * 30 + ["blue"] * 20 + ["green"] * 50 + ["new"] * len(new)
    return np.concatenate(parts), names


def test_a_new_source_goes_to_who_knows_such_texts() -> None:
    found = similarities(*world(near(1, 12, 9)), OWNED)

    assert found == {"a": 0.0, "b": 1.0, "c": 0.0}
    assert similar_weights(found, 0.1) == {"a": 0.0, "b": 1.0, "c": 0.0}


def test_one_that_is_half_this_and_half_that_goes_to_both() -> None:
    found = similarities(*world(near(0, 40, 9, also=2)), OWNED)

    assert found == pytest.approx({"a": 0.5, "b": 0.0, "c": 0.5}, abs=0.02)


def test_more_texts_make_nobody_more_alike() -> None:
    """The new texts are like none: chance decides, and not who has most of the rows."""
    found = similarities(*world(near(3, 400, 9)), OWNED)
    again = similarities(*world(near(3, 400, 9)), OWNED)

    assert found == again
    assert sum(found.values()) == pytest.approx(1)
    assert found["c"] < 0.7  # it has half of the rows, and a third of the neighbours


def test_a_declared_target_may_have_an_expert_and_asks_not_itself() -> None:
    vectors, names = world(near(1, 12, 9))
    lone = [*names[:30], *["red"] * 20, *names[50:]]  # nobody owns blue: its texts are red's
    owned = {"a": ("red",), "c": ("green",)}

    assert similarities(vectors, lone, owned, ["red"])["a"] == 1.0
    twins = np.repeat(AXES[:2], 2, axis=0)
    found = similarities(twins, ["x", "y", "x", "y"], {"one": ("x",), "two": ("y",)}, ["x"])
    assert found["one"] < 1  # of its two texts each asks the other and both of `two`


def test_all_are_asked_where_each_source_has_an_expert() -> None:
    vectors, names = world(near(1, 2, 9))
    found = similarities(vectors[:100], names[:100], OWNED)

    assert found == pytest.approx({"a": 0.3, "b": 0.2, "c": 0.5}, abs=0.05)


def test_below_the_least_similarity_there_is_no_weight() -> None:
    told = {"a": 0.6, "b": 0.05, "c": 0.35}

    assert similar_weights(told, 0.1) == {"a": 0.631579, "b": 0.0, "c": 0.368421}
    assert similar_weights(told, 0.0) == pytest.approx(told)
    with pytest.raises(MergeRefusedError, match="alike enough") as refused:
        similar_weights(told, 0.7)
    assert "a 0.60" in str(refused.value)


def test_who_has_no_texts_is_named() -> None:
    vectors, names = world(near(1, 3, 9))
    with pytest.raises(MergeRefusedError, match="some have none") as refused:
        similarities(vectors, names, {**OWNED, "d": ("violet",)})
    assert "found: d" in str(refused.value)
    with pytest.raises(MergeRefusedError) as refused:
        similarities(vectors, names, OWNED, ["violet"])
    assert "found: violet" in str(refused.value)


def planted(count: int = 24) -> pa.Table:
    """Mail speaks of bad things, chat of good ones; news, without an expert, of good ones."""
    generator = np.random.default_rng(0)
    rows: dict[str, list[Any]] = {"row_id": [], "text": [], "source": [], "probabilities": []}
    for source, words in (("mail", "negative"), ("chat", "positive"), ("news", "positive")):
        for i in range(count):
            told = [WORDS[words][int(j)] for j in generator.integers(5, size=6)]
            rows["row_id"].append(f"{source}-{i}")
            rows["text"].append(" ".join(told))
            rows["source"].append(source)
            rows["probabilities"].append([1.0, 0.0, 0.0])
    types = {"probabilities": pa.list_(pa.float32())}
    return pa.table({name: pa.array(values, types.get(name)) for name, values in rows.items()})


def merged(family: Family, out: Path, dev: pa.Table | None, **declared: Any) -> MergeResult:
    merge = Merge.model_validate({"search": "similar", **declared})
    return merge_experts(
        family.base, family.experts, merge, CLASSES, out, start=family.start, dev=dev,
        gold=planted(), sources={"chat": ["chat"], "mail": ["mail"]}, threads=1,
    )  # fmt: skip


def test_an_expert_of_the_like_answers_for_a_source_without_one(
    family: Family, tmp_path: Path
) -> None:
    found = merged(family, tmp_path / "m", planted(), similarity=0.5)
    towards = merged(family, tmp_path / "n", planted(), towards=["mail"])
    similar = {row["expert"]: row["similarity"] for row in found.report["similar"]}

    assert found.weights == {"chat": 1.0, "mail": 0.0}
    assert similar["chat"] > 0.7
    assert similar["mail"] == pytest.approx(1 - similar["chat"])
    assert towards.weights["mail"] > 0.7 > towards.weights["chat"] > 0


def test_no_label_has_a_say(family: Family, tmp_path: Path) -> None:
    rows = planted()
    other = pa.array([[0.0, 0.5, 0.5]] * rows.num_rows, pa.list_(pa.float32()))
    at = rows.column_names.index("probabilities")
    for name, dev in (("one", rows), ("two", rows.set_column(at, "probabilities", other))):
        merged(family, tmp_path / name, dev, towards=["news"], similarity=0.0)

    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_without_dev_rows_there_is_nothing_to_compare(family: Family, tmp_path: Path) -> None:
    with pytest.raises(MergeRefusedError, match="compares texts of dev rows"):
        merged(family, tmp_path / "m", None)

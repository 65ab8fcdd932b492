"""Groups of texts alike and the words that name them."""

from __future__ import annotations

import numpy as np

from fm_platform.labeling.clusters import clusters_of


def test_groups_are_named_by_the_words_that_set_them_apart() -> None:
    texts = [f"the battery died on day {i}" for i in range(30)]
    texts += [f"the actor played well in scene {i}" for i in range(20)]
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(50, 8)) * 0.05
    vectors[:30, 0] += 1
    vectors[30:, 1] += 1

    found = clusters_of(vectors.astype(np.float32), texts, seed=0)
    again = clusters_of(vectors.astype(np.float32), texts, seed=0)

    assert found == again
    for one in found:
        battery = one.members[0] < 30
        assert {i < 30 for i in one.members} == {battery}
        assert ("battery" if battery else "actor") in one.terms
        assert "the" not in one.terms


def test_one_group_alone_is_set_apart_from_other_texts() -> None:
    texts = [f"the battery of {i}" for i in range(8)]
    (one,) = clusters_of(np.ones((8, 3), np.float32), texts, 0, ["the actor of"] * 8)
    assert one.terms == ("battery",)
    assert clusters_of(np.ones((2, 3), np.float32), texts[:2], 0) == []

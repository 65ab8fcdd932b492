"""A router sends a text to who was trained on the like."""

from __future__ import annotations

import numpy as np
import pytest

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.router import Router, compose

MAIL = [f"dear sir, regarding your invoice of {n} thousand" for n in range(30)]
CHAT = [f"lol omg {n} haha u there??" for n in range(30)]


def test_texts_go_to_who_knows_them() -> None:
    router = Router(MAIL + CHAT, ["mail"] * 30 + ["chat"] * 30)
    weights = router.weights(["dear madam, the invoice", "haha lol ok??", ""])

    assert router.names == ["chat", "mail"]
    assert weights.sum(axis=1) == pytest.approx(1)
    assert weights[0, 1] > 0.9 > 0.1 > weights[1, 1]
    again = Router(MAIL + CHAT, ["mail"] * 30 + ["chat"] * 30)
    assert np.array_equal(again.weights(["haha"]), router.weights(["haha"]))


def test_the_answer_is_the_mean_by_weight() -> None:
    answers = {"chat": np.array([[1.0, 0.0]]), "mail": np.array([[0.2, 0.8]])}

    mixed = compose(np.array([[0.25, 0.75]]), ["chat", "mail"], answers)
    assert mixed == pytest.approx(np.array([[0.4, 0.6]]))


def test_one_expert_needs_no_router() -> None:
    with pytest.raises(MergeRefusedError, match="rows of one"):
        Router(MAIL, ["mail"] * 30)

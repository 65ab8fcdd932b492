"""The model stages on a small project and a tiny base: build, reuse, damage, promote, predict."""

from __future__ import annotations

import numpy as np
import pytest

from fm_platform.stages.predict import classifier
from fm_platform.training.predict import predict_probabilities
from tests.stages.small import Built, build_models
from tests.support.tiny_model import CLASSES, WORDS


def test_the_chain_learns_what_the_words_say(built: Built) -> None:
    _, _, results = built
    rows = results["evaluation"].version.metrics["evaluation"]["rows"]
    scores = {r["system"]: r["f1_weighted"]["value"] for r in rows if r["source"] == "all"}

    assert set(scores) == {
        "merged_model", "expert:mail", "expert:chat", "router", "shared_start",
        "label_model", "majority_vote", "words",
    }  # fmt: skip
    assert scores["label_model"] > 0.95
    assert scores["merged_model"] > 0.8
    assert all(check.passed for result in results.values() for check in result.checks)


def test_the_first_model_becomes_champion_and_answers(built: Built) -> None:
    ws, loaded, results = built

    champion = ws.ledger.alias("small", "champion")
    assert champion is not None
    texts = [f"the is a {word} {word} now" for label in CLASSES for word in WORDS[label]]
    told = predict_probabilities(classifier(ws, loaded, champion), texts, max_tokens=24)

    assert champion.content_hash == results["merged"].version.content_hash
    assert np.mean(told.argmax(axis=1) == np.repeat([0, 1, 2], 5)) > 0.6
    assert [d["kind"] for d in ws.ledger.decisions("small")] == ["promotion"]


def test_a_second_run_computes_nothing_and_decides_nothing(built: Built) -> None:
    ws, loaded, first = built

    again = build_models(ws, loaded)

    assert all(result.reused for result in again.values())
    assert {k: r.version.content_hash for k, r in again.items()} == {
        k: r.version.content_hash for k, r in first.items()
    }
    assert len(ws.ledger.decisions("small")) == 1


@pytest.mark.parametrize("name", ["start", "mail", "merged"])
def test_a_damaged_model_is_built_again_bit_for_bit(built: Built, name: str) -> None:
    ws, loaded, first = built
    version = first[name].version
    alone = ws.models.unnamed(frozenset({version.content_hash}))  # no other model heals them
    weights = ws.models.objects.path(max(alone, key=ws.models.objects.size))
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.write_bytes(bytes(data))

    again = build_models(ws, loaded)[name]

    assert not again.reused
    assert "damaged" in again.reason or "sha256" in again.reason
    assert again.version.content_hash == version.content_hash
    ws.models.verify(version.content_hash)

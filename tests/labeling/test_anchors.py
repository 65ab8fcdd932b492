"""Functions that know one class each: what they say counts, until other votes speak against it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_platform.labeling.anchors import anchors_of
from fm_platform.labeling.candidates import fit_all, part_of
from fm_platform.labeling.em import Settings, unit_majority
from fm_platform.labeling.label_model import fit_label_model, majority_vote
from fm_platform.labeling.parameters import ANCHORED, CONFUSION, MAJORITY, SILENCE
from fm_platform.labeling.partial import NO_SETS
from fm_platform.labeling.patterns import unique_patterns
from fm_platform.labeling.plausible import believable, contradiction, knowledge, shift
from fm_platform.labeling.units import pack
from fm_platform.spec.models import LabelModelSpec

Votes = npt.NDArray[np.int8]
SHARES = (0.5, 0.3, 0.17, 0.03)


def drawn(
    seed: int, known: tuple[int, ...], found: float, precision: float | dict[int, float]
) -> tuple[Votes, npt.NDArray[np.int64]]:
    """Return votes of functions that know the classes `known`, and the truth, of 4,000 rows."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(4, 4000, p=SHARES)
    votes = np.full((4000, len(known)), -1, np.int8)
    for j, label in enumerate(known):
        own = precision if isinstance(precision, float) else precision.get(j, 0.85)
        right = (truth == label) & (rng.random(4000) < found)
        mistakes = right.sum() * (1 - own) / own / (truth != label).sum()
        votes[right | ((truth != label) & (rng.random(4000) < mistakes)), j] = label
    return votes, truth


def accuracies(votes: Votes, truth: npt.NDArray[np.int64], gold: int = 0) -> tuple[float, float]:
    """Return how often label model and majority vote are right on rows with a vote."""
    rows = np.sort(np.random.default_rng(0).choice(len(truth), gold, replace=False))
    sources = ["*"] * len(truth)
    fit = fit_label_model(votes, sources, rows, truth[rows], 4, LabelModelSpec())
    voted = (votes >= 0).any(axis=1)
    told = fit.predict(votes, sources)[voted].argmax(axis=1)
    most = majority_vote(votes[voted], 4).argmax(axis=1)
    assert 3 in told  # the rare class is not lost
    return float((told == truth[voted]).mean()), float((most == truth[voted]).mean())


@pytest.mark.parametrize("gold", [0, 100])
@pytest.mark.parametrize("known", [(0, 1, 2, 3), (0, 0, 1, 1, 2, 2, 3), (0, 0, 0, 1, 1, 2, 3)])
@pytest.mark.parametrize(("found", "precision"), [(0.3, 0.75), (0.5, 0.85), (0.8, 0.7)])
def test_no_class_swallows_the_others(
    known: tuple[int, ...], found: float, precision: float, gold: int
) -> None:
    votes, truth = drawn(0, known, found, precision)

    ours, majority = accuracies(votes, truth, gold)

    assert ours >= majority - 0.003


def test_a_class_with_more_functions_has_no_more_say() -> None:
    votes, truth = drawn(1, (0, 0, 0, 0, 1, 2, 3), 0.8, 0.7)

    ours, majority = accuracies(votes, truth)

    assert ours > majority + 0.05


def test_other_votes_overrule_a_function_that_is_mostly_wrong() -> None:
    votes, truth = drawn(2, (0, 0, 0, 1, 1, 1, 2, 2, 3, 3), 0.7, {7: 0.25})

    fit = fit_label_model(
        votes, ["*"] * 4000, np.zeros(0, int), np.zeros(0, int), 4, LabelModelSpec()
    )  # fmt: skip
    told = fit.predict(votes, ["*"] * 4000).argmax(axis=1)
    alone = (votes[:, 7] == 2) & (votes[:, 6] == -1) & (truth != 2)

    assert (told[alone] == 2).mean() < 0.5


def test_a_copied_function_counts_once() -> None:
    votes, truth = drawn(3, (0, 0, 1, 1, 2, 3), 0.6, 0.85)
    copied = np.concatenate([votes, votes[:, [5, 5, 5]]], axis=1)

    fit = fit_label_model(
        copied, ["*"] * 4000, np.zeros(0, int), np.zeros(0, int), 4, LabelModelSpec()
    )  # fmt: skip

    assert fit.copies == ((5, 6, 7, 8),)
    one, other = accuracies(copied, truth)[0], accuracies(votes, truth)[0]
    assert one == pytest.approx(other, abs=0.01)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 6))
def test_anchors_hold_as_many_votes_as_there_are(seed: int, classes: int, functions: int) -> None:
    rng = np.random.default_rng(seed)
    votes = rng.integers(-1, classes, (60, functions)).astype(np.int8)
    packed = pack(votes, None, classes)

    anchors = anchors_of(packed, unit_majority(packed))

    weight = anchors.prior.sum() / 60
    for unit, cells in zip(packed.units, anchors.units, strict=True):
        for position, function in enumerate(unit.members):
            said = np.bincount(votes[:, function] + 1, minlength=classes + 1)[1:]
            if classes > 2:  # with two, what is not right is of the other class or of neither
                assert (cells[position, :, :classes].sum(axis=0) <= weight * said + 1e-9).all()
            own = cells[position].diagonal()[:classes]
            assert (own >= cells[position, :, :classes].max(axis=0) - 1e-9).all()
            assert (cells[position] >= 0).all()


def talkative(seed: int) -> tuple[Votes, npt.NDArray[np.int64]]:
    """Return votes of functions that know two classes of three; on long texts all speak more."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, 4000, p=[0.5, 0.3, 0.2])
    long = rng.random(4000) < 0.4
    votes = np.full((4000, 8), -1, np.int8)
    for j in range(8):
        known = np.array([j % 3, (j + 1) % 3])
        said = np.where(
            np.isin(truth, known) & (rng.random(4000) < 0.6), truth, rng.choice(known, 4000)
        )
        speaks = rng.random(4000) < np.where(long, 0.8, 0.15)
        votes[speaks, j] = said[speaks]
    return votes, truth


def test_who_speaks_more_on_long_texts_does_not_tell_classes_by_length() -> None:
    for seed in range(3):
        votes, truth = talkative(seed)
        patterns, _, counts = unique_patterns(votes, 3)
        part = part_of("*", patterns, counts.astype(np.float64), 3, NO_SETS)
        fit_all(part, [MAJORITY, SILENCE], (), Settings())
        assert knowledge(part) == (True, False)
        assert shift(part, MAJORITY) == 0
        assert not believable(part, SILENCE)  # its classes are long and short texts

        fit = fit_label_model(
            votes, ["*"] * 4000, np.zeros(0, int), np.zeros(0, int), 3, LabelModelSpec()
        )  # fmt: skip
        voted = (votes >= 0).any(axis=1)
        told = fit.predict(votes[voted], ["*"] * int(voted.sum())).argmax(axis=1)
        most = majority_vote(votes[voted], 3).argmax(axis=1)
        assert (told == truth[voted]).mean() >= (most == truth[voted]).mean() - 0.003


def test_whose_votes_a_model_takes_for_another_class() -> None:
    votes, _ = drawn(4, (0, 1, 2, 3), 0.5, 0.9)
    patterns, _, counts = unique_patterns(votes, 4)
    part = part_of("*", patterns, counts.astype(np.float64), 4, NO_SETS)

    fit_all(part, [MAJORITY, CONFUSION, ANCHORED], (), Settings())

    assert contradiction(part, ANCHORED) == 0
    assert contradiction(part, MAJORITY) == 0
    assert contradiction(part, CONFUSION) > 0.4  # one class explains all votes


def test_what_tells_classes_apart() -> None:
    one = np.array([[0, -1, 1], [0, 1, -1]], np.int8)
    several = np.array([[0, 1, 1, 0], [1, 0, 0, -1]], np.int8)

    def known(votes: Votes) -> tuple[bool, bool]:
        return knowledge(part_of("*", votes, np.ones(len(votes)), 2, NO_SETS))

    assert known(one) == (True, True)
    assert known(several) == (True, False)
    assert known(several[:, :3]) == (False, False)

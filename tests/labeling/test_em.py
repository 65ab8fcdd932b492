"""EM against known truth, against exhaustive sums, and at its edges."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fm_platform.labeling import em
from fm_platform.labeling.dependence import sample_of
from fm_platform.labeling.em import Known, Settings, fit_em, run_em
from fm_platform.labeling.moments import fit_triplet
from fm_platform.labeling.parameters import (
    CONFUSION,
    ONE_COIN,
    SILENCE,
    Kind,
    LabelModel,
    log_likelihood,
    majority_vote,
)
from fm_platform.labeling.partial import ClassSets, encode
from fm_platform.labeling.patterns import Floats, Votes, unique_patterns
from fm_platform.labeling.units import Groups, pack
from tests.labeling.drawn import accuracy, independent, with_copies

KINDS = (ONE_COIN, CONFUSION, SILENCE)
VOTES = hnp.arrays(np.int8, st.tuples(st.integers(1, 12), st.integers(1, 4)),
                   elements=st.integers(-1, 2))  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_em_finds_accuracies_and_prior_of_independent_functions(kind: Kind) -> None:
    accuracies = [0.9, 0.8, 0.75, 0.7, 0.65, 0.6]
    votes, truth = independent(20_000, accuracies, prior=0.3)

    model = fit_em(votes, 2, kind=kind)

    said = [model.conditional(j)[1, 1] / model.conditional(j)[1, :2].sum() for j in range(6)]
    assert np.abs(np.array(said) - accuracies).max() < 0.03
    assert abs(model.prior[1] - 0.3) < 0.02
    assert accuracy(model.predict(votes), truth) >= accuracy(majority_vote(votes, 2), truth)


def test_the_triplet_method_finds_them_in_closed_form() -> None:
    accuracies = [0.9, 0.8, 0.75, 0.7, 0.65]
    votes, _ = independent(50_000, accuracies, prior=0.3)
    patterns, _, counts = unique_patterns(votes, 2)

    model = fit_triplet(sample_of(patterns, counts.astype(float), 2))

    assert np.abs([e[1, 1] for e in model.emissions] - np.array(accuracies)).max() < 0.02
    assert abs(model.prior[1] - 0.3) < 0.02


def exact(model: LabelModel, row: list[int], sets: ClassSets) -> Floats:
    """Return the posterior of one row by summing over everything hidden."""
    k = len(model.prior)
    told = np.zeros(k)
    for label in range(k):
        for states in itertools.product(*(range(link.shape[1]) for link in model.links)):
            product = model.prior[label]
            for state, link in zip(states, model.links, strict=True):
                product *= link[label, state]
            for j, vote in enumerate(row):
                group = next((g for g, own in enumerate(model.groups) if j in own), None)
                emission = model.emissions[j][label if group is None else states[group]]
                if vote != -1:
                    product *= emission[list(sets.members(vote))].sum()
                elif model.silence:
                    product *= emission[-1]
            told[label] += product
    return told


@pytest.mark.parametrize("kind", KINDS)
def test_posterior_and_likelihood_are_the_sums_over_all_that_is_hidden(kind: Kind) -> None:
    generator = np.random.default_rng(0)
    answers = [[int(v) if v < 3 else (0, 2) for v in row]
               for row in generator.integers(-1, 4, (300, 5))]  # fmt: skip
    columns = [encode([row[j] for row in answers], 3) for j in range(5)]
    sets = columns[0][1]
    votes = np.stack([votes for votes, _ in columns], axis=1)
    model = fit_em(votes, 3, kind=kind, groups=((1, 3, 4),), sets=sets)

    joint = np.array([exact(model, row, sets) for row in votes.tolist()])

    expected = joint / joint.sum(axis=1, keepdims=True)
    assert np.allclose(model.predict(votes, sets), expected, atol=1e-9)
    packed = pack(votes, None, 3, model.groups, sets)
    assert np.isclose(log_likelihood(model, packed), np.log(joint.sum(axis=1)).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_no_step_makes_the_votes_less_likely(kind: Kind) -> None:
    votes, _ = independent(2_000, [0.9, 0.8, 0.7, 0.6, 0.6], prior=0.3)
    packed = pack(votes, None, 2, ((3, 4),))

    seen = []
    for steps in range(1, 12):
        model = run_em(packed, kind, Settings(steps, smoothing=1e-9, tolerance=0))
        seen.append(log_likelihood(model, packed))

    assert all(after >= before - 1e-6 for before, after in itertools.pairwise(seen))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("groups", [(), ((0, 4, 5),)])
def test_em_that_jumps_ahead_arrives_where_em_arrives(
    kind: Kind, groups: Groups, monkeypatch: pytest.MonkeyPatch
) -> None:
    votes = with_copies(independent(3_000, [0.8, 0.75, 0.7, 0.65], prior=0.4)[0], 0, 2)
    patterns, _, counts = unique_patterns(votes, 2)
    packed = pack(patterns, counts, 2, groups)
    far = Settings(2_000, tolerance=1e-10)

    jumped = run_em(packed, kind, far)
    monkeypatch.setattr(em, "_NEAR", 0.0)
    walked = run_em(packed, kind, far)

    assert np.abs(jumped.posterior(packed) - walked.posterior(packed)).max() < 1e-3
    assert log_likelihood(jumped, packed) > log_likelihood(walked, packed) - 0.01


def test_a_jump_saves_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    votes, _ = independent(5_000, [0.7, 0.65, 0.65, 0.6, 0.6], prior=0.5)
    patterns, _, counts = unique_patterns(votes, 2)
    packed = pack(patterns, counts, 2)

    def steps() -> int:
        told: list[None] = []
        step = em._maximize
        with monkeypatch.context() as patched:
            patched.setattr(em, "_maximize", lambda *args: (told.append(None), step(*args))[1])
            run_em(packed, ONE_COIN, Settings(2_000, tolerance=1e-7))
        return len(told)

    with_jumps = steps()
    monkeypatch.setattr(em, "_NEAR", 0.0)

    assert with_jumps < 0.6 * steps()


def test_exact_copies_in_a_group_count_once() -> None:
    votes, _ = independent(4_000, [0.85, 0.8, 0.75, 0.7], prior=0.4)
    copied = np.concatenate([votes, *[votes[:, 3:]] * 3], axis=1)

    alone = fit_em(votes, 2).predict(votes)
    grouped = fit_em(copied, 2, groups=((3, 4, 5, 6),)).predict(copied)

    assert np.abs(alone - grouped).max() < 0.01


def test_independent_functions_in_a_group_come_out_as_independent() -> None:
    votes, truth = independent(20_000, [0.9, 0.85, 0.8, 0.7, 0.6], prior=0.4)

    apart = fit_em(votes, 2).predict(votes)
    together = fit_em(votes, 2, groups=((0, 1, 2),)).predict(votes)

    assert accuracy(together, truth) > accuracy(apart, truth) - 0.003


def test_silence_is_news_where_functions_know_one_class_only() -> None:
    generator = np.random.default_rng(0)
    truth = (generator.random(8_000) < 0.5).astype(np.int64)
    says = np.array([0, 0, 0, 1, 1, 1])
    rate = np.where(truth[:, None] == says, 0.5, 0.1)
    votes = np.where(generator.random(rate.shape) < rate, says, -1).astype(np.int8)

    spoken = fit_em(votes, 2, kind=CONFUSION).predict(votes)
    silent = fit_em(votes, 2, kind=SILENCE).predict(votes)

    assert accuracy(silent, truth) > accuracy(spoken, truth) + 0.02


def test_a_function_that_is_mostly_wrong_is_turned_round() -> None:
    votes, truth = independent(10_000, [0.8, 0.8, 0.75, 0.2], prior=0.5)

    model = fit_em(votes, 2)

    assert model.emissions[3][0, 0] < 0.3
    assert accuracy(model.predict(votes), truth) > 0.8


def test_a_partial_vote_narrows_without_deciding() -> None:
    votes, truth = independent(3_000, [0.9, 0.8, 0.8], prior=0.5)
    generator = np.random.default_rng(2)
    other = np.where(truth == 1, 1 + (generator.random(3_000) < 0.5), 0)
    three = np.where(votes == 1, np.where(generator.random(votes.shape) < 0.85, other[:, None],
                                          3 - other[:, None]), votes)  # fmt: skip
    sets = ClassSets.of([(1, 2)])
    narrowing = np.where(truth > 0, -2, 0)[:, None]
    partial = np.concatenate([np.where(three == 3, 1, three), narrowing], axis=1).astype(np.int8)

    told = fit_em(partial, 3, sets=sets, kind=CONFUSION).predict(partial, sets)

    assert ((told[:, 1] + told[:, 2] > 0.5) == (truth > 0)).mean() > 0.97
    assert accuracy(told, other) > accuracy(
        fit_em(partial[:, :3], 3).predict(partial[:, :3]), other
    )


def test_known_rows_keep_their_class_and_lead_a_model_that_majority_misleads() -> None:
    votes, truth = independent(3_000, [0.85, 0.85, 0.85], prior=0.5, coverage=1.0)
    misled = with_copies(1 - votes[:, :1], 0, 6, noise=0.15)
    both = np.concatenate([votes, misled], axis=1).astype(np.int8)
    rows = np.arange(100)
    packed = pack(both, np.where(np.arange(3_000) < 100, 30.0, 1.0), 2)
    known = Known(rows, np.eye(2, dtype=bool)[truth[rows]])

    lost = run_em(packed, CONFUSION, Settings())
    led = run_em(packed, CONFUSION, Settings(), known=known)

    assert accuracy(lost.posterior(packed), truth) < 0.5 < accuracy(led.posterior(packed), truth)


def test_evidence_that_is_carried_on_counts_beside_todays() -> None:
    votes, _ = independent(5_000, [0.9, 0.7, 0.6], prior=0.3)
    yesterday = fit_em(votes, 2)
    today = pack(np.full((4, 3), -1, np.int8), None, 2)

    carried = run_em(today, ONE_COIN, Settings(carry=0.5), start=yesterday)

    assert np.allclose(carried.prior, yesterday.prior, atol=0.001)
    assert np.allclose(carried.emissions, yesterday.emissions, atol=0.001)
    assert carried.rows == pytest.approx(2_504)


@settings(max_examples=40, deadline=None)
@given(VOTES, st.sampled_from(KINDS), st.sampled_from([0.0, 1.0]))
def test_posteriors_are_probabilities_whatever_the_votes(
    votes: Votes, kind: Kind, smoothing: float
) -> None:
    fitted = fit_em(votes, 3, kind=kind, settings=Settings(20, smoothing)).predict(votes)
    for told in (majority_vote(votes, 3), fitted):
        assert told.shape == (len(votes), 3)
        assert np.isfinite(told).all()
        assert np.allclose(told.sum(axis=1), 1)


@settings(max_examples=40, deadline=None)
@given(VOTES, st.randoms(use_true_random=False), st.sampled_from(KINDS))
def test_permuted_functions_have_permuted_parameters(votes: Votes, random: Any, kind: Kind) -> None:
    order = list(range(votes.shape[1]))
    random.shuffle(order)

    first = fit_em(votes, 3, kind=kind, settings=Settings(5, tolerance=0))
    second = fit_em(votes[:, order], 3, kind=kind, settings=Settings(5, tolerance=0))

    assert np.allclose([first.emissions[j] for j in order], second.emissions, atol=1e-8)
    assert np.allclose(first.prior, second.prior, atol=1e-8)


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (4, 3)])
@pytest.mark.parametrize("kind", KINDS)
def test_no_rows_no_functions_or_no_vote_leave_an_even_prior(
    shape: tuple[int, int], kind: Kind
) -> None:
    silent = np.full(shape, -1, np.int8)

    assert fit_em(silent, 2, kind=kind).predict(silent).tolist() == [[0.5, 0.5]] * shape[0]


def test_one_function_alone_is_believed() -> None:
    votes = np.array([[0]] * 30 + [[1]] * 10 + [[-1]] * 5, np.int8)

    assert fit_em(votes, 2).predict(votes).argmax(axis=1).tolist() == [0] * 30 + [1] * 10 + [0] * 5


def test_a_single_class_in_all_votes_stays_the_answer() -> None:
    votes = np.full((50, 3), 1, np.int8)

    assert (fit_em(votes, 3, kind=CONFUSION).predict(votes).argmax(axis=1) == 1).all()


def test_a_vote_outside_the_taxonomy_is_refused() -> None:
    with pytest.raises(ValueError, match="between -1 and 1"):
        fit_em(np.array([[0, 2]], np.int8), 2)


def test_rows_without_a_vote_get_the_mean_of_the_others_and_sets_are_shared() -> None:
    votes, sets = np.array([[0, 0], [0, 1], [-1, -1], [-2, 0]], np.int8), ClassSets.of([(0, 1)])

    told = majority_vote(votes, 3, sets=sets)

    assert told[3].tolist() == [0.75, 0.25, 0.0]
    assert told[2].tolist() == [0.75, 0.25, 0.0]

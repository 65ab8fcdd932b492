"""Counts of days against counting by hand, and what a report makes of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_platform.labeling.advice import advise
from fm_platform.labeling.counts import DayCounts, Voted, count_day
from fm_platform.labeling.diagnostics import diagnose
from fm_platform.labeling.partial import NO_SETS, ClassSets
from fm_platform.labeling.report import TOGETHER, add_up, against, records, series

CLASSES = ["bad", "flat", "good"]


def day_of(votes: np.ndarray, sets: ClassSets = NO_SETS, seed: int = 0) -> Voted:
    n = len(votes)
    generator = np.random.default_rng(seed)
    told = generator.dirichlet(np.ones(len(CLASSES)), n).astype(np.float32)
    sources = ["mail" if i % 3 else "chat" for i in range(n)]
    long = np.arange(n) % 2 == 0
    return Voted(
        [f"{i:03d}" for i in range(n)], sources, votes.astype(np.int8), sets, told,
        np.arange(n) % 5 == 0, {"long": long},
    )  # fmt: skip


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 40))
def test_days_that_are_added_up_are_what_all_their_rows_give(seed: int, m: int, n: int) -> None:
    votes = np.random.default_rng(seed).integers(-1, 3, (2 * n, m))
    names = [f"f{i}" for i in range(m)]
    whole = day_of(votes, seed=seed)
    gold = [(row, CLASSES[i % 3]) for i, row in enumerate(whole.row_ids) if i % 4 == 1]
    halves = [
        Voted(
            whole.row_ids[part], whole.sources[part], whole.votes[part], NO_SETS,
            whole.probabilities[part], whole.held_out[part], {"long": whole.slices["long"][part]},
        )
        for part in (slice(0, n), slice(n, None))
    ]  # fmt: skip
    days = [
        (f"2026-01-0{i}", DayCounts.from_table(count_day(half, names, CLASSES, gold).to_table()))
        for i, half in enumerate(halves, 1)
    ]

    totals = add_up(days, budget=1_000)
    told = {(r["function"], r["source"], r["slice"]): r for r in records(totals)}

    place = {row: i for i, row in enumerate(whole.row_ids)}
    dev = np.array([place[row] for row, _ in gold], np.int64)
    labels = np.array([CLASSES.index(label) for _, label in gold], np.int64)
    for direct in diagnose(whole.votes, names, whole.sources, dev, labels):
        mine = told[(direct["function"], direct["group"], "all")]
        for name in ("coverage", "overlap", "conflict"):
            assert mine[name] == pytest.approx(direct[name], abs=1e-4)
        assert mine["dev"]["n"] == direct["dev_votes"]
        assert mine["dev"]["value"] == direct["dev_accuracy"]
        assert (mine["dev"]["low"], mine["dev"]["high"]) == (direct["low"], direct["high"])
    for j, name in enumerate(names):
        voted = whole.votes[:, j] >= 0
        long = voted & whole.slices["long"]
        assert told[(name, "all", "long")]["votes"] == long.sum()
        if voted.any():
            right = whole.probabilities[voted, whole.votes[voted, j]].mean()
            assert told[(name, "all", "all")]["estimated"]["value"] == pytest.approx(
                right, abs=2e-4
            )
    assert sum(r["votes"] for r in series(totals)[names[0]]) == (whole.votes[:, 0] >= 0).sum()
    covered = (whole.votes >= 0).any(axis=1).mean()
    assert told[(TOGETHER, "all", "all")]["coverage"] == pytest.approx(covered, abs=1e-4)


def test_a_vote_for_several_classes_contradicts_only_what_it_leaves_out() -> None:
    sets = ClassSets.of([(0, 1)])
    votes = np.array([[-2, 0], [-2, 2], [-2, -1], [-2, -2]])
    day = day_of(votes, sets)
    counts = count_day(day, ["either", "other"], CLASSES, [("000", "flat"), ("001", "good")])

    totals = add_up([("2026-01-01", counts)], 50)
    one = next(r for r in records(totals) if r["function"] == "either")
    assert (one["votes"], one["conflict"], one["overlap"]) == (4, 0.25, 0.75)
    assert (one["dev"]["n"], one["dev"]["right"]) == (2, 1)
    assert one["by_class"] == {}
    mass = day.probabilities[:, :2].sum()
    assert one["estimated"]["value"] == pytest.approx(mass / 4, abs=1e-4)
    assert against(totals)["either"][0]["contradict"] == 1


def test_a_function_that_is_new_has_seen_only_its_own_days() -> None:
    votes = np.array([[0, 1]] * 6)
    before = count_day(day_of(votes[:, :1]), ["old"], CLASSES)
    after = count_day(day_of(votes), ["new", "old"], CLASSES)

    totals = add_up([("2026-01-01", before), ("2026-01-02", after)], 50)
    rows = {r["function"]: r["rows"] for r in records(totals) if r["source"] == r["slice"] == "all"}
    assert rows == {"new": 6, "old": 12, TOGETHER: 12}
    assert [r["day"] for r in series(totals)["new"]] == ["2026-01-02"]


def test_gold_rows_are_read_up_to_the_budget_of_each_source_and_the_oldest_first() -> None:
    day = day_of(np.zeros((30, 1)))
    gold = [(row, "bad") for row in day.row_ids]
    counts = count_day(day, ["f"], CLASSES, gold)
    totals = add_up([("2026-01-01", counts), ("2026-01-02", counts)], budget=12)
    assert [row.source for row in totals.gold].count("chat") == 12
    assert [row.source for row in totals.gold].count("mail") == 12
    assert next(row.row_id for row in totals.gold if row.source == "mail") == "001"


def test_rows_worth_looking_at_are_disputed_or_bare_and_never_of_the_test_split() -> None:
    votes = np.array([[0, 1, 2], [0, 1, 2], [0, 0, 0], [-1, -1, -1], [0, 0, 1], [-1, -1, -1]])
    found = count_day(day_of(votes), ["a", "b", "c"], CLASSES)  # rows 0 and 5 are held out
    assert [(row.row_id, row.score) for row in found.disputed] == [("001", 3), ("004", 2)]
    assert found.disputed[0].said == ("a: bad", "b: flat", "c: good")
    assert [(row.row_id, row.score) for row in found.bare] == [("003", 0)]


def test_what_to_do_names_each_kind_of_trouble() -> None:
    n = 200
    truth = np.arange(n) % 2 * 2  # bad and good in turn
    votes = np.full((n, 5), -1)
    votes[:, 0] = truth
    votes[:, 1] = truth  # a copy
    votes[:80, 2] = 2 - truth[:80]  # wrong wherever it votes
    # 3 never votes
    votes[:, 4] = truth
    votes[100:190, 4] = 1
    day = day_of(votes)
    day.slices["long"][:] = np.arange(n) >= 120
    names = ["one", "copy", "wrong", "silent", "other"]
    gold = [(row, CLASSES[truth[i]]) for i, row in enumerate(day.row_ids) if i < 60]
    empty = Voted(
        ["900"] * 30, ["new"] * 30, np.full((30, 5), -1, np.int8), NO_SETS,
        np.full((30, 3), 1 / 3, np.float32), np.zeros(30, bool), {},
    )  # fmt: skip
    days = [
        ("2026-01-01", count_day(day, names, CLASSES, gold)),
        ("2026-01-02", count_day(empty, names, CLASSES)),
    ]
    totals = add_up(days, 50)
    harms = {"log_loss": -0.2, "low": -0.3, "high": -0.1}
    advice = advise(records(totals), against(totals), {"wrong": harms}, {}, [["one", "copy"]])

    told = {(one.kind, one.function): one.text for one in advice}
    assert advice[0].kind == "no_coverage"
    assert "source new" in advice[0].text
    assert "correct it, or remove it" in told[("never_votes", "silent")]
    people = advise(records(totals), against(totals), {}, {}, [], people={"silent": "ann"})
    assert "ann answered none of 230 rows" in {one.kind: one.text for one in people}["never_votes"]
    assert ("below_commonest", "wrong") in told
    assert ("harms", "wrong") in told
    assert "says the same as one on 100%" in told[("copies", "copy")]
    assert "count" in told[("copies", "one")]
    assert "mostly by other (90 rows)" in told[("conflicts", "one")]


def test_a_few_dev_rows_do_not_show_that_a_function_is_wrong() -> None:
    for n, expected in ((1, False), (3, False), (20, True)):
        truth = np.full(200, 2)
        votes = np.full((200, 1), -1)
        votes[:n, 0] = 0  # all wrong; the commonest class is right on all of them
        day = day_of(votes)
        gold = [(row, CLASSES[truth[i]]) for i, row in enumerate(day.row_ids) if i < n]
        totals = add_up([("2026-01-01", count_day(day, ["wrong"], CLASSES, gold))], 50)

        told = {one.kind for one in advise(records(totals), against(totals), {}, {}, [])}

        assert ("below_commonest" in told) == expected, n


def test_a_class_whose_only_voters_are_not_believed_is_named() -> None:
    truth = np.arange(200) % 2 * 2
    votes = np.full((200, 3), -1)
    votes[:, 0] = votes[:, 1] = truth
    votes[:40, 2] = 1  # the only one that says fine, against two others
    day = day_of(votes)
    names = ["one", "other", "alone"]

    def lost(counted: Voted) -> list[str]:
        totals = add_up([("2026-01-01", count_day(counted, names, CLASSES))], 50)
        advice = advise(records(totals), against(totals), {}, {}, [])
        return [one.text for one in advice if one.kind == "lost_class"]

    believed = np.full((200, 3), 0.1, np.float32)
    believed[:, 1] = 0.8
    assert lost(replace(day, probabilities=believed)) == []
    (text,) = lost(replace(day, probabilities=np.roll(believed, 1, axis=1)))
    assert text.startswith(f"the label model takes the 40 votes for {CLASSES[1]} (of alone)")

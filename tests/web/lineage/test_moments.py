from __future__ import annotations

from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from fm_platform.web.lineage.moments import _ends, extent, moments
from fm_platform.workspace import Workspace

START = datetime(2026, 1, 1, tzinfo=timezone.utc)


def test_every_event_is_in_one_moment_and_the_last_one_is_now(ws: Workspace) -> None:
    found = moments(ws.ledger, "shop")

    assert sum(sum(moment.kinds.values()) for moment in found) == 7
    assert [mark.what for moment in found for mark in moment.marks] == ["alias champion"]
    assert [moment.at for moment in found] == sorted(moment.at for moment in found)


def test_few_stops_join_what_lies_close_together(ws: Workspace) -> None:
    found = moments(ws.ledger, "shop", most=2)

    assert len(found) == 2
    assert sum(sum(moment.kinds.values()) for moment in found) == 7


def test_a_history_without_pauses_is_cut_into_pieces_all_the_same() -> None:
    times = [START + timedelta(minutes=n) for n in range(10_000)]

    assert len(_ends(times, 100)) == 99


def test_what_follows_at_once_is_one_stop_in_a_long_history() -> None:
    nights = [START + timedelta(days=n, seconds=s) for n in range(60) for s in range(20)]

    assert _ends(nights, 400) == {20 * n + 19 for n in range(59)}


def test_room_is_kept_for_all_that_ever_was(ws: Workspace) -> None:
    told = extent(ws.ledger, "shop")

    assert told["days"] == ["2026-01-01", "2026-01-02"]
    assert [a["kind"] for a in told["artifacts"]] == ["raw", "cleaned", "merged_model"]
    assert [a["daily"] for a in told["artifacts"]] == [True, True, False]


@given(st.lists(st.integers(0, 10_000), max_size=200), st.integers(1, 50))
def test_moments_end_where_pauses_are_longest(pauses: list[int], most: int) -> None:
    times = [START]
    for pause in pauses:
        times.append(times[-1] + timedelta(seconds=pause))

    ends = _ends(times, most)

    assert len(ends) <= most
    chosen = [pauses[n] for n in ends]
    left = [pause for n, pause in enumerate(pauses) if n not in ends]
    assert all(pause > 0 for pause in chosen)
    assert not chosen or len(ends) < most - 1 or max(left, default=0) <= min(chosen)

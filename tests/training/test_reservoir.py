"""What is kept of the past: of bounded size, balanced, and the same whatever came first."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from fm_platform.training.reservoir import STRATA, replayed, updated

ROW = st.tuples(
    st.integers(0, 400), st.sampled_from(["train", "dev"]), st.sampled_from(["mail", "chat"]),
    st.sampled_from(["no", "yes"]),
)  # fmt: skip


def table(rows: list[tuple[int, str, str, str]]) -> pa.Table:
    unique = {row[0]: row for row in rows}.values()
    columns = zip(*unique, strict=True) if unique else ([], [], [], [])
    names = ("row_id", *STRATA)
    built = dict(zip(names, map(list, columns), strict=True))
    built["row_id"] = [f"row-{i}" for i in built["row_id"]]
    return pa.table({name: pa.array(built[name], pa.string()) for name in names})


def counts(rows: pa.Table) -> dict[tuple[str, ...], int]:
    found = rows.group_by(list(STRATA)).aggregate([([], "count_all")]).to_pylist()
    return {tuple(row[name] for name in STRATA): row["count_all"] for row in found}


@settings(deadline=None, max_examples=40)
@given(st.lists(ROW, max_size=60, unique_by=lambda row: row[0]), st.integers(0, 60))
def test_day_by_day_keeps_what_all_at_once_keeps(rows: list, cut: int) -> None:
    at_once = updated(None, table(rows), 3, 7)
    by_day = updated(updated(None, table(rows[cut:]), 3, 7), table(rows[:cut]), 3, 7)

    assert by_day.to_pylist() == at_once.to_pylist()
    assert counts(at_once) == {s: min(3, n) for s, n in counts(table(rows)).items()}


def test_what_is_replayed_is_balanced_and_new_to_the_day() -> None:
    many = [(i, "train", "mail", "no" if i % 10 else "yes") for i in range(200)]
    held = updated(None, table([*many, (500, "dev", "mail", "no")]), 20, 0)
    new = held.slice(0, 5)

    first = replayed(held, 12, ["mail"], new, "2026-01-05")
    other = replayed(held, 12, ["mail"], new, "2026-01-06")

    assert counts(first) == {("train", "mail", "no"): 6, ("train", "mail", "yes"): 6}
    assert not set(first["row_id"].to_pylist()) & set(new["row_id"].to_pylist())
    assert first["row_id"].to_pylist() != other["row_id"].to_pylist()
    assert replayed(held, 12, ["chat"], new, "2026-01-05").num_rows == 0

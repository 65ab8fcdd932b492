"""Retention: what is reachable stays, the rest goes, and what went comes back when asked for."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fm_platform.errors import LedgerBusyError, MissingArtifactError
from fm_platform.lineage import schema
from fm_platform.lineage.keep import keep_set, recorded_window
from fm_platform.lineage.records import ArtifactVersion, Produced, RunContext
from fm_platform.store.fsck import check_columns, check_models, check_tables
from fm_platform.upkeep.gc import collect
from fm_platform.upkeep.plan import make_plan, needed_files
from fm_platform.upkeep.rebuild import check
from fm_platform.workspace import Workspace
from tests.upkeep.worlds import AT, add, disk_bytes, is_there, open_world, recipe_of


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return open_world(tmp_path)


def chain(ws: Workspace, salt: int, days: tuple[str, ...] = ("2026-01-01",)) -> ArtifactVersion:
    """Build raw, votes and cleaned of some days, and a model; return the model."""
    cleaned = []
    for day in days:
        raw = add(ws, "raw", "raw", day)
        votes = add(ws, "votes", "words", day, [raw], salt)
        cleaned.append(add(ws, "cleaned", "cleaned", day, [raw, votes], salt))
    return add(ws, "merged_model", "merged_model", None, cleaned, salt)


def test_an_empty_ledger_has_nothing_to_remove(ws: Workspace) -> None:
    plan = make_plan(ws)

    assert (plan.remove, plan.total_bytes, dict(plan.kept)) == ((), 0, {})
    assert collect(ws, actor="me").plan.remove == ()


def test_a_dry_run_changes_nothing(ws: Workspace) -> None:
    old, new = chain(ws, 1), chain(ws, 2)
    before = disk_bytes(ws.home.root / "lake"), disk_bytes(ws.home.models)

    plan = make_plan(ws)

    assert old.id in {version.id for version in plan.remove}
    assert new.id not in {version.id for version in plan.remove}
    assert plan.total_bytes > 0
    assert before == (disk_bytes(ws.home.root / "lake"), disk_bytes(ws.home.models))
    assert ws.ledger.removed() == {}


def test_what_nothing_needs_goes_and_the_rest_verifies(ws: Workspace) -> None:
    old, new = chain(ws, 1), chain(ws, 2)
    versions = ws.ledger.versions("shop")
    planned = make_plan(ws)

    done = collect(ws, actor="me")

    gone = {v.id for v in done.plan.remove}
    assert {(v.kind, v.config["salt"]) for v in done.plan.remove} == {
        ("votes", 1), ("cleaned", 1), ("merged_model", 1),
    }  # fmt: skip
    assert [is_there(ws, v) for v in versions] == [v.id not in gone for v in versions]
    assert old.id in gone
    assert is_there(ws, new)
    expected = {k: v for k, v in planned.bytes.items() if v}
    assert {k: v for k, v in done.freed.items() if k in expected} == expected
    assert set(ws.ledger.removed()) == gone
    assert not (ws.home.reports / old.content_hash[:16]).exists()
    assert {f.kind for f in check_tables(ws.tables, grace_s=0)} == {"missing_file"}
    assert check_tables(ws.tables, deep=True, grace_s=0, needed=needed_files(ws)) == []
    assert check_models(ws.models) + check_columns(ws.columns) == []
    assert collect(ws, actor="me").plan.remove == ()


@pytest.mark.parametrize("how", ["champion", "champion before", "pin", "days", "project", "branch"])
def test_each_reason_to_keep_keeps_a_version_and_all_it_is_made_from(
    ws: Workspace, how: str
) -> None:
    old, new = chain(ws, 1), chain(ws, 2)
    since = None
    if how == "champion":
        ws.ledger.set_alias("shop", "champion", old.id, expected=None, reason="", actor="me")
    elif how == "champion before":
        for before, after in ((None, old.id), (old.id, new.id)):
            ws.ledger.set_alias("shop", "champion", after, expected=before, reason="", actor="me")
    elif how == "pin":
        assert ws.ledger.pin(old.id, reason="audit", actor="me")
    elif how == "days":
        since = datetime.now(timezone.utc) - timedelta(hours=1)
    elif how == "branch":  # what it uses is kept under a name of its own
        slot = {"project": "shop-try", "kind": old.kind, "name": old.name, "partition": ""}
        with ws.ledger._write() as connection:
            use = schema.uses.insert().values(version_id=old.id, since=AT, **slot)
            number = connection.execute(use).inserted_primary_key[0]  # type: ignore[index]
            head = schema.current.insert().values(version_id=old.id, use_id=number, **slot)
            connection.execute(head)
    else:  # another project is made from it
        branch = add(ws, "merged_model", "merged_model", None, [], 1, project="shop-try")
        add(ws, "evaluation", "evaluation", None, [old, branch], 1, project="shop-try")

    collect(ws, actor="me", in_use_since=since)

    assert all(is_there(ws, version) for version in ws.ledger.versions("shop"))
    if how == "pin":
        ws.ledger.unpin(old.id, actor="me")
        collect(ws, actor="me")
        assert not is_there(ws, old)


def test_days_before_the_recorded_window_go_but_not_their_source_rows(ws: Workspace) -> None:
    assert recorded_window(ws.ledger, "shop") is None
    days = [f"2026-01-{n:02d}" for n in range(1, 11)]
    made = {day: [add(ws, "raw", "raw", day)] for day in days}
    for day in days:
        made[day].append(add(ws, "cleaned", "cleaned", day, [], 3))
    ws.ledger.pin(made[days[1]][1].id, reason="", actor="me")
    declare_window(ws, 3)

    collect(ws, actor="me")

    assert recorded_window(ws.ledger, "shop") == 3
    assert all(is_there(ws, raw) for raw, _ in made.values())
    there = [day for day in days if is_there(ws, made[day][1])]
    assert there == [days[1], *days[6:]]
    shown = DeltaTable(str(ws.home.lake / "shop" / "cleaned")).to_pyarrow_table()
    assert sorted(set(shown["day"].to_pylist())) == there


def declare_window(ws: Workspace, days: int) -> None:
    recipe = recipe_of("spec", "spec", None, [], 9)
    config = {"training": {"window_days": days}, "cleaning": [{"window_days": 1}]}
    recipe = replace(recipe, config=config)
    ws.ledger.record(recipe, Produced("f" * 64, {"spec": {}}), RunContext(), AT, AT)


def test_a_removed_version_is_built_again_with_the_same_bytes(ws: Workspace) -> None:
    old = chain(ws, 1)
    chain(ws, 2)
    collect(ws, actor="me")
    assert not is_there(ws, old)

    again = chain(ws, 1)

    assert (again.id, again.content_hash) == (old.id, old.content_hash)
    assert is_there(ws, old)
    assert old.id not in ws.ledger.removed()
    assert not (ws.home.models / "_damaged").exists()


def test_nothing_is_removed_while_something_is_built(ws: Workspace) -> None:
    chain(ws, 1)
    with (
        ws.building(),
        pytest.raises(LedgerBusyError, match="while something is built"),
        ws.retiring(patience_s=0.0),
    ):
        raise AssertionError("must not be reached")
    lease = ws.ledger.acquire_lease("shop/raw", "another machine")
    with pytest.raises(LedgerBusyError, match="shop/raw"):
        collect(ws, actor="me")
    ws.ledger.release_lease(lease)
    collect(ws, actor="me")


def test_a_killed_collection_is_finished(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    old, _ = chain(ws, 1), chain(ws, 2)
    with monkeypatch.context() as patched:
        patched.setattr(type(ws.models), "remove", lambda *_args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            collect(ws, actor="me")
    assert is_there(ws, old)
    assert old.id in ws.ledger.removed()

    done = collect(ws, actor="me")

    assert done.freed["models"] > 0
    assert not is_there(ws, old)


def test_a_version_that_is_wanted_again_before_its_bytes_went_is_kept(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = chain(ws, 1), chain(ws, 2)
    with monkeypatch.context() as patched:
        patched.setattr(type(ws.tables), "remove", lambda *_args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            collect(ws, actor="me")

    assert chain(ws, 1).id == old.id
    collect(ws, actor="me")

    assert is_there(ws, old)
    assert old.id not in ws.ledger.removed()


def test_a_manifest_that_cannot_be_read_keeps_all_tensors(ws: Workspace) -> None:
    old, new = chain(ws, 1), chain(ws, 2)
    before = ws.models.objects.names()
    (ws.models.path(new.content_hash) / "manifest.json").write_text("{}")

    done = collect(ws, actor="me")

    assert any("manifest" in text for text in done.waiting)
    assert ws.models.objects.names() == before
    assert is_there(ws, old)


def test_checkpoints_that_a_later_one_replaces_go(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fm_platform.store.delta._CHECKPOINT_EVERY", 2)
    made = [add(ws, "cleaned", "cleaned", f"2026-01-0{n}") for n in range(1, 9)]
    log = ws.home.lake / "shop" / "cleaned" / "_delta_log"
    before = sorted(path.name for path in log.glob("*.checkpoint.parquet"))
    commits = sorted(log.glob("0*.json"))

    done = collect(ws, actor="me")

    assert len(before) > 2
    assert [path.name for path in log.glob("*.checkpoint.parquet")] == before[-1:]
    assert sorted(log.glob("0*.json")) == commits
    assert done.freed["checkpoints"] == done.plan.bytes["checkpoints"] > 0
    assert all(is_there(ws, version) for version in made)
    assert DeltaTable(str(log.parent)).to_pyarrow_table().num_rows == 4 * len(made)
    assert DeltaTable(str(log.parent), version=3).to_pyarrow_table().num_rows == 12
    assert check_tables(ws.tables, deep=True, grace_s=0) == []
    assert add(ws, "cleaned", "cleaned", "2026-01-09").number == 1


def test_history_is_packed_and_still_gives_the_ledger(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fm_platform.lineage.journal._PACK_BYTES", 1)
    chain(ws, 1)

    assert collect(ws, actor="me").freed["history"] > 0

    chain(ws, 2)
    assert [path.name for path in sorted(ws.home.history.glob("0*"))] == [
        "00000001.log.gz", "00000002.log",
    ]  # fmt: skip
    assert check(ws).differences == ()


def test_a_champion_that_an_evaluation_compared_with_goes_but_not_its_source_rows(
    ws: Workspace,
) -> None:
    raw = add(ws, "raw", "raw", "2026-01-01")
    old, new = (
        add(
            ws,
            "merged_model",
            "merged_model",
            None,
            [add(ws, "raw", "raw", "2026-01-01", [], n)],
            n,
        )
        for n in (0, 1)
    )
    inputs = (new.as_input("merged_model"), old.as_input("champion"))
    recipe = replace(recipe_of("evaluation", "evaluation", None, [], 1), inputs=inputs)
    ws.ledger.record(recipe, Produced("e" * 64, {}), RunContext(), AT, AT)

    collect(ws, actor="me")

    assert [is_there(ws, version) for version in (raw, old, new)] == [True, False, True]


def test_caches_stay_while_they_are_in_use_only(ws: Workspace) -> None:
    made = [add(ws, "raw", "raw", "2026-01-01", [], 1)]
    for salt in (1, 2):
        cache = add(ws, "embeddings", "embeddings", "2026-01-01", made[:1], salt)
        votes = add(ws, "votes", "words", "2026-01-01", [made[0], cache], salt)
        made += [cache, votes]
    ws.ledger.pin(made[2].id, reason="", actor="me")

    collect(ws, actor="me")

    _, old_cache, old_votes, new_cache, new_votes = made
    assert not is_there(ws, old_cache)
    assert all(is_there(ws, version) for version in (old_votes, new_cache, new_votes))


def test_asking_for_removed_bytes_says_who_removed_them(ws: Workspace) -> None:
    model = chain(ws, 1)
    cleaned = ws.ledger.versions("shop", "cleaned")[0]
    chain(ws, 2)
    collect(ws, actor="me")

    for ask in (
        lambda: ws.model_path(ws.ledger.get(model.id)),
        lambda: ws.table_ref(ws.ledger.get(cleaned.id), "cleaned"),
    ):
        with pytest.raises(MissingArtifactError, match="were removed by fm gc") as caught:
            ask()
        assert "fm reproduce" in str(caught.value)


def test_equal_content_of_a_kept_version_stays(ws: Workspace) -> None:
    votes = add(ws, "votes", "words", "2026-01-01", [], 1, content=7)
    other = add(ws, "votes", "words", "2026-01-01", [], 2, content=7)
    assert votes.content_hash == other.content_hash

    collect(ws, actor="me")

    assert is_there(ws, votes)
    assert is_there(ws, other)


# --- nothing reachable is ever lost --------------------------------------------------------------

KINDS = ("raw", "votes", "cleaned", "merged_model")
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("build"), st.sampled_from(KINDS), st.integers(1, 3), st.integers(0, 3),
            st.sets(st.integers(0, 12), max_size=3),
        ),
        st.tuples(st.just("alias"), st.sampled_from(["champion", "challenger"]), st.integers(0, 9)),
        st.tuples(st.just("pin"), st.integers(0, 9)),
        st.tuples(st.just("unpin"), st.integers(0, 9)),
        st.tuples(st.just("collect")),
    ),
    min_size=3,
    max_size=14,
)  # fmt: skip


def reachable(ws: Workspace) -> set[int]:
    """Say in the simplest way what must never be lost: written apart from `lineage.keep`."""
    ledger = ws.ledger
    alive = {pin.version_id for pin in ledger.pins()} | set(ledger.aliases("shop").values())
    alive |= {version.id for version in ledger.all_latest("shop")}
    todo = list(alive)
    while todo:
        for item in ledger.get(todo.pop()).inputs:
            compared = item.role == "champion"  # of which only source rows stay
            if item.version_id is None or item.version_id in alive:
                continue
            if not compared or ledger.get(item.version_id).kind == "raw":
                alive.add(item.version_id)
                todo.append(item.version_id)
    return alive


def apply(ws: Workspace, made: list[ArtifactVersion], step: tuple[object, ...]) -> None:
    if step[0] == "build":
        _, kind, day, salt, picks = step
        inputs = [made[i] for i in sorted(picks) if i < len(made)]  # type: ignore[call-overload]
        partition = None if kind == "merged_model" else f"2026-01-0{day}"
        made.append(add(ws, str(kind), str(kind), partition, inputs, int(salt)))  # type: ignore[call-overload]
    elif step[0] == "collect":
        collect(ws, actor="me")
    elif made:
        version = made[int(step[-1]) % len(made)]  # type: ignore[call-overload]
        if step[0] == "alias":
            named = ws.ledger.alias_id("shop", str(step[1]))
            ws.ledger.set_alias(
                "shop", str(step[1]), version.id, expected=named, reason="", actor="me"
            )
        elif step[0] == "pin":
            ws.ledger.pin(version.id, reason="", actor="me")
        else:
            ws.ledger.unpin(version.id, actor="me")


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps)
@example([
    ("build", "cleaned", 1, 2, set()), ("build", "cleaned", 1, 0, set()), ("collect",),
    ("build", "cleaned", 1, 2, set()),  # what was removed is built again
])  # fmt: skip
def test_nothing_reachable_is_ever_lost(history: list[tuple[object, ...]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("fm_platform.lineage.journal._PACK_BYTES", 1)
        patch.setattr("fm_platform.store.delta._CHECKPOINT_EVERY", 3)
        ws = open_world(Path(folder))
        made: list[ArtifactVersion] = []
        for step in history:
            apply(ws, made, step)
        before = {v.id for v in made if is_there(ws, v)}
        alive = reachable(ws)

        done = collect(ws, actor="me")

        assert alive <= set(keep_set(ws.ledger).reasons)
        lost = [v.id for v in made if v.id in alive & before and not is_there(ws, v)]
        assert lost == []
        kept_content = {v.content_hash for v in made if v.id in done.plan.keep.reasons}
        spared = [
            v for v in done.plan.remove if is_there(ws, v) and v.content_hash not in kept_content
        ]
        assert spared == []
        assert check_tables(ws.tables, deep=True, grace_s=0, needed=needed_files(ws)) == []
        assert check(ws).differences == ()


@pytest.mark.slow
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps)
@example([
    ("build", "cleaned", 1, 2, set()), ("build", "cleaned", 1, 0, set()), ("collect",),
    ("build", "cleaned", 1, 2, set()),  # what was removed is built again
])  # fmt: skip
def test_nothing_reachable_is_ever_lost_in_many_histories(
    history: list[tuple[object, ...]],
) -> None:
    test_nothing_reachable_is_ever_lost.hypothesis.inner_test(history)  # type: ignore[attr-defined]

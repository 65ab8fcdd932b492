"""Versions are built again in a scratch place, and every difference is named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fm_platform.cli.reproduce import result_text
from fm_platform.errors import FMError
from fm_platform.home import Home
from fm_platform.lineage import ArtifactVersion, Input, RunContext
from fm_platform.lineage import environment as environment_module
from fm_platform.lineage.graph import upstream
from fm_platform.lineage.recipes import code_version, environment_of
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.definition import record_definition
from fm_platform.stages.reproduce import make_plan, replay, reproduce
from fm_platform.workspace import Workspace
from tests.histories.clock import clock
from tests.histories.script import Script, build_history
from tests.stages.small import Built, build_days

World = tuple[Workspace, LoadedProject]


@pytest.fixture(scope="module")
def made(built: Built) -> World:
    return built[:2]


@pytest.fixture
def world(made: World, tmp_path: Path) -> World:
    """A copy that a test may change."""
    ws, loaded = made
    shutil.copytree(ws.home.root, tmp_path / "home")
    shutil.copytree(loaded.directory, tmp_path / "small")
    return Workspace.open(Home(tmp_path / "home")), load_spec(tmp_path / "small" / "defs.yaml")


def latest(ws: Workspace, kind: str, name: str, day: str | None = None) -> ArtifactVersion:
    version = ws.ledger.latest("small", kind, name, day)
    assert version is not None
    return ws.ledger.get(version.id)


def test_everything_under_an_evaluation_comes_out_the_same(made: World, tmp_path: Path) -> None:
    ws, loaded = made
    plan = make_plan(ws, latest(ws, "evaluation", "evaluation"))

    done = reproduce(ws, plan, tmp_path, loaded, SilentReporter())

    assert plan.differences == ()
    assert done.first_difference is None
    assert done.equal
    assert {c.recorded for c in done.compared} == {v.content_hash for v in plan.versions}
    kinds = {v.kind for v in plan.versions}
    assert kinds == {
        "raw", "embeddings", "votes", "label_model", "weak_labels", "cleaned", "start", "adapter",
        "merged_model", "evaluation",
    } - ({"embeddings"} - kinds)  # fmt: skip


def test_what_was_declared_then_is_built_not_what_is_declared_now(
    world: World, tmp_path: Path
) -> None:
    ws, loaded = world
    target = latest(ws, "cleaned", "cleaned", "2026-01-02")
    text = loaded.file.read_text()
    loaded.file.write_text(text.replace("words: [bad, awful", "words: [bad"))
    edited = load_spec(loaded.file)
    record_definition(ws, edited, RunContext())
    build_days(ws, edited)
    assert latest(ws, "cleaned", "cleaned", "2026-01-02").content_hash != target.content_hash

    done = reproduce(ws, make_plan(ws, target), tmp_path / "s", edited, SilentReporter())

    assert done.equal, done.first_difference


def test_days_that_were_built_while_the_clock_was_set_back_come_out_the_same(
    world: World, tmp_path: Path
) -> None:
    _, loaded = world
    ws = Workspace.open(Home(tmp_path / "other"))
    for hour, day in ((5, "2026-01-01"), (2, "2026-01-02")):
        with clock(datetime(2026, 2, 1, hour, tzinfo=timezone.utc)):
            build_days(ws, loaded, [day])

    target = latest(ws, "cleaned", "cleaned", "2026-01-02")
    done = reproduce(ws, make_plan(ws, target), tmp_path / "s", loaded, SilentReporter())

    assert done.equal, done.first_difference
    assert "raw/2026-01-01#1" in {compared.name for compared in done.compared}


def test_rows_of_a_source_that_changed_since_are_those_that_were_kept(
    world: World, tmp_path: Path
) -> None:
    ws, loaded = world
    file = loaded.directory / "mail-2026-01-01.jsonl"
    file.write_text(file.read_text().replace("n3", "n3 changed"))

    plan = make_plan(ws, latest(ws, "evaluation", "evaluation"))
    done = reproduce(ws, plan, tmp_path / "s", loaded, SilentReporter())

    assert done.equal, done.first_difference
    assert [(c.name, c.why) for c in done.kept] == [
        ("raw/2026-01-01#1", "source mail changed since")
    ]
    assert "raw/2026-01-01#1: source mail changed since" in result_text(done)


def test_rows_of_a_source_that_is_gone_are_those_that_were_kept(
    world: World, tmp_path: Path
) -> None:
    ws, loaded = world
    for file in loaded.directory.glob("*.jsonl"):
        file.unlink()

    plan = make_plan(ws, latest(ws, "weak_labels", "weak_labels", "2026-01-02"))
    done = reproduce(ws, plan, tmp_path / "s", loaded, SilentReporter())

    assert done.equal, done.first_difference
    assert {c.name for c in done.kept} == {"raw/2026-01-01#1", "raw/2026-01-02#1"}
    assert all("no file matches" in c.why for c in done.kept)


def test_without_source_and_kept_rows_the_day_is_the_first_difference(
    world: World, tmp_path: Path
) -> None:
    ws, loaded = world
    plan = make_plan(ws, latest(ws, "weak_labels", "weak_labels", "2026-01-02"))
    (loaded.directory / "mail-2026-01-01.jsonl").write_text('{"text": "another row"}\n')
    for file in (ws.home.lake / "small" / "raw" / "day=2026-01-01").glob("*.parquet"):
        file.unlink()

    done = reproduce(ws, plan, tmp_path / "s", loaded, SilentReporter())

    assert done.first_difference is not None
    assert not done.equal
    assert (done.first_difference.name, done.first_difference.state) == (
        "raw/2026-01-01#1", "not built",
    )  # fmt: skip
    assert "source mail changed since, and its kept rows cannot be read" in (
        done.first_difference.why
    )


def test_a_flipped_bit_in_the_store_is_named(world: World, tmp_path: Path) -> None:
    ws, loaded = world
    target = latest(ws, "weak_labels", "weak_labels", "2026-01-02")
    ref = ws.table_ref(latest(ws, "raw", "raw", "2026-01-01"), "raw")
    path = ws.home.lake / ref.table / ref.files[0].path
    if not path.exists():
        path = next(ws.home.lake.rglob(Path(ref.files[0].path).name))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))

    plan = make_plan(ws, target)
    done = reproduce(ws, plan, tmp_path / "s", loaded, SilentReporter())

    assert list(plan.damaged) == ["raw/2026-01-01#1"]
    assert done.first_difference is None  # built again, it is what was recorded
    assert not done.equal


def test_another_package_is_named_before_anything_is_built(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ws, _ = made
    real = environment_module.packages
    monkeypatch.setattr(
        environment_module, "packages", lambda names: {**real(names), "torch": "9.9.9"}
    )
    environment_module._fingerprint_of.cache_clear()
    try:
        plan = make_plan(ws, latest(ws, "merged_model", "merged_model"))
    finally:
        monkeypatch.undo()
        environment_module._fingerprint_of.cache_clear()

    assert any("torch" in line and "9.9.9 now" in line for line in plan.differences)


def test_votes_that_learn_are_held_against_what_makes_such_votes(made: World) -> None:
    ws, _ = made
    votes = latest(ws, "votes", "bad_words", "2026-01-01")
    learned = replace(
        votes,
        inputs=(*votes.inputs, Input("exemplars", "exemplars", votes.partition, "e" * 64)),
        code=code_version("exemplar_votes", votes.config),
        environment=environment_of("exemplar_votes"),
    )

    assert list(replay._changed(ws, [votes, learned])) == []


def test_a_definition_is_recorded_not_built(made: World) -> None:
    ws, _ = made

    with pytest.raises(FMError, match="recorded, not built"):
        make_plan(ws, latest(ws, "spec", "spec"))


def test_a_day_whose_exemplars_came_from_days_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its label model reads the votes of a day whose exemplars lie outside of its own window."""
    quiet = Script(days=8, rows_per_source=12, window_days=2, models_every=99, edit=None,
                   split=None, mistake=None, rollback=None, swap=None)  # fmt: skip
    history = build_history(tmp_path / "eight", quiet)
    monkeypatch.setenv("FM_PROJECTS", str(history.projects))
    ws = history.workspace()
    version = ws.ledger.latest("shop", "weak_labels", "weak_labels", "2026-01-08")
    assert version is not None
    plan = make_plan(ws, ws.ledger.get(version.id))

    done = reproduce(ws, plan, tmp_path / "s", history.project(), SilentReporter())

    assert done.first_difference is None
    linked = {v.partition for v in ws.ledger.get_many(upstream(ws.ledger, [version.id]))}
    assert "2026-01-06" not in linked
    assert "raw/2026-01-06#1" in {compared.name for compared in done.compared}

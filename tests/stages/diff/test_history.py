"""Two histories side by side: the causes of every kind of change, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from fm_platform.lineage.ledger import ArtifactVersion, Ledger
from fm_platform.stages.diff.history import History, compare_histories
from tests.lineage.simulated import Simulation, make_spec


@pytest.fixture
def world(tmp_path: Path) -> Simulation:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    simulation = Simulation(ledger, make_spec(days=4), functions=3)
    simulation.run()
    return simulation


def version(
    world: Simulation, kind: str = "merged_model", name: str | None = None, day: str = ""
) -> ArtifactVersion:
    found = world.ledger.latest(world.spec.name, kind, name or kind, day)
    assert found is not None
    return found


def after_change(world: Simulation, kind: str = "merged_model", name: str | None = None) -> History:
    before = version(world, kind, name)
    world.run()
    return compare_histories(world.ledger, before, version(world, kind, name))


def told(history: History) -> list[tuple[str, str, str, int]]:
    return [(c.kind, c.name, c.what, len(c.partitions)) for c in history.causes]


def test_a_version_does_not_differ_from_itself(world: Simulation) -> None:
    model = version(world)

    assert compare_histories(world.ledger, model, model).causes == ()


def test_an_edited_function_is_the_one_cause_with_its_path(world: Simulation) -> None:
    world.edit("plain_1", "another source")

    history = after_change(world)

    causes = {(c.kind, c.name, c.what): c for c in history.causes}
    edited = causes["votes", "plain_1", "labeling function changed"]
    assert edited.partitions == tuple(world.days)
    last = world.days[-1]
    assert edited.path == (
        f"votes/plain_1/{last}", f"weak_labels/{last}", f"cleaned/{last}", "adapter/chat",
        "merged_model",
    )  # fmt: skip
    # functions that learn read the votes of the others: they changed because of them
    assert {name for kind, name, _ in causes if kind == "votes"} == {"plain_1"}
    assert {c.kind for c in history.changes} == {
        "votes", "label_model", "weak_labels", "cleaned", "start", "adapter", "merged_model",
    }  # fmt: skip
    assert not any(change.name in ("plain_0", "plain_2") for change in history.changes)


def test_an_edit_without_effect_is_not_walked(world: Simulation) -> None:
    before = version(world)
    for day in world.days:
        old = version(world, "votes", "plain_1", day)
        world.same_content["votes", "plain_1", day] = old.content_hash
    world.edit("plain_1", "the same votes in other words")
    world.run()

    assert version(world).id == before.id


def test_a_rebuilt_day_of_one_source_is_named_with_both_hashes(world: Simulation) -> None:
    world.sources["mail", world.days[1]] = "mail again"

    (cause,) = after_change(world).causes

    assert (cause.kind, cause.partitions) == ("raw", (world.days[1],))
    assert cause.what.startswith("source mail changed (")
    assert cause.path[-1] == "merged_model"


def test_a_base_swap_is_the_cause_of_every_model(world: Simulation) -> None:
    world.base = "another base"

    history = after_change(world, "adapter", "mail")

    assert ("start", "shared_start") in {(c.kind, c.name) for c in history.causes}
    assert all(c.what.startswith("base model changed") for c in history.causes if c.kind == "start")
    below = {"embeddings", "votes", "label_model", "weak_labels", "cleaned", "start", "adapter"}
    assert {c.kind for c in history.changes} <= below


def test_new_days_are_one_cause(world: Simulation) -> None:
    before = version(world)
    longer = Simulation(world.ledger, make_spec(days=6), functions=3)
    longer.run()

    history = compare_histories(world.ledger, before, version(longer))

    assert ("days", "days", "new days", 2) in told(history)
    assert not any(what == "is new" for _, _, what, _ in told(history))
    assert history.functions[0] == history.functions[1]
    back = compare_histories(world.ledger, version(longer), before)
    assert ("days", "days", "days gone", 2) in told(back)


def test_a_new_function_is_a_cause(world: Simulation) -> None:
    before = version(world)
    more = Simulation(world.ledger, make_spec(days=4), functions=4)
    more.run()

    history = compare_histories(world.ledger, before, version(more))

    assert ("votes", "plain_3", "is new", 4) in told(history)
    assert history.functions[1] - history.functions[0] == {"plain_3"}


def test_split_classes_are_a_configuration_change_of_every_stage(world: Simulation) -> None:
    before = version(world)
    split = Simulation(
        world.ledger, make_spec(taxonomy={"classes": ["good", "bad", "ugly"]}), functions=3
    )
    split.run()

    history = compare_histories(world.ledger, before, version(split))

    wanted = "configuration changed (classes: ['good', 'bad'] -> ['good', 'bad', 'ugly'])"
    assert {kind for kind, _, what, _ in told(history) if wanted in what} >= {"raw", "merged_model"}


def test_causes_come_in_the_order_of_the_stages(world: Simulation) -> None:
    world.edit("plain_0", "new")
    world.sources["chat", world.days[0]] = "chat again"

    kinds = [c.kind for c in after_change(world).causes]

    assert kinds == sorted(kinds, key=["raw", "votes", "cleaned"].index)
    assert kinds[0] == "raw"


def test_two_experts_differ_in_what_they_read(world: Simulation) -> None:
    history = compare_histories(
        world.ledger, version(world, "adapter", "mail"), version(world, "adapter", "chat")
    )

    assert [(c.name, c.what) for c in history.causes] == [
        ("chat", "part chat of cleaned is read, too"),
        ("chat", "part mail of cleaned is no longer read"),
    ]


def slid(world: Simulation, days: int = 6, functions: int = 3) -> Simulation:
    """Return the world some days later; days that were built keep their votes."""
    later = Simulation(world.ledger, make_spec(days=days, **WINDOW), functions=functions)
    for day in world.days:
        for n in range(3):
            old = version(world, "votes", f"plain_{n}", day)
            later.same_content["votes", f"plain_{n}", day] = old.content_hash
    return later


WINDOW = {"training": {"window_days": 3}}


@pytest.fixture
def windowed(tmp_path: Path) -> Simulation:
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    simulation = Simulation(ledger, make_spec(days=4, **WINDOW), functions=3, learning=0)
    simulation.run()
    return simulation


def test_a_window_that_moved_is_days_gone_and_new_days(windowed: Simulation) -> None:
    before = version(windowed)
    later = slid(windowed)
    later.functions = later.functions[:3]
    later.run()

    history = compare_histories(windowed.ledger, before, version(later))

    assert told(history) == [
        ("days", "days", "days gone", 2), ("days", "days", "new days", 2),
    ]  # fmt: skip
    assert history.newer == ()


@pytest.mark.parametrize("back", [False, True])
def test_an_edit_that_only_new_days_saw_is_told(windowed: Simulation, back: bool) -> None:
    before = version(windowed)
    later = slid(windowed)
    later.functions = later.functions[:3]
    later.edit("plain_1", "another source")
    later.run()
    sides = (before, version(later))

    history = compare_histories(windowed.ledger, *(sides[::-1] if back else sides))

    edited = [c for c in history.causes if c.kind == "votes"]
    assert [(c.name, c.what) for c in edited] == [("plain_1", "labeling function changed")]
    day = edited[0].partitions[-1]
    assert edited[0].path == (
        f"votes/plain_1/{day}", f"weak_labels/{day}", f"cleaned/{day}", "adapter/chat",
        "merged_model",
    )  # fmt: skip
    assert {(b.name, a.name) for b, a in history.newer if a.kind == "votes"} == {
        ("plain_1", "plain_1")
    }


def test_a_function_that_only_new_days_have_is_new(windowed: Simulation) -> None:
    before = version(windowed)
    later = slid(windowed, functions=4)
    later.functions = later.functions[:4]
    later.run()

    history = compare_histories(windowed.ledger, before, version(later))

    assert ("votes", "plain_3", "is new") in {(c.kind, c.name, c.what) for c in history.causes}
    assert history.functions[1] - history.functions[0] == {"plain_3"}


def test_a_hole_in_the_window_is_no_moved_window(world: Simulation) -> None:
    before = version(world)
    world.sources.pop(("mail", world.days[1]))
    world.sources.pop(("chat", world.days[1]))

    world.run()
    history = compare_histories(world.ledger, before, version(world))

    assert not any(c.kind == "days" for c in history.causes)
    assert any("source" in c.what and "is gone" in c.what for c in history.causes)


def test_a_change_that_both_have_is_no_cause(world: Simulation) -> None:
    """Votes that a rebuilt day left as they were are recorded as made from the day of before."""
    day = world.days[0]
    raw = version(world, "raw", day=day)
    world.sources["mail", day] = "mail in another file"
    world.same_content["raw", "raw", day] = raw.content_hash
    world.edit("plain_1", "another source")
    world.run()
    assert version(world, "raw", day=day).id != raw.id  # some votes read one, others the other
    world.sources["mail", day] = "mail with other rows"
    del world.same_content["raw", "raw", day]

    history = after_change(world)

    old, new = (fingerprint_of(world, v) for v in history.pairs("raw")[0])
    assert [(c.kind, c.what) for c in history.causes] == [
        ("raw", f"source mail changed ({old} -> {new})")
    ]
    assert [c.partition for c in history.changes if c.kind == "raw"] == [day]


def fingerprint_of(world: Simulation, raw: ArtifactVersion) -> str:
    """Return what the raw version recorded of its source `mail`."""
    recorded = world.ledger.get(raw.id).inputs
    return next(i.content_hash[:12] for i in recorded if i.name == "mail")


def test_rows_that_are_read_for_one_thing_less_are_not_gone(world: Simulation) -> None:
    before = version(world)
    one = Simulation(
        world.ledger,
        make_spec(days=4, experts=[{"name": "mail", "sources": ["mail"]}]),
        functions=3,
    )
    one.run()
    model = version(one)
    assert {i.role for i in before.inputs} - {i.role for i in model.inputs} >= {"dev"}

    history = compare_histories(world.ledger, before, model)

    assert ("adapter", "chat", "is gone", 0) in told(history)
    assert ("merged_model", "merged_model", "cleaned is no longer read, as dev", 0) in told(history)
    assert not any(kind == "cleaned" for kind, *_ in told(history))

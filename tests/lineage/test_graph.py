from __future__ import annotations

from datetime import timedelta

import pytest

from fm_platform.lineage.graph import downstream, graph_at, lineage, upstream, with_status
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.records import ArtifactVersion
from tests.lineage.factory import make_produced, make_recipe, record
from tests.lineage.simulated import Simulation, make_spec

DAYS = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]


@pytest.fixture
def built(ledger: Ledger) -> Simulation:
    project = Simulation(ledger, make_spec())
    project.run()
    return project


def stale(project: Simulation) -> dict[str, str]:
    graph = graph_at(project.ledger, "shop")
    return {node.label: node.why for node in graph.nodes if node.state == "stale"}


def test_empty_ledger_is_an_empty_graph(ledger: Ledger) -> None:
    graph = graph_at(ledger, "shop")

    assert (graph.nodes, graph.edges, graph.by_slot, graph.reads) == ((), (), {}, {})
    assert upstream(ledger, []) == downstream(ledger, [7]) == []


def test_graph_holds_what_is_in_use_and_how_it_hangs_together(built: Simulation) -> None:
    graph = graph_at(built.ledger, "shop")
    heads = {version.id: version for version in built.ledger.all_latest("shop", with_inputs=True)}

    assert {node.id for node in graph.nodes} == set(heads)
    assert {node.state for node in graph.nodes} == {"fresh"}
    expected = {
        (item.version_id, version.id)
        for version in heads.values()
        for item in version.inputs
        if item.version_id is not None
    }
    assert len(graph.edges) == len(set(graph.edges))
    assert set(graph.edges) == expected
    node = graph.by_slot["cleaned", "cleaned", DAYS[0]]
    head = heads[node.id]
    assert (node.label, node.number, node.recipe_hash, node.content_hash, node.rows) == (
        "cleaned/2026-01-01", 1, head.recipe_hash, head.content_hash, 10,
    )  # fmt: skip
    assert graph.reads[node.id] == [graph.by_slot["weak_labels", "weak_labels", DAYS[0]].id]


def test_closures_are_transitive_and_agree(built: Simulation) -> None:
    graph = graph_at(built.ledger, "shop")
    raw = graph.by_slot["raw", "raw", DAYS[3]].id
    merged = graph.by_slot["merged_model", "merged_model", None].id
    last = {n.id for n in graph.nodes if n.kind == "evaluation"}

    above, below = upstream(built.ledger, [merged]), downstream(built.ledger, [raw])

    assert set(above) == {n.id for n in graph.nodes} - last
    assert merged in below
    assert graph.by_slot["raw", "raw", DAYS[0]].id not in below
    for node in graph.nodes:
        assert (node.id in above) == (merged in downstream(built.ledger, [node.id]))


def test_closure_of_many_begins_with_all_of_them(built: Simulation) -> None:
    everything = [node.id for node in graph_at(built.ledger, "shop").nodes]
    assert upstream(built.ledger, everything * 20) == sorted(everything)


def test_rebuilt_input_makes_readers_stale_with_the_path(built: Simulation) -> None:
    built.sources["mail", DAYS[3]] = "new bytes"
    built.run(only={"raw"})

    told = stale(built)

    assert told["embeddings/2026-01-04"] == "raw 2026-01-04 changed"
    assert told["cleaned/2026-01-04"] == "weak_labels is stale: raw 2026-01-04 changed"
    assert told["adapter/mail"].endswith("raw 2026-01-04 changed")
    assert "raw/2026-01-04" not in told
    assert not [name for name in told if name.endswith(DAYS[0])]


def test_path_leads_to_the_cause(built: Simulation) -> None:
    built.sources["mail", DAYS[3]] = "new bytes"
    built.run(only={"raw"})
    graph = graph_at(built.ledger, "shop")

    node = graph.by_slot["merged_model", "merged_model", None]
    path = [graph.by_id[i].kind for i in node.path]

    assert path[0] in ("start", "adapter", "cleaned")
    assert path[-1] in ("votes", "weak_labels", "embeddings")
    for lower, upper in zip([node.id, *node.path], node.path, strict=False):
        assert (upper, lower) in graph.edges


def test_ledger_and_status_agree_on_what_changed(built: Simulation) -> None:
    built.sources["mail", DAYS[2]] = "new bytes"
    built.run(only={"raw"})

    expected = {(r.kind, r.name, r.partition) for r in built.status() if r.state == "stale"}
    found = {n.slot for n in graph_at(built.ledger, "shop").nodes if n.state == "stale"}

    assert found == expected


def test_equal_content_keeps_readers_fresh_and_the_edge(built: Simulation) -> None:
    before = graph_at(built.ledger, "shop").by_slot["raw", "raw", DAYS[0]]
    built.same_content["raw", "raw", DAYS[0]] = before.content_hash
    built.sources["mail", DAYS[0]] = "other bytes, equal rows"
    built.run(only={"raw"})

    graph = graph_at(built.ledger, "shop")
    raw = graph.by_slot["raw", "raw", DAYS[0]]

    assert raw.id != before.id
    assert {node.state for node in graph.nodes} == {"fresh"}
    assert graph.by_slot["embeddings", "embeddings", DAYS[0]].id in graph.readers[raw.id]


def test_graph_of_the_past_is_the_one_that_was_true_then(built: Simulation) -> None:
    ledger = built.ledger
    merged = ledger.latest("shop", "merged_model", "merged_model")
    assert merged is not None
    ledger.set_alias("shop", "champion", merged.id, expected=None, reason="", actor="gate")
    first = graph_at(ledger, "shop")
    then = max(ledger.alias_history("shop", "champion")[0].set_at, *(
        use.since for node in first.nodes for use in ledger.uses("shop", *node.slot)
    ))  # fmt: skip
    built.functions = built.functions[1:]  # its votes are declared no more
    built.sources["mail", DAYS[1]] = "new bytes"
    built.run()
    new = ledger.latest("shop", "merged_model", "merged_model")
    assert new is not None
    ledger.set_alias("shop", "champion", new.id, expected=merged.id, reason="", actor="gate")

    past = graph_at(ledger, "shop", then)

    assert (past.nodes, set(past.edges)) == (first.nodes, set(first.edges))
    assert past.by_id[merged.id].aliases == ("champion",)
    assert graph_at(ledger, "shop").by_slot[merged.slot].id == new.id
    assert graph_at(ledger, "shop", then - timedelta(days=1)).nodes == ()


def test_lineage_of_a_version_keeps_what_was_replaced(built: Simulation) -> None:
    old = built.ledger.latest("shop", "merged_model", "merged_model")
    built.sources["mail", DAYS[1]] = "new bytes"
    built.run()
    new = built.ledger.latest("shop", "merged_model", "merged_model")
    assert old is not None
    assert new is not None

    graph = lineage(built.ledger, "shop", [old.id])
    both = lineage(built.ledger, "shop", [old.id], up=False, down=True)

    assert graph.by_id[old.id].state == "replaced"
    assert {n.id for n in graph.nodes} == set(upstream(built.ledger, [old.id]))
    raw = {n.state for n in graph.nodes if n.kind == "raw"}
    assert raw == {"fresh", "replaced"}
    assert new.id not in graph.by_id
    assert {n.kind for n in both.nodes} == {"merged_model", "evaluation"}


def test_a_ledger_of_an_older_platform_gives_the_same_graph(
    built: Simulation, ledger_url: str
) -> None:
    built.sources["mail", DAYS[3]] = "new bytes"
    built.run(only={"raw"})
    before = graph_at(built.ledger, "shop")
    with built.ledger.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE uses DROP COLUMN card")
        connection.exec_driver_sql("UPDATE schema_version SET version = 2")

    after = graph_at(Ledger.open(ledger_url), "shop")

    assert after == before


def test_a_part_that_kept_its_content_keeps_its_readers_fresh(ledger: Ledger) -> None:
    def day(code: str, mail: str) -> ArtifactVersion:
        recipe = make_recipe(kind="cleaned", name="cleaned", code=code)
        return record(ledger, recipe, make_produced(code, parts={"mail": mail, "chat": "c"}))

    first = day("a", "m1")
    inputs = (first.as_input("cleaned", part="mail"),)
    record(ledger, make_recipe(kind="adapter", name="mail", partition=None, inputs=inputs))
    second = day("b", "m1")

    graph = graph_at(ledger, "shop")
    assert {node.state for node in graph.nodes} == {"fresh"}
    assert graph.edges == ((second.id, graph.by_slot["adapter", "mail", None].id),)

    day("c", "m2")
    adapter = graph_at(ledger, "shop").by_slot["adapter", "mail", None]
    assert adapter.why == "cleaned 2026-01-01 part mail changed"


def test_the_champion_of_an_evaluation_is_meant_as_it_was(ledger: Ledger) -> None:
    def model(code: str) -> ArtifactVersion:
        recipe = make_recipe(kind="merged_model", name="merged_model", partition=None, code=code)
        return record(ledger, recipe, make_produced(code))

    old = model("old")
    new = model("new")
    inputs = (new.as_input("merged_model"), old.as_input("champion"))
    record(ledger, make_recipe(kind="evaluation", name="evaluation", partition=None, inputs=inputs))

    assert {node.state for node in graph_at(ledger, "shop").nodes} == {"fresh"}
    assert old.id in upstream(ledger, [3])


def test_status_is_laid_over_the_graph(ledger: Ledger) -> None:
    project = Simulation(ledger, make_spec())
    project.run(only={"raw"})
    project.sources["mail", DAYS[0]] = "new bytes"

    graph = with_status(graph_at(ledger, "shop"), project.status())

    assert graph.by_slot["raw", "raw", DAYS[0]].why == "source mail 2026-01-01 changed"
    missing = graph.by_slot["evaluation", "evaluation", None]
    assert (missing.state, missing.number, missing.created_at) == ("unbuilt", 0, None)
    assert missing.id < 0
    assert len(graph.by_id) == len(graph.nodes) == len(project.status())

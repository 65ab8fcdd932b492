from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fm_platform.cli.app import app
from fm_platform.errors import FMError, RefError
from fm_platform.lineage.ledger import Ledger
from fm_platform.lineage.refs import parse_time
from tests.lineage.factory import make_produced, make_recipe, record
from tests.lineage.simulated import Simulation, make_spec


@pytest.fixture
def ledger(home: Path) -> Ledger:
    home.mkdir()
    return Ledger.open(f"sqlite:///{home / 'ledger.db'}")


@pytest.fixture
def built(ledger: Ledger) -> Simulation:
    project = Simulation(ledger, make_spec())
    project.run()
    return project


def ask(fm: CliRunner, *words: str) -> Result:
    answer = fm.invoke(app, list(words))
    assert answer.exit_code == 0, answer.output
    return answer


@pytest.mark.parametrize("command", ["lineage", "log"])
def test_nothing_is_built_yet(fm: CliRunner, ledger: Ledger, command: str) -> None:
    assert "nothing is built yet: fm run PROJECT" in ask(fm, command).output
    assert json.loads(ask(fm, command, "--json").output) == []


@pytest.mark.parametrize("command", ["lineage", "log", "show"])
def test_unknown_references_are_errors(fm: CliRunner, built: Simulation, command: str) -> None:
    answer = fm.invoke(app, [command, "merged_modle"])

    assert answer.exit_code == 1
    assert isinstance(answer.exception, RefError)
    assert "close to it: merged_model" in str(answer.exception)


def test_unknown_project_and_time(fm: CliRunner, built: Simulation) -> None:
    wrong = fm.invoke(app, ["lineage", "--project", "shpo"])
    assert isinstance(wrong.exception, FMError)
    assert "expected: shop" in str(wrong.exception)
    assert isinstance(fm.invoke(app, ["log", "--at", "noon"]).exception, RefError)


def test_lineage_without_a_reference_is_everything_in_use(fm: CliRunner, built: Simulation) -> None:
    shown = ask(fm, "lineage").output

    assert "shop: 37 versions in use, none stale" in shown
    lines = [line.split()[0] for line in shown.splitlines()[2:]]
    assert lines == [
        "raw", "embeddings", "votes/learned_0", "votes/plain_0", "votes/plain_1", "label_model",
        "weak_labels", "cleaned", "start/shared_start", "adapter/chat", "adapter/mail",
        "merged_model", "evaluation",
    ]  # fmt: skip
    (graph,) = json.loads(ask(fm, "lineage", "--json").output)
    assert (graph["project"], len(graph["nodes"])) == ("shop", 37)
    assert {node["state"] for node in graph["nodes"]} == {"fresh"}


def test_lineage_up_and_down(fm: CliRunner, built: Simulation) -> None:
    both = ask(fm, "lineage", "merged_model").output
    up = ask(fm, "lineage", "merged_model", "--up", "--all").output
    down = ask(fm, "lineage", "merged_model", "--down").output

    assert "made from (35 versions)" in both
    assert "what was made from it (1 version)" in both
    assert "raw/2026-01-03#1" in up
    assert "what was made from it" not in up
    assert "made from (35" not in down
    assert "nothing was made from it" in ask(fm, "lineage", "evaluation").output
    told = json.loads(ask(fm, "lineage", "raw/2026-01-04", "--down", "--json").output)
    ids = {node["id"] for node in told["nodes"]}
    assert told["of"] in ids
    assert all(edge[0] in ids and edge[1] in ids for edge in told["edges"])
    assert {"merged_model", "evaluation"} <= {node["kind"] for node in told["nodes"]}


def test_stale_artifacts_are_told_with_their_cause(fm: CliRunner, built: Simulation) -> None:
    built.sources["mail", "2026-01-04"] = "new bytes"
    built.run(only={"raw"})

    shown = ask(fm, "lineage").output

    assert "stale" in shown.splitlines()[0]
    (adapter,) = [line for line in shown.splitlines() if line.startswith("adapter/mail")]
    assert adapter.endswith("raw 2026-01-04 changed")


def test_the_past_is_shown_as_it_was(fm: CliRunner, built: Simulation) -> None:
    then = built.ledger.uses("shop", "evaluation", "evaluation")[0].since
    built.functions = built.functions[1:]
    built.run()

    now = ask(fm, "lineage").output
    past = ask(fm, "lineage", "--at", then.isoformat()).output
    one = ask(fm, "lineage", f"merged_model@{then.isoformat()}", "--json").output

    assert f"at {then:%Y-%m-%d %H:%M:%S UTC}: 37 versions in use, none stale" in past
    assert "merged_model" in now
    nodes = json.loads(one)["nodes"]
    assert {n["state"] for n in nodes} == {"fresh"}
    assert [n["number"] for n in nodes if n["kind"] == "merged_model"] == [1]
    before = ask(fm, "lineage", "--at", "2020-01-01").output
    assert "nothing was in use" in before


def test_log_and_show(fm: CliRunner, built: Simulation) -> None:
    merged = built.ledger.latest("shop", "merged_model", "merged_model")
    assert merged is not None
    built.ledger.set_alias("shop", "champion", merged.id, expected=None, reason="a", actor="gate")

    entries = json.loads(ask(fm, "log", "-n", "3", "--json").output)
    shown = ask(fm, "show", "champion").output
    record_ = json.loads(ask(fm, "show", "champion", "--json").output)

    assert [entry["what"] for entry in entries] == ["alias champion", "in use", "in use"]
    assert parse_time(entries[0]["at"]) >= parse_time(entries[1]["at"])
    assert "merged_model#1" in ask(fm, "log", "champion").output
    assert shown.splitlines()[0] == "merged_model#1 fresh [champion]"
    for text in (merged.content_hash, merged.recipe_hash, "adapter/mail#1", "machine", "seed"):
        assert text in shown
    assert record_["content_hash"] == merged.content_hash
    assert len(record_["inputs"]) == len(merged.inputs)


def test_hostile_names_are_inert(fm: CliRunner, ledger: Ledger) -> None:
    record(ledger, make_recipe(name="\x1b[2Jevil", partition=None), make_produced("x"))
    for words in (["lineage"], ["lineage", "--all"], ["log"], ["show", "#1"], ["lineage", "#1"]):
        output = ask(fm, *words).output
        assert "evil" in output
        assert "\x1b" not in output

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli.app import app
from fm_platform.errors import FMError, RefError
from fm_platform.hashing import sha256_file
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.refs import resolve, version_name
from fm_platform.spec.evaluation import Leaks
from fm_platform.spec.load import load_spec
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.raw import build_raw
from fm_platform.stages.trace import examples, row_finder, trace
from fm_platform.workspace import Workspace
from tests.stages.small import DAYS, Built


def a_row(ws: Workspace, split: str, day: str = DAYS[0]) -> str:
    raw = ws.ledger.latest("small", "raw", "raw", day)
    assert raw is not None
    rows = tables.read(ws, raw, "raw", ["row_id", "split"]).to_pylist()
    return next(str(row["row_id"]) for row in rows if row["split"] == split)


def test_the_evaluation_in_use_tells_the_prediction_not_the_newest(
    built: Built, tmp_path: Path
) -> None:
    from fm_platform.stages.evaluation import build_evaluation

    shutil.copytree(built[0].home.root, tmp_path / "home")
    ws, loaded = Workspace.open(Home(tmp_path / "home")), built[1]
    settings = loaded.spec.evaluation.model_copy(update={"leaks": Leaks(size=2)})
    other = replace(loaded, spec=loaded.spec.model_copy(update={"evaluation": settings}))
    newest = build_evaluation(ws, other, RunContext(), SilentReporter()).version
    used = build_evaluation(ws, loaded, RunContext(), SilentReporter()).version
    assert newest.id > used.id

    told = trace(ws, "small", a_row(ws, "test"))

    assert told["prediction"]["evaluation"]["content_hash"] == used.content_hash


def test_a_test_row_is_told_from_prediction_to_source_file(built: Built) -> None:
    ws, loaded, results = built
    row = a_row(ws, "test")

    told = trace(ws, "small", row)

    merged = results["merged"].version
    assert told["model"]["content_hash"] == merged.content_hash
    assert told["model"]["aliases"] == ["champion"]
    assert told["prediction"]["label"] in ("negative", "neutral", "positive")
    assert sum(told["prediction"]["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert told["prediction"]["evaluation"]["content_hash"] == (
        results["evaluation"].version.content_hash
    )
    assert {a["content_hash"] for a in told["adapters"]} == {
        results[name].version.content_hash for name in ("mail", "chat")
    }
    (own,) = [a for a in told["adapters"] if a["reads_this_source"]]
    assert own["sources"] == [told["row"]["source"]]
    assert {part["day"] for part in own["trained_on"]} == set(DAYS)
    assert told["cleaned"]["what"].startswith("held out")
    votes = {vote["function"]: vote for vote in told["votes"]}
    assert set(votes) == {"bad_words", "flat_words", "good_words"}
    assert all("words" in vote["source"] for vote in votes.values())
    (voted,) = [vote for vote in votes.values() if vote["vote"] is not None]
    assert voted["vote"] == told["weak_labels"]["label"] == told["prediction"]["gold"]
    name = f"{told['row']['source']}-{DAYS[0]}.jsonl"
    assert told["source"]["files"] == [
        {"path": name, "sha256": sha256_file(loaded.directory / name)}
    ]
    assert told["raw"]["table"] == "small/raw"
    assert len(told["raw"]["files"][0]["sha256"]) == 64
    assert told["definition"]["reference"] == "spec#1"
    for part in ("model", "weak_labels", "label_model", "raw", "cleaned"):
        found = resolve(ws.ledger, "small", told[part]["content_hash"])
        assert version_name(found) == told[part]["reference"]


def test_a_row_that_broke_the_contract_is_told_with_rule_and_reason(
    built: Built, tmp_path: Path
) -> None:
    ws, loaded = Workspace.open(Home(tmp_path / "home")), built[1]
    folder = tmp_path / "small"
    shutil.copytree(loaded.directory, folder)
    with (folder / f"mail-{DAYS[0]}.jsonl").open("a") as file:
        file.write(json.dumps({"text": "x" * 20_001, "label": "neutral"}) + "\n")
    raw = build_raw(
        ws, load_spec(folder / "defs.yaml"), DAYS[0], RunContext(), SilentReporter()
    ).version
    (refused,) = tables.read(ws, raw, "quarantine").to_pylist()

    with pytest.raises(RefError, match=f"came in on {DAYS[0]} and is in quarantine") as error:
        trace(ws, None, refused["row_id"])

    assert str(refused["reason"]) in str(error.value)
    assert "source mail" in str(error.value)


def test_a_training_row_has_no_prediction_and_is_in_the_training_table(built: Built) -> None:
    ws, _, _ = built
    told = trace(ws, None, a_row(ws, "train"))

    assert told["prediction"] is None
    assert told["cleaned"]["what"] == "kept"
    assert told["cleaned"]["label"] == told["weak_labels"]["label"]


def test_a_prediction_id_leads_to_the_same_answer(built: Built) -> None:
    ws, _, _ = built
    told = trace(ws, "small", a_row(ws, "test"))

    assert trace(ws, None, told["prediction"]["prediction_id"]) == told


def test_an_adapter_is_asked_for_its_own_prediction(built: Built) -> None:
    ws, _, results = built
    told = trace(ws, "small", a_row(ws, "test"), model="adapter/mail")

    assert told["prediction"]["system"] == "expert:mail"
    assert told["model"]["content_hash"] == results["mail"].version.content_hash
    assert told["adapters"] == []


def test_what_cannot_be_traced_says_why(built: Built) -> None:
    ws, _, results = built
    early = results["start"].version.created_at - timedelta(days=365)
    row = a_row(ws, "test")

    with pytest.raises(RefError, match="neither a row id nor"):
        trace(ws, "small", "champion")
    with pytest.raises(RefError, match="no row"):
        trace(ws, "small", "0" * 32)
    with pytest.raises(RefError, match=r"no row .* by"):
        trace(ws, "small", row, at=early)
    with pytest.raises(FMError, match="never evaluated"):
        trace(ws, "small", row, model="start/shared_start")


def test_examples_are_rows_that_can_be_traced(built: Built) -> None:
    ws, _, _ = built
    found = examples(ws, "small")

    assert 0 < len(found) <= 10
    for row in found:
        told = trace(ws, "small", row["prediction_id"])
        assert (told["prediction"]["label"], told["row"]["text"]) == (row["label"], row["text"])


def test_rows_are_found_by_reference(built: Built) -> None:
    ws, _, _ = built
    for split in ("test", "train"):
        raw = resolve(ws.ledger, "small", a_row(ws, split, DAYS[1]), find_row=row_finder(ws))
        assert version_name(raw) == f"raw/{DAYS[1]}#1"


def test_the_command_tells_all_of_it(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    ws, _, results = built
    monkeypatch.setenv("FM_HOME", str(ws.home.root))
    fm, row = CliRunner(), a_row(ws, "test")

    shown = fm.invoke(app, ["trace", row])
    answer = json.loads(fm.invoke(app, ["trace", row, "--json"]).output)
    listed = fm.invoke(app, ["trace"])

    assert answer == trace(ws, None, row)
    for part in (
        row, results["merged"].version.content_hash, results["mail"].version.content_hash,
        answer["raw"]["content_hash"], answer["source"]["files"][0]["sha256"], "words: ",
        answer["cleaned"]["content_hash"], answer["weak_labels"]["content_hash"],
    ):  # fmt: skip
        assert part in shown.output
    assert "fm trace ROW_ID" in listed.output


def test_nothing_to_trace_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FM_HOME", str(tmp_path / "home"))
    Workspace.open(Home(tmp_path / "home"))

    assert "fm run" in CliRunner().invoke(app, ["trace"]).output

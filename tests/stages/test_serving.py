"""What may answer: with its own base, its own classes, and only if it was measured."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fm_platform.errors import BaseModelError, FMError, RefError
from fm_platform.home import Home
from fm_platform.lineage.records import Produced
from fm_platform.lineage.refs import resolve, version_name
from fm_platform.stages.serving import base_for, predict, servable
from fm_platform.workspace import Workspace
from tests.lineage.factory import make_recipe, record
from tests.stages.small import Built
from tests.support.tiny_model import CLASSES, build_tiny_base


@pytest.fixture
def ws(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The small project, found where `fm` looks for projects."""
    monkeypatch.setenv("FM_PROJECTS", str(tmp_path))
    folder = tmp_path / "assets" / "defs" / "small"
    shutil.copytree(built[1].directory, folder)
    return built[0]


@pytest.fixture
def other_base(ws: Workspace, tmp_path: Path) -> Path:
    """The project declares another base; the old one is still in its folder."""
    folder = tmp_path / "assets" / "defs" / "small"
    build_tiny_base(folder / "other", seed=7)
    text = (folder / "defs.yaml").read_text()
    (folder / "defs.yaml").write_text(text.replace("location: base", "location: other"))
    return folder


def test_every_evaluated_model_answers(ws: Workspace, built: Built) -> None:
    for reference in ("champion", "adapter/mail", "start"):
        (told,) = predict(ws, "small", reference, ["the lovely one is lovely"])

        assert set(told["probabilities"]) == set(CLASSES)
        assert sum(told["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert told["label"] == max(told["probabilities"], key=told["probabilities"].get)
    assert told["model"] == built[2]["start"].version.content_hash
    answered = resolve(ws.ledger, "small", told["prediction_id"])
    assert answered.content_hash == told["model"], "the id of an answer names the model"


def test_an_adapter_stays_with_its_base_after_a_swap(
    ws: Workspace, built: Built, other_base: Path
) -> None:
    adapter = built[2]["mail"].version

    base = base_for(ws, ws.ledger.get(adapter.id))

    assert base.location == "base"
    assert predict(ws, "small", "adapter/mail", ["good"])


def test_an_adapter_whose_base_is_gone_does_not_answer(
    ws: Workspace, built: Built, other_base: Path
) -> None:
    shutil.rmtree(other_base / "base")

    with pytest.raises(BaseModelError, match="never put on another one") as error:
        predict(ws, "small", "adapter/mail", ["good"])
    assert "other: content" in str(error.value)
    assert "base: " in str(error.value)
    # the merged model carries its base
    assert predict(ws, "small", "champion", ["good"])


def test_an_edited_base_is_another_base(ws: Workspace, other_base: Path) -> None:
    config = other_base / "base" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"hidden_act": "relu"}))

    with pytest.raises(BaseModelError, match="never put on another one"):
        predict(ws, "small", "adapter/mail", ["good"])


def test_a_project_that_is_gone_still_answers_with_its_merged_model(
    ws: Workspace, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "assets" / "defs" / "small")

    assert predict(ws, "small", "champion", ["good"])


def test_an_adapter_that_was_never_evaluated_does_not_answer(tmp_path: Path) -> None:
    ws = Workspace.open(Home(tmp_path / "home"))
    recipe = make_recipe(project="other", kind="adapter", name="mail", partition=None, inputs=())
    version = record(ws.ledger, recipe, Produced("1" * 64, {"model": "1" * 64}))

    with pytest.raises(FMError, match="was never evaluated") as error:
        servable(ws, version)
    assert version_name(version) in str(error.value)
    assert "fm run other" in str(error.value)


@pytest.mark.parametrize("reference", ["raw/2026-01-01", "evaluation"])
def test_what_is_no_model_does_not_answer(ws: Workspace, reference: str) -> None:
    with pytest.raises(FMError, match="does not answer texts"):
        predict(ws, "small", reference, ["good"])


def test_an_unknown_model_is_told(ws: Workspace) -> None:
    with pytest.raises(RefError):
        predict(ws, "small", "nobody", ["good"])


def test_a_canary_answers_its_share_of_what_the_champion_is_asked(
    ws: Workspace, built: Built
) -> None:
    tried = ws.ledger.get(built[2]["mail"].version.id)
    champion = built[2]["merged"].version
    texts = [f"the lovely one is lovely {i}" for i in range(40)]
    alone = predict(ws, "small", "champion", texts)
    ws.ledger.set_alias("small", "canary", tried.id, expected=None, reason="", actor="test")
    try:
        assert predict(ws, "small", "champion", texts) == alone, "nobody said yet how it is tried"
        numbers = {"canary": {"share": 0.5, "days": 3}}
        ws.ledger.record_decision("small", "canary", tried.id, numbers, "passed", "test")

        told = predict(ws, "small", "champion", texts)

        models = {"canary": tried.content_hash, "champion": champion.content_hash}
        assert [row["text"] for row in told] == texts
        assert all(row["model"] == models[row["by"]] for row in told)
        assert {row["by"] for row in told} == {"canary", "champion"}
        assert told == predict(ws, "small", "champion", texts), "the same text, the same model"
        kept = [row for row in told if row["by"] == "champion"]
        assert [row["label"] for row in kept] == [
            alone[texts.index(row["text"])]["label"] for row in kept
        ]
        assert (
            resolve(ws.ledger, "small", told[0]["prediction_id"]).content_hash
            == (models[told[0]["by"]])
        )
        assert predict(ws, "small", "canary", texts[:1])[0]["model"] == tried.content_hash
    finally:
        ws.ledger.set_alias("small", "canary", None, expected=tried.id, reason="", actor="test")

"""Functions that ask: a model is asked once; a person's answers become votes of their day."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fm_platform.home import Home
from fm_platform.lineage import ArtifactVersion, RunContext
from fm_platform.lineage.status import plan
from fm_platform.spec.load import load_spec
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.annotations import save
from fm_platform.stages.probe import probe
from fm_platform.stages.raw import build_raw
from fm_platform.stages.reproduce.replay import make_plan, reproduce
from fm_platform.stages.weak_labels import build_votes
from fm_platform.training.predict import load_classifier, predict_probabilities
from fm_platform.workspace import Workspace
from tests.support.tiny_causal import build_tiny_causal
from tests.support.tiny_model import build_tiny_classifier

DAY = "2026-01-01"
SPEC: dict[str, Any] = {
    "name": "asks",
    "taxonomy": {"classes": ["bad", "good"]},
    "calendar": {"start": DAY, "end": "2026-01-02"},
    "sources": [{"name": "mail", "options": {"path": "mail-*.jsonl"}}],
}
MOOD = {
    "kind": "prompt", "name": "mood", "model": "model", "template": "{text} . mood :",
    "answers": {"good": ["good", "fine"], "bad": ["bad"]}, "minimum_margin": 0.0,
}  # fmt: skip
WORDS = {"kind": "keyword", "name": "words", "words": ["fine"], "label": "good"}


def write(folder: Path, texts: list[str], day: str = DAY) -> None:
    lines = [json.dumps({"text": text, "id": f"{day}-{i}"}) for i, text in enumerate(texts)]
    (folder / f"mail-{day}.jsonl").write_text("\n".join(lines))


def answer(folder: Path, *said: tuple[str, str, str]) -> None:
    records = [{"text": text, "label": label, "annotator": who} for text, label, who in said]
    ws = Workspace.open(Home(folder / "home"))
    save(ws, ProjectSpec.model_validate(SPEC), records, RunContext())


def column(folder: Path, version: ArtifactVersion) -> dict[str, int]:
    """Return text -> vote."""
    ws = Workspace.open(Home(folder / "home"))
    raw = ws.ledger.latest("asks", "raw", "raw", version.partition)
    assert raw is not None
    rows = tables.read(ws, raw, "raw")
    told = ws.columns.get(str(version.location["column"]))
    texts = dict(zip(rows["row_id"].to_pylist(), rows["text"].to_pylist(), strict=True))
    pairs = zip(told["row_id"].to_pylist(), told["vote"].to_pylist(), strict=True)
    return {texts[row]: vote for row, vote in pairs}


def votes(folder: Path, *functions: dict[str, Any], **more: Any) -> dict[str, ArtifactVersion]:
    """Build the votes of a day as the project file declares the functions now."""
    spec = {**SPEC, **more, "labeling": {"functions": list(functions)}}
    whole = {"type": "assets.project.ContinuousTraining", "attributes": spec}
    (folder / "defs.yaml").write_text(json.dumps(whole))
    project, ws = load_spec(folder / "defs.yaml"), Workspace.open(Home(folder / "home"))
    build_raw(ws, project, DAY, RunContext(), SilentReporter())
    made = build_votes(ws, project, DAY, RunContext(), SilentReporter())
    todo = plan(ws.ledger, project.spec, probe(ws, project))
    assert not [row for row in todo if row.kind in ("raw", "votes") and row.partition == DAY]
    return {version.name: version for version in made}


def test_a_prompt_is_asked_once_and_an_edit_of_its_margin_asks_nothing(tmp_path: Path) -> None:
    build_tiny_causal(tmp_path / "model")
    texts = ["the film was fine", "dull food", "one two"]
    write(tmp_path, texts)

    first = votes(tmp_path, MOOD, WORDS)
    edited = votes(tmp_path, {**MOOD, "minimum_margin": 1.0}, WORDS)

    assert first["mood"].metrics["answers"] == {"asked": 3 + 3, "from_cache": 0}
    assert "answers" not in first["words"].metrics
    assert edited["words"].id == first["words"].id
    assert edited["mood"].recipe_hash != first["mood"].recipe_hash
    assert edited["mood"].metrics["answers"] == {"asked": 0, "from_cache": 6}
    assert edited["mood"].content_hash != first["mood"].content_hash  # all abstain


def test_another_model_votes_once(tmp_path: Path) -> None:
    classifier = tmp_path / "classifier"
    build_tiny_classifier(classifier)
    texts = ["good fine love", "bad awful hate", "the table"]
    write(tmp_path, texts)
    told = {"kind": "model", "name": "other", "model": "classifier", "minimum_confidence": 0.0,
            "labels": {"LABEL_0": "bad", "LABEL_1": "good"}}  # fmt: skip

    first = votes(tmp_path, told)["other"]
    careful = votes(tmp_path, {**told, "minimum_confidence": 0.999})["other"]

    expected = predict_probabilities(load_classifier(classifier), texts)
    by_text = dict(zip(texts, expected.argmax(axis=1).tolist(), strict=True))
    assert column(tmp_path, first) == by_text
    assert (first.metrics["answers"]["asked"], careful.metrics["answers"]["asked"]) == (3, 0)
    assert set(column(tmp_path, careful).values()) == {-1}


def test_what_a_person_answered_is_a_column_that_follows_its_own_day(tmp_path: Path) -> None:
    for day, texts in (("2026-01-01", ["one", "two", "three"]), ("2026-01-02", ["four"])):
        write(tmp_path, texts, day)
    ann = {"kind": "annotator", "name": "ann", "annotator": "ann@home"}

    empty = votes(tmp_path, ann, WORDS)["ann"]
    answer(tmp_path, ("one", "good", "ann@home"), ("two", "bad", "bob"))
    first = votes(tmp_path, ann, WORDS)["ann"]
    answer(tmp_path, ("four", "bad", "ann@home"))
    elsewhere = votes(tmp_path, ann, WORDS)["ann"]
    answer(tmp_path, ("two", "bad", "ann@home"))
    second = votes(tmp_path, ann, WORDS)["ann"]

    assert set(column(tmp_path, empty).values()) == {-1}
    assert column(tmp_path, first) == {"one": 1, "two": -1, "three": -1}
    assert elsewhere.id == first.id  # an answer on a row of another day
    assert column(tmp_path, second) == {"one": 1, "two": 0, "three": -1}


def test_what_people_answered_on_test_rows_is_no_vote(tmp_path: Path) -> None:
    write(tmp_path, ["one", "two", "three"])
    tested = {"split": {"train": 0.001, "dev": 0.001, "test": 0.998}}
    answer(tmp_path, ("one", "good", "ann"))

    made = votes(tmp_path, {"kind": "annotator", "name": "ann", "annotator": "ann"}, **tested)

    assert set(column(tmp_path, made["ann"]).values()) == {-1}


def test_what_a_model_and_a_person_said_then_can_be_built_again(tmp_path: Path) -> None:
    build_tiny_causal(tmp_path / "model")
    write(tmp_path, ["one", "two", "three"])
    ann = {"kind": "annotator", "name": "ann", "annotator": "ann"}
    answer(tmp_path, ("one", "good", "ann"))
    made = votes(tmp_path, ann, MOOD)
    answer(tmp_path, ("one", "bad", "ann"), ("two", "bad", "ann"))  # since then
    project, ws = load_spec(tmp_path / "defs.yaml"), Workspace.open(Home(tmp_path / "home"))

    for name, version in made.items():
        plan_ = make_plan(ws, version)
        told = reproduce(ws, plan_, tmp_path / f"again-{name}", project, SilentReporter())
        assert told.equal, told.first_difference

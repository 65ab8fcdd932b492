"""The model stages on a small project and a tiny base: build, reuse, damage, promote, predict."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.adapters import build_adapter, build_start
from fm_platform.stages.cleaned import build_cleaned
from fm_platform.stages.common import StageResult
from fm_platform.stages.evaluation import build_evaluation
from fm_platform.stages.merged_model import build_merged_model
from fm_platform.stages.predict import classifier, find_model
from fm_platform.stages.raw import build_raw
from fm_platform.stages.weak_labels import build_weak_labels
from fm_platform.training.predict import predict_probabilities
from fm_platform.workspace import Workspace
from tests.support.tiny_model import CLASSES, FILLERS, WORDS, build_tiny_base

DAYS = ("2026-01-01", "2026-01-02")
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {{classes: [negative, neutral, positive]}}
  calendar: {{start: 2026-01-01, end: 2026-01-02}}
  gold: {{column: label}}
  sources:
    - {{name: mail, options: {{path: "mail-*.jsonl"}}}}
    - {{name: chat, options: {{path: "chat-*.jsonl"}}}}
  labeling:
    functions:
      - {{kind: keyword, name: bad_words, words: [{negative}], label: negative}}
      - {{kind: keyword, name: flat_words, words: [{neutral}], label: neutral}}
      - {{kind: keyword, name: good_words, words: [{positive}], label: positive}}
  base_model: {{location: base}}
  experts:
    - {{name: mail, sources: [mail]}}
    - {{name: chat, sources: [chat]}}
  training:
    rank: 2
    alpha: 4.0
    learning_rate: 0.01
    expert_learning_rate: 0.01
    batch_tokens: 64
    max_tokens: 24
    threads: 1
    probe_epochs: 10
    epochs: 4
  merge: {{search_evaluations: 4, search_rows_per_source: 40}}
  evaluation: {{bootstrap_samples: 100, baselines: {{words: good_words}}}}
"""


def write_rows(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for source in ("chat", "mail"):
        for day in DAYS:
            lines = []
            for i in range(120):
                label = CLASSES[i % 3]
                told = WORDS[label][int(generator.integers(5))]
                around = [FILLERS[int(j)] for j in generator.integers(len(FILLERS), size=3)]
                text = " ".join([*around, told, told, f"{source}{day}n{i}"])
                lines.append(json.dumps({"text": text, "label": label}))
            (folder / f"{source}-{day}.jsonl").write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Workspace, LoadedProject, dict[str, StageResult]]:
    folder = tmp_path_factory.mktemp("small")
    build_tiny_base(folder / "base")
    write_rows(folder)
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    (folder / "defs.yaml").write_text(SPEC.format(**words))
    loaded = load_spec(folder / "defs.yaml")
    ws = Workspace.open(Home(tmp_path_factory.mktemp("home")))
    for day in DAYS:
        for stage in (build_raw, build_weak_labels, build_cleaned):
            stage(ws, loaded, day, RunContext(), SilentReporter())
    return ws, loaded, build_models(ws, loaded)


def build_models(ws: Workspace, loaded: LoadedProject) -> dict[str, StageResult]:
    run, log = RunContext(), SilentReporter()
    results = {"start": build_start(ws, loaded, run, log)}
    for expert in ("mail", "chat"):
        results[expert] = build_adapter(ws, loaded, expert, run, log)
    results["merged"] = build_merged_model(ws, loaded, run, log)
    results["evaluation"] = build_evaluation(ws, loaded, run, log)
    return results


Built = tuple[Workspace, LoadedProject, dict[str, StageResult]]


def test_the_chain_learns_what_the_words_say(built: Built) -> None:
    _, _, results = built
    rows = results["evaluation"].version.metrics["evaluation"]["rows"]
    scores = {r["system"]: r["f1_weighted"]["value"] for r in rows if r["source"] == "all"}

    assert set(scores) == {
        "merged_model", "expert:mail", "expert:chat", "shared_start",
        "label_model", "majority_vote", "words",
    }  # fmt: skip
    assert scores["label_model"] > 0.95
    assert scores["merged_model"] > 0.8
    assert all(check.passed for result in results.values() for check in result.checks)


def test_the_first_model_becomes_champion_and_answers(built: Built) -> None:
    ws, loaded, results = built

    champion = find_model(ws, "small", "champion")
    texts = [f"the is a {word} {word} now" for label in CLASSES for word in WORDS[label]]
    told = predict_probabilities(classifier(ws, loaded, champion), texts, max_tokens=24)

    assert champion.content_hash == results["merged"].version.content_hash
    assert np.mean(told.argmax(axis=1) == np.repeat([0, 1, 2], 5)) > 0.6
    assert [d["kind"] for d in ws.ledger.decisions("small")] == ["promotion"]


def test_a_second_run_computes_nothing_and_decides_nothing(built: Built) -> None:
    ws, loaded, first = built

    again = build_models(ws, loaded)

    assert all(result.reused for result in again.values())
    assert {k: r.version.content_hash for k, r in again.items()} == {
        k: r.version.content_hash for k, r in first.items()
    }
    assert len(ws.ledger.decisions("small")) == 1


@pytest.mark.parametrize("name", ["start", "mail", "merged"])
def test_a_damaged_model_is_built_again_bit_for_bit(built: Built, name: str) -> None:
    ws, loaded, first = built
    version = first[name].version
    weights = max(ws.model_path(version).glob("*.safetensors"), key=lambda p: p.stat().st_size)
    data = bytearray(weights.read_bytes())
    data[-3] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(bytes(data))

    again = build_models(ws, loaded)[name]

    assert not again.reused
    assert "damaged" in again.reason or "sha256" in again.reason
    assert again.version.content_hash == version.content_hash
    ws.models.verify(version.content_hash)

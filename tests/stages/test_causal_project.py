"""A causal project: from raw pairs to a model that answers, through the same stages and gate."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow.compute as pc
import pytest
from typer.testing import CliRunner, Result

from fm_platform.cli.app import app
from fm_platform.errors import FMError, SpecError
from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.lineage.status import status
from fm_platform.spec.evaluation import Leaks
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.stages import SilentReporter, tables
from fm_platform.stages.causal import build_causal_adapter, pairs_of, raw_days
from fm_platform.stages.causal_evaluation import build_causal_evaluation, held_pairs
from fm_platform.stages.causal_model import build_causal_model
from fm_platform.stages.common import StageResult
from fm_platform.stages.definition import record_definition
from fm_platform.stages.diff import diff
from fm_platform.stages.probe import probe
from fm_platform.stages.raw import build_raw
from fm_platform.stages.serving import predict
from fm_platform.workspace import Workspace
from tests.support.tiny_causal import build_tiny_causal
from tests.support.tiny_pairs import pairs

SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: answers
  task: causal
  calendar: {start: 2026-01-01, end: 2026-01-02}
  contract: {columns: {text: {}, answer: {}}}
  sources:
    - {name: mail, options: {path: "mail-*.jsonl"}}
    - {name: chat, options: {path: "chat-*.jsonl"}}
  base_model: {location: base}
  instruction: {template: "{text} answer :", answer_tokens: 5, generated_rows: 10}
  experts:
    - {name: mail, sources: [mail]}
    - {name: chat, sources: [chat]}
  training: {rank: 4, alpha: 8.0, expert_learning_rate: 0.03, batch_tokens: 128, max_tokens: 24,
             threads: 1, epochs: 8, patience: 100}
  merge: {search_evaluations: 4}
  evaluation: {bootstrap_samples: 100}
"""
DAYS = ("2026-01-01", "2026-01-02")
Results = Mapping[str, StageResult]
Built = tuple[Workspace, LoadedProject, Results]


def build(ws: Workspace, loaded: LoadedProject) -> Results:
    run, log = RunContext(), SilentReporter()
    for day in DAYS:
        build_raw(ws, loaded, day, run, log)
    return {
        **{name: build_causal_adapter(ws, loaded, name, run, log) for name in ("mail", "chat")},
        "merged": build_causal_model(ws, loaded, run, log),
        "evaluation": build_causal_evaluation(ws, loaded, run, log),
    }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("answers")
    build_tiny_causal(folder / "base")
    (folder / "defs.yaml").write_text(SPEC)
    for i, day in enumerate(DAYS):
        rows = pairs(140, i).to_pylist()
        for source in ("mail", "chat"):
            own = [{"text": f"{r['text']} n{i}x{k}", "answer": r["answer"]}
                   for k, r in enumerate(rows) if r["source"] == source]  # fmt: skip
            if day == DAYS[0] and source == "mail":
                own[0]["text"] += " very" * 30
            (folder / f"{source}-{day}.jsonl").write_text(
                "".join(json.dumps(row) + "\n" for row in own)
            )
    loaded = load_spec(folder / "defs.yaml")
    ws = Workspace.open(Home(tmp_path_factory.mktemp("home")))
    record_definition(ws, loaded, RunContext())
    return ws, loaded, build(ws, loaded)


def test_the_merged_model_answers_what_its_base_could_not(built: Built) -> None:
    ws, _, results = built
    rows = results["evaluation"].version.metrics["rows"]
    overall = {row["system"]: row for row in rows if row["source"] == "all"}
    champion = ws.ledger.alias("answers", "champion")

    assert set(overall) == {"merged_model", "expert:mail", "expert:chat", "base"}
    assert overall["merged_model"]["answer_loss"] < 0.5 * overall["base"]["answer_loss"]
    assert overall["merged_model"]["exact_match"] > 0.3
    assert overall["base"]["exact_match"] < 0.2
    assert champion is not None
    assert champion.content_hash == results["merged"].version.content_hash
    assert all(check.passed for result in results.values() for check in result.checks)
    (told,) = predict(ws, "answers", "champion", ["the film was dull ?"])
    assert told["answer"].startswith("mood :")


def test_a_second_run_computes_nothing_and_status_says_fresh(built: Built) -> None:
    ws, loaded, _ = built
    again = build(ws, loaded)

    assert all(result.reused for result in again.values())
    assert len(ws.ledger.decisions("answers")) == 1
    rows = status(ws.ledger, loaded.spec, probe(ws, loaded))
    assert {(r.kind, r.state) for r in rows} == {
        (kind, "fresh") for kind in ("raw", "adapter", "merged_model", "evaluation")
    }


def test_a_pair_that_is_too_long_is_in_quarantine(built: Built) -> None:
    ws, _, results = built
    refused = [
        row
        for name in ("mail", "chat")
        for row in tables.read(ws, results[name].version, "quarantine").to_pylist()
    ]

    assert len(refused) <= 1  # the long one may lie on the test side
    assert all(row["rule"] == "too_long" for row in refused)


def test_a_changed_template_makes_every_model_stale(built: Built) -> None:
    ws, loaded, _ = built
    other = loaded.spec.model_copy(
        update={"instruction": loaded.spec.instruction.model_copy(update={"template": "{text} :"})}
    )
    states = {r.kind: r.state for r in status(ws.ledger, other, probe(ws, loaded))}

    assert states == {
        "raw": "fresh", "adapter": "stale", "merged_model": "stale", "evaluation": "stale",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("answer: {}", "reply: {}", "unknown column 'answer'"),
        ("{text} answer", "{question} answer", "unknown column 'question'"),
        ("rank: 4", "method: full, rank: 4", "trained by lora or rslora"),
        ("rank: 4", "frozen_layers: 1, rank: 4", "in full depth"),
        ("{search", "{method: fisher, search", "know of classes"),
    ],
)
def test_what_a_causal_project_cannot_declare_is_named(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    (tmp_path / "defs.yaml").write_text(SPEC.replace(before, after, 1))

    with pytest.raises(SpecError, match=message):
        load_spec(tmp_path / "defs.yaml")


def test_test_pairs_whose_prompt_was_trained_on_are_counted_or_set_aside(built: Built) -> None:
    ws, loaded, results = built
    spec = loaded.spec
    evaluation = spec.evaluation.model_copy(update={"leaks": Leaks(action="set_aside", size=2)})
    declared = spec.model_copy(update={"evaluation": evaluation})
    pairs = pairs_of(ws, spec, raw_days(ws, spec), ["chat", "mail"])

    counted, aside = (held_pairs(each, pairs, "part") for each in (spec, declared))

    given = {check.name: check for check in results["evaluation"].checks}
    assert given["leaks"].metadata == counted.numbers
    assert not given["leaks"].blocking
    tested = pairs.filter(pc.equal(pairs["split"], "test"))
    assert counted.rows.num_rows == tested.num_rows
    assert aside.numbers["leaked"] == aside.aside.num_rows
    assert aside.rows.num_rows + aside.aside.num_rows == tested.num_rows


@pytest.fixture
def fm(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`fm` on the home and the folder of the built project."""
    ws, loaded, _ = built
    (tmp_path / "assets" / "defs").mkdir(parents=True)
    (tmp_path / "assets" / "defs" / "answers").symlink_to(loaded.directory)
    monkeypatch.setenv("FM_PROJECTS", str(tmp_path))
    monkeypatch.setenv("FM_HOME", str(ws.home.root))
    return lambda *words: CliRunner().invoke(app, list(words))


def test_two_models_are_compared_and_their_answers_as_a_whole(
    built: Built, fm: Callable[..., Result]
) -> None:
    told = fm("diff", "adapter/mail", "adapter/chat")
    assert told.exit_code == 0, told.exception
    assert "answers of causal models are measured together" in told.output

    ws, _, results = built
    made = results["evaluation"].version
    said = diff(ws, made, ws.ledger.get(made.id))
    assert (said.same_content, said.values, said.answers) == (True, (), ())


def test_a_row_is_traced_to_the_experts_that_read_it(
    built: Built, fm: Callable[..., Result]
) -> None:
    ws, _, results = built
    raw = ws.ledger.latest("answers", "raw", "raw", DAYS[1])
    assert raw is not None
    rows = tables.read(ws, raw, "raw")
    row = str(rows.filter(pc.equal(rows["source"], "mail"))["row_id"][0])

    told = fm("trace", row)
    asked = fm("trace", f"pred-{results['merged'].version.content_hash[:12]}-{row}")

    assert told.exit_code == asked.exit_code == 0, told.exception or asked.exception
    assert "trained on raw rows of mail: 2026-01-01..2026-01-02, 2 days" in told.output
    assert "measured together, not row by row" in asked.output
    assert "cleaned" not in told.output
    assert fm("trace").output.startswith("no evaluation tells the predictions of single rows")


@pytest.mark.parametrize(
    "words",
    [
        ("label", "report", "answers"), ("label", "queue", "answers", "-a", "me"),
        ("label", "open", "answers", "-a", "me"), ("label", "status", "answers"),
        ("clean", "review", "answers"), ("clean", "value", "answers"),
        ("clean", "accept", "answers", "0" * 32),
    ],
)  # fmt: skip
def test_commands_on_labels_say_that_there_are_none(
    fm: Callable[..., Result], words: tuple[str, ...]
) -> None:
    told = fm(*words)

    assert isinstance(told.exception, FMError)
    assert "is a causal project: its rows are neither labeled nor cleaned" in str(told.exception)


def test_events_are_exported_and_a_card_is_refused(
    fm: Callable[..., Result], tmp_path: Path
) -> None:
    refused = fm("ledger", "export", "answers", "--to", str(tmp_path / "out"))
    told = fm(
        "ledger", "export", "answers", "--to", str(tmp_path / "out"), "--format", "openlineage"
    )

    assert isinstance(refused.exception, FMError)
    assert "--format openlineage" in str(refused.exception)
    assert told.exit_code == 0, told.exception

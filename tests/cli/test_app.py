from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fm_platform.cli import app as commands
from fm_platform.cli.app import app
from fm_platform.cli.render import gate_text
from fm_platform.errors import FMError
from fm_platform.lineage import RunContext
from fm_platform.stages import SilentReporter
from fm_platform.stages.raw import build_raw
from fm_platform.workspace import Workspace, find_project

HOSTILE = "\x1b[31m<script>alert(1)</script>\u202e\x07"
COMMANDS = sorted(
    info.name or info.callback.__name__ for info in app.registered_commands if info.callback
)


def tickets(path: Path, rows: int = 12) -> Path:
    lines = ["id,text,day,label"]
    for i in range(rows):
        label = ("refund", "praise")[i % 2]
        lines.append(f"{i},this is text number {i} about {label},2026-01-0{1 + i % 3},{label}")
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(fm: CliRunner, command: str) -> None:
    answer = fm.invoke(app, [command, "--help"])
    assert answer.exit_code == 0
    assert "Usage" in answer.output


def test_without_a_command_the_help_is_shown(fm: CliRunner) -> None:
    assert "Usage" in fm.invoke(app, []).output


def test_the_shipped_project_is_listed(fm: CliRunner) -> None:
    assert "sentiment" in fm.invoke(app, ["projects"]).output.split()
    assert "sentiment" in json.loads(fm.invoke(app, ["projects", "--json"]).output)


def test_no_project_yet(fm: CliRunner, projects: Path) -> None:
    answer = fm.invoke(app, ["projects"])
    assert answer.exit_code == 0
    assert "fm init" in answer.output
    assert json.loads(fm.invoke(app, ["projects", "--json"]).output) == []


def test_results_of_a_project_that_was_never_built(fm: CliRunner) -> None:
    answer = fm.invoke(app, ["results", "sentiment"])
    assert answer.exit_code == 1
    assert isinstance(answer.exception, FMError)
    assert "not been evaluated" in str(answer.exception)
    assert "fm run sentiment" in str(answer.exception)


@pytest.mark.parametrize("command", ["plan", "status"])
def test_an_unknown_project(fm: CliRunner, projects: Path, command: str) -> None:
    answer = fm.invoke(app, [command, "nothing"])
    assert isinstance(answer.exception, FMError)
    assert "there is no project 'nothing'" in str(answer.exception)


def test_running_an_unknown_project_says_so_and_ends_with_an_error(
    fm: CliRunner, projects: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = fm.invoke(app, ["run", "nothing"])
    assert answer.exit_code not in (0, None)
    assert "nothing" in capfd.readouterr().err


def test_run_passes_its_days_on(fm: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    class Done:
        returncode = 7

    def record(words: list[str], check: bool) -> Done:
        seen.append(words[1:])
        return Done()

    monkeypatch.setattr(commands.subprocess, "run", record)
    answer = fm.invoke(app, ["run", "tickets", "--from", "2026-01-01", "--to", "2026-01-02"])
    assert answer.exit_code == 7
    assert seen == [
        ["-m", "assets.run", "tickets", "--from", "2026-01-01", "--to", "2026-01-02"]
    ]  # fmt: skip


def test_a_killed_run_says_so_and_how_to_go_on(
    fm: CliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed:
        returncode = -9

    monkeypatch.setattr(commands.subprocess, "run", lambda words, check: Killed())
    answer = fm.invoke(app, ["run", "tickets", "--from", "2026-01-01"])
    assert isinstance(answer.exception, FMError)
    assert "signal 9 (SIGKILL)" in str(answer.exception)
    assert "fm run tickets --from 2026-01-01 goes on" in str(answer.exception)


@pytest.mark.parametrize(
    ("decided", "told"),
    [
        ({"kind": "promotion", "reason": "better"}, "gate: promoted: better"),
        ({"kind": "canary", "reason": "better"}, "gate: passed, tried out as canary: better"),
        ({"kind": "waiting", "reason": "better, but"}, "gate: passed, waits: better, but"),
        (None, "gate: passed: better"),
    ],
)
def test_results_say_what_was_decided_and_not_only_that_the_gate_was_passed(
    decided: dict[str, str] | None, told: str
) -> None:
    assert gate_text({"promote": True, "reason": "better"}, decided) == told


def test_predicting_without_a_champion(fm: CliRunner) -> None:
    answer = fm.invoke(app, ["predict", "some text"])
    assert isinstance(answer.exception, FMError)
    assert str(answer.exception)


def test_predicting_asks_the_only_project(fm: CliRunner, projects: Path, tmp_path: Path) -> None:
    fm.invoke(app, ["init", "tickets", "--from", str(tickets(tmp_path / "t.csv"))])
    answer = fm.invoke(app, ["predict", "some text"])
    assert "tickets" in str(answer.exception)
    assert "sentiment" not in str(answer.exception)


def test_fsck_of_an_empty_home(fm: CliRunner) -> None:
    answer = fm.invoke(app, ["fsck"])
    assert answer.exit_code == 0
    assert "no damage found" in answer.output
    assert json.loads(fm.invoke(app, ["fsck", "--json"]).output) == []


def test_fsck_finds_a_damaged_model(fm: CliRunner, home: Path) -> None:
    from fm_platform.workspace import Workspace
    from tests.store.models import object_file

    staged = home.parent / "staged"
    staged.mkdir()
    (staged / "config.json").write_text("{}")
    ws = Workspace.open()
    ref = ws.models.publish(staged, {})
    assert fm.invoke(app, ["fsck"]).exit_code == 0
    object_file(ws.models, ref.content_hash, "config.json").write_text("[]")
    said = fm.invoke(app, ["fsck"]).output
    assert said.splitlines()[-1] == "1 finding"
    assert "config.json is damaged" in said
    assert "moves=" not in said
    answer = fm.invoke(app, ["fsck", "--json"])
    assert answer.exit_code == 1
    assert ref.content_hash in answer.output
    fm.invoke(app, ["fsck", "--repair"])
    assert fm.invoke(app, ["fsck"]).exit_code == 0


class TestInit:
    def test_a_project_from_a_csv_file(self, fm: CliRunner, projects: Path, tmp_path: Path) -> None:
        answer = fm.invoke(app, ["init", "tickets", "--from", str(tickets(tmp_path / "t.csv"))])
        assert answer.exit_code == 0, answer.output
        folder = projects / "assets" / "defs" / "tickets"
        assert sorted(p.name for p in folder.iterdir()) == ["defs.yaml", "labeling_functions.py"]
        assert len((folder / "defs.yaml").read_text("utf-8").splitlines()) <= 25
        assert "fm plan tickets" in answer.output
        assert json.loads(fm.invoke(app, ["projects", "--json"]).output) == ["tickets"]

    def test_what_it_writes_can_be_loaded_and_planned(
        self, fm: CliRunner, projects: Path, tmp_path: Path
    ) -> None:
        from fm_platform.workspace import find_project

        fm.invoke(app, ["init", "tickets", "--from", str(tickets(tmp_path / "t.csv"))])
        spec = find_project("tickets").spec
        assert set(spec.taxonomy.classes) == {"refund", "praise"}
        planned = json.loads(fm.invoke(app, ["plan", "tickets", "--json"]).output)
        kinds = {row["kind"] for row in planned["plan"]}
        assert {"raw", "weak_labels", "cleaned", "adapter", "merged_model", "evaluation"} <= kinds
        assert "tickets" in fm.invoke(app, ["plan", "tickets"]).output

    def test_a_file_without_dates_can_be_built_at_once(
        self, fm: CliRunner, projects: Path, tmp_path: Path
    ) -> None:
        from assets.partitions import complete_days
        from fm_platform.workspace import find_project

        file = tmp_path / "t.csv"
        file.write_text("text,label\n" + "it is late,no\nit is here,yes\n" * 6, "utf-8")
        fm.invoke(app, ["init", "tickets", "--from", str(file)])
        assert len(complete_days(find_project("tickets").spec)) == 1

    def test_status_of_a_new_project(self, fm: CliRunner, projects: Path, tmp_path: Path) -> None:
        fm.invoke(app, ["init", "tickets", "--from", str(tickets(tmp_path / "t.csv"))])
        told = json.loads(fm.invoke(app, ["status", "tickets", "--json"]).output)
        assert told["champion"] is None
        assert {row["state"] for row in told["artifacts"]} == {"unbuilt"}
        assert "champion none" in fm.invoke(app, ["status"]).output

    def test_status_of_a_source_without_files(
        self, fm: CliRunner, projects: Path, tmp_path: Path
    ) -> None:
        for name in ("kept", "lost"):
            fm.invoke(app, ["init", name, "--from", str(tickets(tmp_path / f"{name}.csv"))])
        loaded = find_project("lost")
        build_raw(Workspace.open(), loaded, "2026-01-02", RunContext(), SilentReporter())
        (tmp_path / "lost.csv").unlink()

        done = fm.invoke(app, ["status"])
        told = json.loads(fm.invoke(app, ["status", "lost", "--json"]).output)

        assert done.exit_code == 0, done.exception
        assert "cannot be read, taken for what it held: source main: no file matches" in done.output
        assert "kept: 0 fresh" in done.output
        assert list(told["unread"]) == ["main"]
        raw = [row["state"] for row in told["artifacts"] if row["kind"] == "raw"]
        assert raw == ["unbuilt", "fresh", "unbuilt"]

    def test_a_project_is_not_overwritten(
        self, fm: CliRunner, projects: Path, tmp_path: Path
    ) -> None:
        words = ["init", "tickets", "--from", str(tickets(tmp_path / "t.csv"))]
        fm.invoke(app, words)
        file = projects / "assets" / "defs" / "tickets" / "defs.yaml"
        file.write_text("mine")
        assert "exists already" in str(fm.invoke(app, words).exception)
        assert file.read_text() == "mine"

    def test_a_file_that_is_not_there(self, fm: CliRunner, projects: Path, tmp_path: Path) -> None:
        answer = fm.invoke(app, ["init", "tickets", "--from", str(tmp_path / "none.csv")])
        assert isinstance(answer.exception, FMError)
        assert list((projects / "assets" / "defs").iterdir()) == []

    def test_it_says_what_each_column_was_taken_for(
        self, fm: CliRunner, projects: Path, tmp_path: Path
    ) -> None:
        from fm_platform.workspace import find_project

        rows = [
            {"body": f"a thing {i}", "listed": f"2026-01-0{1 + i % 9}", "people": "ab"[i % 2]}
            for i in range(60)
        ]
        file = tmp_path / "odd.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))

        told = fm.invoke(app, ["init", "odd", "--from", str(file)]).output
        assert "texts: column body" in told
        assert "days: column listed, 2026-01-01 to 2026-01-09" in told, "the only one with dates"
        assert "no column found, so the classes negative and positive stand in" in told

        told = fm.invoke(app, ["init", "even", "--from", str(file), "--label", "people"]).output
        assert "labels of people: column people, a, b" in told
        spec = find_project("even").spec
        assert (spec.gold.column, tuple(spec.taxonomy.classes)) == ("people", ("a", "b"))

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--label", "text"], "does not hold classes"),
            (["--date", "text"], "does not hold dates"),
            (["--text", "none"], "there is no such column"),
            (["--text", "text", "--label", "text"], "a column is one thing"),
        ],
    )
    def test_a_column_that_cannot_be_what_it_is_named_for(
        self, fm: CliRunner, projects: Path, tmp_path: Path, words: list[str], said: str
    ) -> None:
        file = tmp_path / "t.jsonl"
        file.write_text("\n".join(json.dumps({"text": f"thing {i}"}) for i in range(60)))
        answer = fm.invoke(app, ["init", "tickets", "--from", str(file), *words])
        assert said in str(answer.exception)
        assert list((projects / "assets" / "defs").iterdir()) == []

    @pytest.mark.parametrize("name", ["../outside", "a/b", "", ".hidden", "a b", "Tickets", "x\n"])
    def test_a_name_cannot_leave_the_folder_of_projects(
        self, fm: CliRunner, projects: Path, tmp_path: Path, name: str
    ) -> None:
        answer = fm.invoke(app, ["init", name, "--from", str(tickets(tmp_path / "t.csv"))])
        assert isinstance(answer.exception, FMError)
        assert [p for p in projects.rglob("*") if p.is_file()] == []


class TestMain:
    def run(
        self, words: list[str], monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> tuple[int, str]:  # fmt: skip
        from fm_platform.cli import main

        monkeypatch.setattr("sys.argv", ["fm", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0), capsys.readouterr().err

    def test_an_error_has_no_traceback_and_ends_with_one(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, told = self.run(["results", "sentiment"], monkeypatch, capsys)
        assert code == 1
        assert told.startswith("error: ")
        assert "Traceback" not in told

    def test_hostile_text_in_an_error_stays_inert(
        self, projects: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, told = self.run(["plan", HOSTILE + "x"], monkeypatch, capsys)
        assert code == 1
        assert "there is no project" in told
        assert not {"\x1b", "\u202e", "\x07"} & set(told)

    def test_every_line_of_an_error_is_inert(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def fail() -> None:
            raise FMError(f"a {HOSTILE}", found=HOSTILE, where=HOSTILE, next_step="do this")

        monkeypatch.setattr(commands, "app", lambda standalone_mode: fail())
        code, told = self.run([], monkeypatch, capsys)
        assert code == 1
        assert "do this" in told
        assert not {"\x1b", "\u202e", "\x07"} & set(told)

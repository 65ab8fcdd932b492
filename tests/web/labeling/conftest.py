from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from fm_platform.home import Home
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.web.labeling.app import make_app
from fm_platform.workspace import Workspace
from tests.stages.small import DAYS, SPEC, build_days, write_rows
from tests.support.tiny_model import WORDS, build_tiny_base

HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=alert(1)> "
    "[a](javascript:alert(2)) ![b](http://evil.example/b.png) \u202egnol\u202c "
    "\x1b]0;owned\x07\x1b[31mred"
)
ORIGIN = "http://127.0.0.1:3003"
GUIDELINE = """\
  annotation:
    guideline: {version: "2", text: "Good is what the writer likes.",
                changes: [{version: "2", semantic: true, classes: [positive], reason: Irony}]}
"""


def write_project(root: Path) -> LoadedProject:
    """The small project below `root`, with a guideline and one hostile text a day."""
    folder = root / "assets" / "defs" / "small"
    folder.mkdir(parents=True)
    build_tiny_base(folder / "base")
    write_rows(folder)
    for day in DAYS:
        with (folder / f"mail-{day}.jsonl").open("a", encoding="utf-8") as rows:
            for n in range(4):
                said = {"text": f"{HOSTILE} {n} {day}", "label": "neutral"}
                rows.write(json.dumps(said) + "\n")
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    quick = SPEC.replace(
        "  labeling:\n", "  labeling:\n    label_model: {{candidates: [majority_vote]}}\n"
    )
    (folder / "defs.yaml").write_text(quick.format(**words) + GUIDELINE)
    return load_spec(folder / "defs.yaml")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, Path]:
    """The small project with weak labels."""
    root = tmp_path_factory.mktemp("checkout")
    ws = Workspace.open(Home(tmp_path_factory.mktemp("home")))
    build_days(ws, write_project(root))
    return ws, root


class Page:
    """A tab of one person, without a browser."""

    def __init__(self, client: TestClient, annotator: str, tab: str) -> None:
        self.client, self.who = client, {"project": "small", "annotator": annotator, "tab": tab}
        self.session = client.get("/api/session", params=self.who).json()

    def next(self) -> dict[str, Any]:
        """Return what is shown, once rows are chosen."""
        for _ in range(600):
            told: dict[str, Any] = self.client.get("/api/next", params=self.who).json()
            if told.get("state") != "wait":
                return told
            time.sleep(0.05)
        raise AssertionError("no row was chosen")

    def tell(self, what: str, token: str | None = None, **given: Any) -> Any:
        """Post something as the page does."""
        headers = {"origin": ORIGIN, "x-fm-token": token or self.session["token"]}
        return self.client.post(f"/api/{what}", json={**self.who, **given}, headers=headers)

    def answer(self, key: str, *classes: str) -> Any:
        """Answer a row; without classes: cannot tell."""
        versions = {"guideline_version": self.session["guideline"]["version"]}
        return self.tell("answer", text_key=key, classes=list(classes) or None, **versions)


@pytest.fixture
def client(built: tuple[Workspace, Path]) -> TestClient:
    ws, root = built
    return TestClient(make_app(ws, 3003, root), base_url=ORIGIN)

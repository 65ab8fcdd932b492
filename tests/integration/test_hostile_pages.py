"""Rows and names that carry script, in a real browser: nothing runs and nothing leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fm_platform.lineage.ledger import Ledger
from tests.integration.test_ui import free_ports
from tests.support.browser import Browser, chromium
from tests.support.tiny_model import build_tiny_base
from tests.test_display import PAYLOADS

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(900)]

FILE = "rows-<img src=x onerror=alert(2)>![b](https:evil.example).jsonl"
SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: hostile
  description: "<script>alert(3)</script> ![b](https://evil.example/p.png)"
  taxonomy: {classes: [bad, good]}
  calendar: {start: 2026-01-01, end: 2026-01-01}
  gold: {column: label}
  sources:
    - {name: main, options: {path: "rows-*.jsonl"}}
  contract:
    columns:
      text: {type: string}
      kind: {type: string, allowed: [plain, "<svg onload=alert(4)>"]}
  labeling:
    max_failed_share: 1.0
    functions:
      - {kind: keyword, name: good_words, words: [good], label: good}
      - {kind: keyword, name: bad_words, words: [bad], label: bad}
  base_model: {location: base}
  training: {rank: 2, batch_tokens: 64, max_tokens: 24, threads: 1, probe_epochs: 1}
  merge: {search_evaluations: 2, search_rows_per_source: 20}
  evaluation: {bootstrap_samples: 100}
"""
FUNCTIONS = '''\
"""Votes."""
from fm_platform.labeling import labeling_function


@labeling_function
def raises(row):
    """<script>alert(5)</script>"""
    raise ValueError(row.text)
'''


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    root = tmp_path_factory.mktemp("hostile")
    folder = root / "assets" / "defs" / "hostile"
    folder.mkdir(parents=True)
    build_tiny_base(folder / "base")
    rows = [
        {
            "text": f"{('good', 'bad')[i % 2]} {payload} {i}".replace("\ud800", "?"),
            "label": ("good", "bad")[i % 2],
            "kind": "plain" if i % 42 else payload.replace("\ud800", "?"),
        }
        for i, payload in enumerate(PAYLOADS * 3)
    ]
    (folder / FILE).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "defs.yaml").write_text(SPEC)
    (folder / "labeling_functions.py").write_text(FUNCTIONS)
    environment = {**os.environ, "FM_HOME": str(root / "home"), "FM_PROJECTS": str(root)}
    fm = [sys.executable, "-c", "from fm_platform.cli import main; main()"]
    subprocess.run([*fm, "run", "hostile"], cwd=ROOT, env=environment, check=True, timeout=600)
    port = free_ports()
    process = subprocess.Popen(
        [*fm, "ui", "--port", str(port)], cwd=ROOT, env=environment, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = [process.stdout.readline() for _ in range(3)]
        assert said[1].startswith("Dagster"), said
        yield f"http://127.0.0.1:{port}", root / "home"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


def pages(base: str) -> list[tuple[str, str]]:
    """Return addresses, each with a word that shows that the page is drawn."""
    query = {"query": "{ runsOrError(limit: 5) { ... on Runs { results { runId } } } }"}
    answer = httpx.post(f"{base}/graphql", json=query, headers={"origin": base}, timeout=60)
    runs = [run["runId"] for run in answer.json()["data"]["runsOrError"]["results"]]
    stages = ("raw", "weak_labels", "cleaned", "shared_start", "merged_model", "evaluation")
    found = [(f"{base}/assets/hostile/{stage}", "Metadata") for stage in stages]
    found += [(f"{base}/assets/hostile/{stage}?view=events", stage) for stage in stages[:3]]
    found += [(f"{base}/assets/hostile/{stage}?view=checks", stage) for stage in stages[:3]]
    found += [(f"{base}/runs/{run}", "Success") for run in runs]
    return [*found, (f"{base}/asset-groups", "hostile")]


def test_no_page_of_dagster_runs_or_fetches_what_a_row_says(
    served: tuple[str, Path], browser: Browser
) -> None:
    base, _ = served

    looked_at = pages(base)
    for address, word in looked_at:
        seen = browser.open(address, wait_for=f"document.body.innerText.includes({word!r})")
        browser.idle(2)
        assert seen.dialogs == [], address
        assert seen.foreign() == [], address
        assert not browser.run("!!document.querySelector('img[src=x], iframe[srcdoc], embed')")

    assert len(looked_at) >= 14


def test_the_registered_model_in_mlflow_is_inert(
    served: tuple[str, Path], browser: Browser
) -> None:
    base, _ = served
    mlflow = f"http://127.0.0.1:{int(base.rpartition(':')[2]) + 1}"

    for page in ("/#/models/hostile", "/#/models/hostile/versions/1"):
        seen = browser.open(
            mlflow + page, wait_for="document.body.innerText.includes('hostile')", wait_s=60
        )
        browser.idle(3)

        assert seen.dialogs == []
        assert [a for a in seen.foreign() if "evil" in a] == [], browser.run(
            "document.querySelector('img[src*=evil]')?.parentElement.outerHTML"
        )


def test_the_report_of_the_evaluation_is_inert(served: tuple[str, Path], browser: Browser) -> None:
    _, home = served
    version = Ledger.open(f"sqlite:///{home / 'ledger.db'}").latest(
        "hostile", "evaluation", "evaluation"
    )
    assert version is not None
    report = home / "reports" / version.content_hash[:16] / "report.html"

    seen = browser.open(report.as_uri(), wait_for="document.body.innerText.length > 500")
    browser.idle(3)

    assert seen.dialogs == []
    assert seen.foreign() == []

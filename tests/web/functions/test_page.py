"""The page of the labeling functions in headless Chromium, on real days with hostile texts."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.stages import SilentReporter
from fm_platform.stages.label_days import build_labeled_day
from fm_platform.stages.raw import build_raw
from fm_platform.web.lineage.app import make_app
from fm_platform.web.lineage.links import Links
from fm_platform.workspace import Workspace
from tests.stages.test_label_report import DAYS, write
from tests.support.browser import Browser, quiet
from tests.web.lineage.conftest import HOSTILE

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
READY = "document.body.classList.contains('ready')"


def serve(ws: Workspace) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    app = make_app(ws, Links(), port)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning"))
    running = threading.Thread(target=server.run, daemon=True)
    running.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/functions"
    server.should_exit = True
    running.join(20)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("checkout")
    (root / "assets" / "defs").mkdir(parents=True)
    project = write(root / "assets" / "defs" / "shop", odd=f"<b>odd</b> great awful {HOSTILE}")
    ws = Workspace.open(Home(tmp_path_factory.mktemp("home")))
    for day in DAYS[:4]:
        build_raw(ws, project, day, RunContext(), SilentReporter())
    for day in DAYS[:4]:
        build_labeled_day(ws, project, day, RunContext(), SilentReporter())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FM_PROJECTS", str(root))
        yield from serve(ws)


@pytest.fixture
def browser(tab: Browser) -> Iterator[Browser]:
    yield from quiet(tab, 1280, 900)


def names(browser: Browser) -> list[str]:
    rows = "[...document.querySelectorAll('[data-function]')].map((row) => row.dataset.function)"
    return list(browser.run(rows))


def test_the_table_is_sorted_by_keyboard_and_a_function_opens(browser: Browser, base: str) -> None:
    browser.open(base, wait_for=READY)
    assert sorted(names(browser)) == ["blame", "nothing", "praise", "praise_again", "stars"]
    text = str(browser.run("document.body.innerText"))
    assert "nothing never votes" in text
    assert "praise says the same as praise_again" in text

    browser.run(
        "[...document.querySelectorAll('th button')].find((b) => b.innerText === 'covers').focus()"
    )
    browser.key("Enter")
    assert names(browser)[-1] == "nothing"
    sort = "document.activeElement.closest('th').getAttribute('aria-sort')"
    assert browser.run(sort) == "descending"
    browser.key("Enter")
    assert names(browser)[0] == "nothing"
    assert browser.run(sort) == "ascending"

    browser.run("document.querySelector('[data-function=blame] .name').focus()")
    browser.key("Enter")
    browser.wait("document.querySelector('.detail h2')?.textContent === 'blame'")
    assert "function=blame" in str(browser.run("location.href"))
    assert browser.run("document.querySelectorAll('.detail svg path').length") == 2
    assert browser.run("document.activeElement.textContent") == "blame"
    browser.key("Escape")
    assert browser.run("document.getElementById('detail').hidden")
    assert browser.run("document.activeElement.textContent") == "blame"


def test_a_source_alone_and_a_reload_shows_the_same(browser: Browser, base: str) -> None:
    browser.open(f"{base}?source=chat&function=stars", wait_for=READY)
    assert "of chat" in str(browser.run("document.querySelector('.head').innerText"))
    assert browser.run("document.getElementById('source').value") == "chat"
    assert browser.run("document.querySelector('.detail h2').textContent") == "stars"


def test_hostile_text_is_only_text(browser: Browser, base: str) -> None:
    browser.open(base, wait_for=READY)
    text = str(browser.run("document.getElementById('report').innerText"))
    assert "<script>alert(1)</script>" in text
    assert "\u202e" not in text
    assert browser.run("document.querySelectorAll('main script, main img, main b').length") == 0


@pytest.mark.parametrize("dark", [False, True])
def test_a_small_screen_scrolls_only_what_is_wide(browser: Browser, base: str, dark: bool) -> None:
    browser.dark(dark)
    browser.resize(390, 844)
    browser.open(f"{base}?function=praise", wait_for=READY)
    assert browser.run("document.documentElement.scrollWidth") <= 390


def test_nothing_built_yet_says_what_to_run(browser: Browser, tmp_path: Path) -> None:
    serving = serve(Workspace.open(Home(tmp_path / "home")))
    address = next(serving)
    browser.open(address, wait_for=READY)
    text = str(browser.run("document.getElementById('report').innerText"))
    assert "nothing is built yet" in text
    assert "fm run PROJECT" in text
    next(serving, None)

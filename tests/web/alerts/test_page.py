"""The alerts page in headless Chromium: seen, answered by keyboard, and nothing hostile runs."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from fm_platform.stages.alerts import Desk
from fm_platform.web.alerts.app import make_app
from fm_platform.web.lineage.links import Links
from tests.support.browser import Browser, chromium
from tests.web.alerts.worlds import world

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
READY = "document.body.classList.contains('ready')"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[tuple[Desk, str]]:
    desk, root = world(tmp_path)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    app = make_app(desk.ws, Links("http://127.0.0.1:3000"), port, root)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning"))
    running = threading.Thread(target=server.run, daemon=True)
    running.start()
    while not server.started:
        time.sleep(0.02)
    yield desk, f"http://127.0.0.1:{port}"
    server.should_exit = True
    running.join(20)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with chromium(tmp_path / "profile") as tab:
        tab.resize(1440, 900)
        yield tab
        assert tab.seen.errors == []
        assert tab.seen.dialogs == []
        assert tab.seen.foreign() == []


def text(browser: Browser, where: str) -> str:
    return str(browser.run(f"document.querySelector({where!r}).innerText"))


def test_an_alert_is_read_and_accepted_by_keyboard(
    made: tuple[Desk, str], browser: Browser
) -> None:
    desk, base = made
    browser.open(base, wait_for=f"{READY} && document.querySelector('#panel h2')")
    assert "<script>" in text(browser, "#panel h2")  # as text
    shown = "[...document.querySelectorAll('#panel svg')].map((one) => one.ariaLabel)"
    shares, _, quantiles = browser.run(shown)
    assert "0 % to 61 %" in shares
    assert "median: 74 to 158" in quantiles  # characters, not shares of them
    assert "[EMAIL]" in text(browser, "#panel")

    browser.key("a")
    browser.wait("document.querySelectorAll('#list a').length === 3")
    browser.key("j")
    browser.key("j")
    browser.wait("document.querySelector('#panel .line .repaired')")
    story = text(browser, "#panel .line")
    for words in ("alert", "Train mail again", "abcdefgh", "merged_model", "0.612 -> 0.671"):
        assert words in story
    browser.key("k")
    browser.key("k")
    chosen = "new URLSearchParams(location.search).get('alert')"
    browser.wait(f"document.querySelector('#panel').dataset.alert === {chosen}")
    browser.run("document.querySelector('#act-accept').focus()")
    browser.key("Enter")
    browser.wait("document.querySelector('dialog[open] textarea')")
    browser.call("Input.insertText", text="it is meant to be so")
    browser.run("document.querySelector('dialog .first').focus()")
    browser.key("Enter")
    browser.wait("document.querySelector('#panel .tag.accepted')")

    (accepted,) = desk.rulings().accepted.values()
    assert accepted.reason == "it is meant to be so"


@pytest.mark.parametrize("dark", [False, True])
def test_on_a_phone_nothing_is_cut_off(
    made: tuple[Desk, str], browser: Browser, dark: bool
) -> None:
    _, base = made
    browser.resize(390, 844, mobile=True)
    browser.dark(dark)
    browser.open(base, wait_for=f"{READY} && document.querySelector('#list a')")
    assert browser.run("document.documentElement.scrollWidth") <= 390
    browser.run("document.querySelector('#list a').click()")
    browser.wait("document.querySelector('#panel h2')")

    assert browser.run("document.documentElement.scrollWidth") <= 390
    small = """[...document.querySelectorAll('#panel .buttons button')]
        .filter((b) => b.getBoundingClientRect().height < 32).length"""
    assert browser.run(small) == 0


def test_where_nothing_is_open_the_page_says_so(made: tuple[Desk, str], browser: Browser) -> None:
    desk, base = made
    for life in desk.lives().values():
        if life.is_open:
            desk.rule(life, "accepted", "so be it", "ann")

    browser.open(base, wait_for=f"{READY} && document.querySelector('#list .empty')")

    assert "Nothing is open" in text(browser, "#list")

"""The page in headless Chromium: what a person does with it, and what hostile text does not."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import uvicorn

from fm_platform.home import Home
from fm_platform.stages import tables
from fm_platform.universe.branches import on_branch
from fm_platform.web.lineage.app import make_app
from fm_platform.web.lineage.links import Links
from fm_platform.workspace import Workspace
from tests.stages.diff.worlds import DAY, build_day, model, write_project
from tests.support.browser import Browser, quiet
from tests.web.lineage.conftest import HOSTILE

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
READY = "document.body.classList.contains('ready')"
ROWS = f"rows-{DAY}.jsonl"


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A day of a real project, built again after a function was edited; two models."""
    folder = tmp_path_factory.mktemp("project") / "small"
    found = Workspace.open(Home(tmp_path_factory.mktemp("home")))
    project = write_project(folder)
    with (folder / ROWS).open("a", encoding="utf-8") as rows:
        rows.write(json.dumps({"text": f"great {HOSTILE}", "label": "good"}) + "\n")
    build_day(found, project)
    first = model(found, "one")
    found.ledger.set_alias("small", "champion", first.id, expected=None, reason=HOSTILE, actor="me")
    again = write_project(folder, good="fine")
    with (folder / ROWS).open("a", encoding="utf-8") as rows:
        rows.write(json.dumps({"text": f"great {HOSTILE}", "label": "good"}) + "\n")
    build_day(found, again)
    model(found, "two")
    return found


@pytest.fixture(scope="module")
def base(ws: Workspace) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    app = make_app(ws, Links("http://127.0.0.1:3000", "http://127.0.0.1:3001"), port)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning"))
    running = threading.Thread(target=server.run, daemon=True)
    running.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    running.join(20)


@pytest.fixture
def browser(tab: Browser) -> Iterator[Browser]:
    yield from quiet(tab, 1440, 900)


def panel(browser: Browser) -> str:
    return str(browser.run("document.getElementById('panel').innerText"))


def address(browser: Browser) -> dict[str, str]:
    query = urlsplit(str(browser.run("location.href"))).query
    return {key: values[0] for key, values in parse_qs(query).items()}


def place(browser: Browser, ref: str) -> tuple[float, float]:
    x, y = browser.run(f"lineagePage.view.middle({ref!r})")
    return float(x), float(y)


def opened(title: str) -> str:
    return f"document.querySelector('#panel h2')?.textContent === {title!r}"


def shown(browser: Browser) -> Any:
    return browser.run("lineagePage.view.graph.size")


def test_a_node_is_clicked_and_its_record_opens(browser: Browser, base: str) -> None:
    browser.open(base, wait_for=READY)

    browser.click(*place(browser, f"votes/good_words/{DAY}#2"))
    browser.wait(opened(f"good_words{DAY}#2"))

    assert address(browser) == {"project": "small", "v": f"votes/good_words/{DAY}#2"}
    for said in ("Made from", "What was made from it", "Versions", "Recipe", "raw/2026-01-01"):
        assert said in panel(browser)
    lit = browser.run("lineagePage.view.around.up.reduce((a, b) => a + b, 0)")
    assert lit >= 2  # itself and raw
    browser.key("Escape")
    browser.wait("document.getElementById('panel').hidden")
    assert address(browser) == {"project": "small"}


def test_two_nodes_are_compared_with_the_cause_first(browser: Browser, base: str) -> None:
    browser.open(f"{base}/?v=merged_model%232", wait_for=READY)
    browser.wait(opened("merged model#2"))

    browser.run("document.getElementById('diff-with').click()")
    browser.click(*place(browser, "merged_model#1"))
    browser.wait(opened("merged model"))

    assert {address(browser)["a"], address(browser)["b"]} == {"merged_model#1", "merged_model#2"}
    assert "Causes" in panel(browser)


def test_the_diff_to_the_version_before_shows_function_and_rows(
    browser: Browser, base: str
) -> None:
    browser.open(f"{base}/?v=cleaned/{DAY}", wait_for=READY)
    browser.wait(opened(f"cleaned{DAY}#2"))
    browser.run("document.getElementById('diff-before').click()")
    browser.wait("document.getElementById('read-contents')")
    assert "good_words" in panel(browser)

    browser.run("document.getElementById('read-contents').click()")
    browser.wait("document.querySelector('#panel .rows')")

    browser.run("document.querySelectorAll('#panel details').forEach((d) => { d.open = true; })")
    assert address(browser)["all"] == "1"
    assert "-" in browser.run("document.querySelector('#panel .minus').textContent")
    assert "great" in panel(browser)


def test_a_row_with_script_and_links_in_its_text_does_nothing(
    browser: Browser, base: str, ws: Workspace
) -> None:
    raw = ws.ledger.latest("small", "raw", "raw", DAY)
    assert raw is not None
    rows = tables.read(ws, raw, "raw", ["row_id", "text"]).to_pylist()
    row = next(str(row["row_id"]) for row in rows if "<script>" in row["text"])

    browser.open(base, wait_for=READY)
    browser.run(f"document.getElementById('search').value = {row!r}")
    browser.run("document.getElementById('search').focus()")
    browser.key("Enter")
    browser.wait("document.querySelector('#panel h2.row')")
    browser.idle(0.5)

    assert address(browser)["row"] == row
    assert "<script>alert(1)</script>" in panel(browser)
    assert "[a](javascript:alert(3))" in panel(browser)
    assert browser.run("document.querySelectorAll('#panel script, #panel img').length") == 0
    assert browser.run("document.querySelectorAll('a[href^=\"javascript\"]').length") == 0
    assert "\u202e" not in panel(browser)
    injected = (
        "(() => { const s = document.createElement('script'); try { s.textContent = 'var ran = 1';"
        " document.body.append(s); } catch { return 'refused'; } return typeof ran; })()"
    )
    assert browser.run(injected) in ("refused", "undefined")
    assert "alert(2)" in browser.run(
        "document.querySelector('footer').textContent + JSON.stringify(lineagePage.page.timeline)"
    )


def test_search_finds_by_words_and_by_hash(browser: Browser, base: str, ws: Workspace) -> None:
    browser.open(base, wait_for=READY)
    browser.key("/")
    for letter in "bad":
        browser.key(letter)
    browser.wait("!document.getElementById('found').hidden")
    assert "votes/bad_words" in browser.run("document.getElementById('found').innerText")
    browser.key("Enter")
    browser.wait("!document.getElementById('panel').hidden && document.querySelector('#panel h2')")
    assert address(browser)["v"].startswith("votes/bad_words")

    old = ws.ledger.versions("small", "cleaned", "cleaned", DAY)[0]
    browser.run("document.getElementById('search').focus()")
    browser.run(f"document.getElementById('search').value = {old.content_hash[:16]!r}")
    browser.run("document.getElementById('search').dispatchEvent(new Event('input'))")
    browser.key("Enter")
    browser.wait(opened(f"cleaned{DAY}#1"))  # not in use any more: found in the whole history


def test_the_slider_goes_back_in_time_and_to_now_again(browser: Browser, base: str) -> None:
    browser.open(base, wait_for=READY)
    now = shown(browser)

    browser.run("document.getElementById('slider').focus()")
    browser.key("Home")
    browser.wait(f"lineagePage.view.graph.size < {now}")
    then = shown(browser)

    assert "at" in address(browser)
    assert browser.run("document.getElementById('moment').textContent") != "Now"
    browser.key("]")
    browser.wait(f"lineagePage.view.graph.size > {then}")
    browser.key("n")
    browser.wait(f"lineagePage.view.graph.size === {now}")
    assert "at" not in address(browser)


def test_the_address_of_a_view_shows_the_same_view(browser: Browser, base: str) -> None:
    browser.open(base, wait_for=READY)
    browser.run("lineagePage.timeline.go(Math.floor(lineagePage.timeline.moments.length / 2))")
    browser.wait("new URLSearchParams(location.search).has('at')")
    browser.run("lineagePage.page.loading")
    browser.click(*place(browser, f"raw/{DAY}#1"))
    browser.wait(opened(f"raw{DAY}#1"))
    shared, size = str(browser.run("location.href")), shown(browser)

    browser.open("about:blank")
    browser.open(shared, wait_for=f"{READY} && {opened(f'raw{DAY}#1')}")

    assert shown(browser) == size
    assert browser.run("lineagePage.view.graph.ref(lineagePage.view.selected)") == f"raw/{DAY}#1"


def test_a_branch_is_chosen_and_is_in_the_address(
    browser: Browser, base: str, ws: Workspace
) -> None:
    ws.ledger.create_branch("try", {"small": None}, datetime.now(timezone.utc), "me")
    model(on_branch(ws, "try"), "three")
    browser.open(base, wait_for=READY)
    assert browser.run("lineagePage.view.graph.find('merged_model#3')") == -1

    browser.run(
        "(() => { const b = document.getElementById('branch'); b.value = 'try';"
        " b.dispatchEvent(new Event('change')); })()"
    )
    browser.wait("lineagePage.view.graph.find('merged_model#3') >= 0")
    browser.open(f"{base}/?branch=try&v=merged_model", wait_for=opened("merged model#3"))

    assert address(browser)["branch"] == "try"
    assert browser.run("document.getElementById('branch').value") == "try"
    browser.resize(390, 844, mobile=True)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.run("document.getElementById('help').getBoundingClientRect().right") <= 390
    ws.ledger.delete_branch(ws.ledger.branch_of("small", "try"))


def test_links_lead_to_dagster(browser: Browser, base: str) -> None:
    browser.open(f"{base}/?v=raw/{DAY}", wait_for=opened(f"raw{DAY}#1"))

    links = browser.run("[...document.querySelectorAll('#panel a')].map((a) => [a.href, a.rel])")

    where = f"http://127.0.0.1:3000/assets/small/raw?partition={DAY}"
    assert links == [[where, "noopener noreferrer"]]


def test_going_back_in_the_browser_closes_what_was_opened(browser: Browser, base: str) -> None:
    browser.open(base, wait_for=READY)
    browser.click(*place(browser, f"raw/{DAY}#1"))
    browser.wait(opened(f"raw{DAY}#1"))

    browser.run("history.back()")

    browser.wait("document.getElementById('panel').hidden")


def test_everything_by_keyboard(browser: Browser, base: str) -> None:
    browser.open(base, wait_for=READY)
    browser.key("g")
    start = browser.run("document.getElementById('said').textContent")
    browser.key("ArrowLeft")
    moved = browser.run("document.getElementById('said').textContent")
    browser.key("Enter")
    browser.wait("!document.getElementById('panel').hidden")

    assert "merged_model" in start.replace(" ", "_")
    assert moved != start
    assert browser.run("lineagePage.view.selected === lineagePage.view.focused")
    one = address(browser)["v"]
    browser.key("g")
    browser.key("ArrowRight")
    shift = {"key": "Enter", "code": "Enter", "text": "\r", "modifiers": 8}
    browser.call("Input.dispatchKeyEvent", type="keyDown", **shift)
    browser.wait("new URLSearchParams(location.search).has('b')")
    assert one in (address(browser)["a"], address(browser)["b"])
    browser.key("?")
    assert browser.run("document.getElementById('keys').open")


def test_at_phone_width_nothing_is_cut_off(browser: Browser, base: str) -> None:
    browser.resize(390, 844, mobile=True)
    browser.open(f"{base}/?v=merged_model", wait_for=f"{READY} && {opened('merged model#2')}")

    assert browser.run("document.documentElement.scrollWidth") <= 390
    assert browser.run("document.documentElement.scrollHeight") <= 844
    x, y = place(browser, "merged_model#2")
    top = browser.run("document.getElementById('panel').getBoundingClientRect().top")
    assert 0 < x < 390
    assert 0 < y < top
    assert browser.run("document.getElementById('panel').scrollWidth") <= 390


def test_dark_is_dark_and_a_choice_stays(browser: Browser, base: str) -> None:
    def light() -> int:
        colour = browser.run("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in colour[4:-1].split(","))

    def painted() -> int:
        return sum(
            browser.run(
                "[...document.getElementById('base').getContext('2d')"
                ".getImageData(4, 100, 1, 1).data].slice(0, 3)"
            )
        )

    browser.open(base, wait_for=READY)
    browser.wait("lineagePage.view.drawn > 0")
    assert light() > 600
    assert painted() > 600
    browser.dark(True)
    browser.idle(0.3)
    assert light() < 200
    assert painted() < 200
    browser.run("document.getElementById('theme').click()")  # light, whatever the system says
    assert light() > 600
    browser.open(base, wait_for=READY)
    assert light() > 600
    browser.run("localStorage.clear()")


def test_what_does_not_exist_is_said_with_the_next_step(browser: Browser, base: str) -> None:
    browser.open(f"{base}/?v=merged_modle", wait_for=READY)
    browser.wait("document.querySelector('#panel .refused')")
    assert "close to it: merged_model" in panel(browser)

    browser.open(f"{base}/?project=none", wait_for=READY)
    browser.wait("document.querySelector('#notice .refused')")
    assert "there is no history of this project" in browser.run(
        "document.getElementById('notice').innerText"
    )


def test_an_empty_home_tells_how_to_begin(browser: Browser, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    app = make_app(Workspace(Home(tmp_path / "home").ensure()), Links(), port)
    server = uvicorn.Server(uvicorn.Config(app, "127.0.0.1", port, log_level="warning"))
    running = threading.Thread(target=server.run, daemon=True)
    running.start()
    while not server.started:
        time.sleep(0.02)

    browser.open(f"http://127.0.0.1:{port}", wait_for=READY)

    assert "make demo" in browser.run("document.getElementById('notice').innerText")
    server.should_exit = True
    running.join(20)

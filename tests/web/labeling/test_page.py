"""The labeling page in headless Chromium: by keyboard alone, and with hostile texts."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn

from fm_platform.home import Home
from fm_platform.lineage import RunContext
from fm_platform.spec.load import load_spec
from fm_platform.stages import SilentReporter
from fm_platform.stages.annotations import answers, save
from fm_platform.stages.review_queue import Pool
from fm_platform.web.labeling.app import make_app
from fm_platform.workspace import Workspace
from tests.support.browser import Browser, quiet

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
READY = "document.body.classList.contains('ready')"
TEXT = "document.getElementById('text').textContent"
Built = tuple[Workspace, Path]


@contextmanager
def serving(ws: Workspace, root: Path, port: int = 0) -> Iterator[int]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = int(probe.getsockname()[1])
    config = uvicorn.Config(make_app(ws, port, root), "127.0.0.1", port, log_level="warning")
    server = uvicorn.Server(config)
    running = threading.Thread(target=server.run, daemon=True)
    running.start()
    while not server.started:
        time.sleep(0.02)
    yield port
    server.should_exit = True
    running.join(20)


@pytest.fixture(scope="module")
def base(built: Built) -> Iterator[str]:
    with serving(*built) as port:
        yield f"http://127.0.0.1:{port}/?project=small&annotator="


@pytest.fixture
def browser(tab: Browser) -> Iterator[Browser]:
    yield from quiet(tab, 1280, 860)


def said(built: Built, who: str) -> list[tuple[str, str | None]]:
    """What a person answered, oldest first."""
    ws, root = built
    spec = load_spec(root / "assets" / "defs" / "small" / "defs.yaml").spec
    rows = answers(ws, spec).to_pylist()
    return [(row["text"], row["label"]) for row in rows if row["annotator"] == who]


def leave(built: Built, who: str, wanted: Callable[[str], bool]) -> int:
    """Let a person answer all rows but some; return how many these are."""
    ws, root = built
    project = load_spec(root / "assets" / "defs" / "small" / "defs.yaml")
    rows = Pool(ws, project, RunContext(), SilentReporter()).rows.to_pylist()
    done = [row for row in rows if not wanted(row["text"])]
    records = [{"text": row["text"], "label": "neutral", "annotator": who} for row in done]
    save(ws, project.spec, records, RunContext())
    return len(rows) - len(done)


def press(browser: Browser, key: str) -> str:
    """Press a key that answers, and return the text that was answered."""
    before = str(browser.run(TEXT))
    browser.key(key)
    browser.wait(f"{TEXT} !== {before!r} && {READY}")
    return before


def test_ten_rows_by_keyboard_one_taken_back_and_loaded_again(
    browser: Browser, base: str, built: Built
) -> None:
    browser.open(f"{base}ann", wait_for=READY)
    keys = ["1", "2", "3", "c", "1", "s", "2", "3", "1", "2", "3"]
    shown = [press(browser, key) for key in keys]
    names = {"1": "negative", "2": "neutral", "3": "positive", "c": None}
    expected = [(t, names[k]) for t, k in zip(shown, keys, strict=True) if k != "s"]
    assert [label for _, label in said(built, "ann")] == [label for _, label in expected]
    assert len({text for text, _ in said(built, "ann")}) == 10

    browser.key("u")
    browser.wait(f"{TEXT} === {shown[-1]!r}")
    assert len(said(built, "ann")) == 9
    browser.open(f"{base}ann", wait_for=READY)  # loaded again: the same row, nothing lost
    assert browser.run(TEXT) == shown[-1]
    assert "9 today" in browser.run("document.getElementById('counts').textContent")

    browser.key("m")
    browser.key("1")
    browser.key("3")
    press(browser, "Enter")
    assert said(built, "ann")[-1][1] == "negative|positive"


def test_hostile_texts_are_only_text(browser: Browser, base: str, built: Built) -> None:
    left = leave(built, "bob", lambda text: "script" in text)
    browser.open(f"{base}bob", wait_for=READY)
    for _ in range(left):
        text = press(browser, "2")
        assert "<script>document.title='owned'</script>" in text
        assert "![b](http://evil.example/b.png) gnol red" in text
        assert not set(text) & {"\u202e", "\u202c", "\x1b", "\x07"}

    assert left > 1
    assert browser.run("document.title") == "Labeling small"
    assert browser.run("document.querySelectorAll('main img, main script, main a').length") == 0


def test_votes_are_seen_only_after_asking(browser: Browser, base: str) -> None:
    browser.open(f"{base}cat", wait_for=READY)
    assert "good_words" not in browser.run("document.documentElement.outerHTML")
    browser.key("v")
    browser.wait("document.getElementById('votes-text').innerText.includes('good_words')")
    assert "version 2" in browser.run("document.getElementById('guideline').innerText")


def test_every_control_is_reached_with_tab_and_shows_it(browser: Browser, base: str) -> None:
    browser.open(f"{base}dan", wait_for=READY)
    wanted = set(browser.run(
        "[...document.querySelectorAll('button, select, summary, input')]"
        ".filter((e) => e.checkVisibility() && !e.disabled).map((e) => e.id || e.innerText)"
    ))  # fmt: skip
    reached = {}
    for _ in range(40):
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab",
                     windowsVirtualKeyCode=9)  # fmt: skip
        name, width = browser.run(
            "(() => { const e = document.activeElement; const s = getComputedStyle(e);"
            "const width = s.outlineStyle === 'none' ? 0 : parseFloat(s.outlineWidth);"
            "return [e.id || e.innerText, width]; })()"
        )
        reached[name] = width
    assert wanted <= set(reached)
    assert all(reached[name] >= 2 for name in wanted)
    unnamed = browser.run(
        "[...document.querySelectorAll('button, select, input')].filter((e) => e.checkVisibility()"
        " && !(e.innerText || e.ariaLabel || e.labels?.length)).length"
    )
    assert unnamed == 0


def test_at_phone_width_and_in_the_dark(browser: Browser, base: str) -> None:
    browser.resize(390, 844, mobile=True)
    browser.dark(True)
    browser.open(f"{base}eve", wait_for=READY)

    assert browser.run("document.documentElement.scrollWidth") <= 390
    colour = browser.run("getComputedStyle(document.body).backgroundColor")
    assert sum(int(part) for part in colour[4:-1].split(",")[:3]) < 200
    last = "document.querySelector('#actions button:last-child').getBoundingClientRect().bottom"
    assert browser.run(last) <= 844  # every answer without scrolling


def test_an_answer_waits_for_a_server_that_is_gone(browser: Browser, built: Built) -> None:
    with serving(*built) as port:
        browser.open(f"http://127.0.0.1:{port}/?project=small&annotator=fay", wait_for=READY)
        text = browser.run(TEXT)
    browser.key("1")
    browser.wait("document.getElementById('notice').innerText.includes('does not answer')")
    assert said(built, "fay") == []
    with serving(*built, port):  # another token, another memory
        browser.wait(f"{TEXT} !== {text!r} && {READY}")
    assert [label for _, label in said(built, "fay")] == ["negative"]


def test_without_a_name_it_asks_and_without_labels_it_says_so(
    browser: Browser, base: str, built: Built, tmp_path: Path
) -> None:
    browser.open(base.split("?")[0], wait_for=READY)
    browser.run("localStorage.clear()")
    browser.open(base.split("?")[0], wait_for=READY)
    assert browser.run("document.activeElement.id") == "name"
    browser.call("Input.insertText", text="gil")
    browser.key("Enter")
    browser.wait(f"{READY} && document.getElementById('who').textContent === 'gil'")

    with serving(Workspace.open(Home(tmp_path / "home")), built[1]) as port:
        browser.open(f"http://127.0.0.1:{port}/?project=small&annotator=hal", wait_for=READY)
        browser.wait("document.getElementById('notice').innerText.includes('fm run small')")


def test_when_nothing_is_left_it_says_so(browser: Browser, base: str, built: Built) -> None:
    seen: list[str] = []
    left = leave(built, "ivy", lambda text: seen.append(text) is None and len(seen) <= 2)
    browser.open(f"{base}ivy", wait_for=READY)
    press(browser, "1")
    browser.key("s")
    browser.wait(f"{TEXT}.includes('Nothing is left')")
    browser.run("document.getElementById('again').click()")
    browser.wait(f"{READY} && !{TEXT}.includes('Nothing')")
    press(browser, "2")
    assert (left, [label for _, label in said(built, "ivy")][-2:]) == (2, ["negative", "neutral"])

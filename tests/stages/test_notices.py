"""Webhook and mail: once each, whatever the endpoint does; hostile text stays text."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fm_platform.lineage.database import now
from fm_platform.stages import notices
from fm_platform.stages.notices import Delivery, Notice, deliver, post
from fm_platform.workspace import Workspace
from tests.stages.test_alerts import alert, desk_of, ws  # noqa: F401 # a fixture


class Endpoint(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = 200
        self.poison = "nothing is poison"
        self.got: list[dict[str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = 400 if self.server.poison in body["text"] else self.server.answer
        if answer == 200:
            self.server.got.append({**body, "key": self.headers["Idempotency-Key"]})
        self.send_response(answer)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = Endpoint()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_what_waited_arrives_once_after_the_endpoint_is_back(
    ws: Workspace,  # noqa: F811
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = desk_of(ws, webhook_variable="FM_HOOK")
    monkeypatch.setenv("FM_HOOK", endpoint.address)
    desk.open([alert(), alert(name="nyt", severity="record")], 1)

    endpoint.answer = 500
    refused = deliver(desk)
    monkeypatch.setenv("FM_HOOK", "http://127.0.0.1:9/nobody")
    away = deliver(desk)
    monkeypatch.setenv("FM_HOOK", endpoint.address)
    endpoint.answer = 200
    sent, again = deliver(desk), deliver(desk)

    assert (refused.sent, refused.waiting, away.sent) == (0, 1, 0)
    assert "500" in refused.problems[0]
    assert (sent.sent, again.sent, again.waiting) == (1, 0, 0)
    (message,) = endpoint.got
    assert "amazon came" in message["text"]


def test_a_slow_endpoint_costs_its_timeout_and_stops_the_channel(
    ws: Workspace,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = desk_of(ws, webhook_variable="FM_HOOK")
    monkeypatch.setenv("FM_HOOK", "http://127.0.0.1:9/")
    desk.open([alert(), alert(name="nyt")], 1)
    tried: list[str] = []

    def slow(address: str, notice: Notice) -> None:
        tried.append(notice.key)
        raise TimeoutError("timed out")

    monkeypatch.setattr(notices, "post", slow)

    assert deliver(desk).waiting == 2
    assert len(tried) == 1


def test_a_notice_that_is_refused_for_what_it_holds_does_not_stop_the_others(
    ws: Workspace,  # noqa: F811
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = desk_of(ws, webhook_variable="FM_HOOK")
    monkeypatch.setenv("FM_HOOK", endpoint.address)
    desk.open([alert(), alert(name="nyt")], 1)
    endpoint.poison = "amazon"

    done = deliver(desk)

    assert (done.sent, done.waiting) == (1, 1)
    assert "400" in done.problems[0]
    assert "nyt came" in endpoint.got[0]["text"]


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (None, "FM_HOOK is not set"),
        ("  ", "FM_HOOK is not set"),
        ("file:///etc/secret", "http or https address"),
        ("http://127.0.0.1:1/a secret", "http or https address"),
        ("http://127.0.0.1:secret/", "http or https address"),
        ("http://[secret/", "http or https address"),
    ],
)
def test_a_wrong_address_is_told_without_it_and_other_channels_work(
    ws: Workspace,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    address: str | None,
    why: str,
) -> None:
    mail = {"host": "mail.test", "sender": "fm@shop.test", "to": ["a@b.c"]}
    desk = desk_of(ws, webhook_variable="FM_HOOK", mail=mail)
    monkeypatch.setattr(notices, "send_mail", lambda mail, notice: None)
    monkeypatch.delenv("FM_HOOK", raising=False)
    if address is not None:
        monkeypatch.setenv("FM_HOOK", address)
    desk.open([alert()], 1)

    done = deliver(desk)

    assert (done.sent, done.waiting) == (1, 1)
    assert why in done.problems[0]
    assert "secret" not in done.problems[0]


def test_a_channel_that_is_new_is_told_of_no_history(
    ws: Workspace,  # noqa: F811
    endpoint: Endpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FM_HOOK", endpoint.address)
    desk_of(ws).open([alert()], 1)
    later = now() + notices.HISTORY + timedelta(minutes=1)
    monkeypatch.setattr(notices, "now", lambda: later)

    assert deliver(desk_of(ws, webhook_variable="FM_HOOK")) == Delivery(0, 0, ())


def test_a_section_is_no_longer_than_slack_takes(endpoint: Endpoint) -> None:
    post(endpoint.address, Notice("k", "title", (*["&" * 400] * 20, "fm alerts show shop 1")))

    text = endpoint.got[0]["blocks"][0]["text"]["text"]  # type: ignore[index]
    assert 2_000 <= len(text) <= 3_000
    assert text.startswith("*title*")
    assert text.endswith("fm alerts show shop 1")


def test_slack_marks_in_a_text_are_text(endpoint: Endpoint) -> None:
    post(endpoint.address, Notice("k", "<!channel> & <https://evil|click>", ()))

    assert endpoint.got[0]["text"] == "*&lt;!channel&gt; &amp; &lt;https://evil|click&gt;*"


def test_mail(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    sent: list[object] = []

    class Server:
        def __init__(self, host: str, port: int, timeout: float) -> None:
            assert (host, port) == ("mail.test", 25)

        def __enter__(self) -> Server:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def send_message(self, message: object) -> None:
            sent.append(message)

    monkeypatch.setattr(notices.smtplib, "SMTP", Server)
    desk = desk_of(ws, mail={"host": "mail.test", "sender": "fm@shop.test", "to": ["a@b.c"]})
    desk.open([alert()], 1)

    assert deliver(desk).sent == 1
    assert deliver(desk).sent == 0
    assert "amazon came" in sent[0]["Subject"]  # type: ignore[index]
    assert sent[0]["Date"]  # type: ignore[index]

"""The request matrix of a hostile web page: nothing of it passes; the UI's own requests do."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from fm_platform.web.guard import MAX_BODY_BYTES, Guard, loopback_hosts

TOKEN = "right-token"
OWN = "http://127.0.0.1:3000"
EVIL = "http://evil.example"


async def answer(request: Request) -> PlainTextResponse:
    await request.body()
    return PlainTextResponse("reached")


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("reached")
    await socket.close()


@pytest.fixture
def client() -> TestClient:
    methods = ["GET", "POST", "PUT", "DELETE"]
    app = Starlette(
        routes=[
            WebSocketRoute("/graphql", echo),
            Route("/{path:path}", answer, methods=methods),
        ]
    )
    return TestClient(Guard(app, loopback_hosts(3000), TOKEN), base_url=OWN)


ATTACKS: dict[str, dict[str, Any]] = {
    "get mutation": {"method": "GET", "url": "/graphql?query=mutation{launchRun}"},
    "get mutation as image": {
        "method": "GET",
        "url": "/graphql?query=mutation{launchRun}",
        "headers": {"accept": "image/*", "referer": EVIL, "sec-fetch-site": "cross-site"},
    },
    "post text": {
        "method": "POST", "url": "/graphql", "content": '{"query":"x"}',
        "headers": {"content-type": "text/plain"},
    },
    "post text with query string": {
        "method": "POST", "url": "/graphql?query=mutation{x}",
        "headers": {"content-type": "text/plain"},
    },
    "post form": {"method": "POST", "url": "/graphql", "data": {"query": "mutation{x}"}},
    "post without type": {"method": "POST", "url": "/graphql", "content": b"{}"},
    "json of a foreign origin": {
        "method": "POST", "url": "/graphql", "json": {"query": "x"}, "headers": {"origin": EVIL},
    },
    "json of a null origin": {
        "method": "POST", "url": "/graphql", "json": {"query": "x"}, "headers": {"origin": "null"},
    },
    "json of a foreign referer": {
        "method": "POST", "url": "/graphql", "json": {"query": "x"},
        "headers": {"referer": EVIL + "/page"},
    },
    "json of another port": {
        "method": "POST", "url": "/graphql", "json": {"query": "x"},
        "headers": {"origin": "http://127.0.0.1:9999"},
    },
    "foreign host": {"method": "GET", "url": "/", "headers": {"host": "evil.example"}},
    "rebound host and json": {
        "method": "POST", "url": "/graphql", "json": {"query": "x"},
        "headers": {"host": "evil.example:3000", "origin": "http://evil.example:3000"},
    },
    "host with a trick": {"method": "GET", "url": "/", "headers": {"host": "127.0.0.1:3000@evil"}},
    "put": {
        "method": "PUT", "url": "/graphql", "json": {"query": "x"}, "headers": {"origin": EVIL},
    },
    "forged materialization": {"method": "POST", "url": "/report_asset_materialization/raw"},
    "forged check": {"method": "POST", "url": "/report_asset_check/raw", "json": {}},
    "forged observation": {"method": "POST", "url": "/report_asset_observation/raw"},
    "forged materialization of a foreign origin": {
        "method": "POST", "url": "/report_asset_materialization/raw", "headers": {"origin": EVIL},
    },
    "embedded page": {
        "method": "GET", "url": "/runs",
        "headers": {"sec-fetch-site": "cross-site", "sec-fetch-dest": "iframe"},
    },
    "huge body": {
        "method": "POST", "url": "/graphql", "content": b"0" * (MAX_BODY_BYTES + 1),
        "headers": {"content-type": "application/json"},
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("attack", "token"),
    list(itertools.product(ATTACKS, [None, "bad-token"])),
    ids=lambda value: str(value).replace(" ", "_"),
)
def test_attack_is_refused(client: TestClient, attack: str, token: str | None) -> None:
    request = {**ATTACKS[attack], "headers": dict(ATTACKS[attack].get("headers", {}))}
    if token is not None:
        request["headers"]["x-fm-token"] = token

    response = client.request(**request)

    assert response.status_code in (401, 403, 405, 413, 415)
    assert "reached" not in response.text


@pytest.mark.parametrize("extra", [{"origin": EVIL}, {"origin": "null"}, {"host": "evil.example"}])
def test_foreign_websocket_is_refused(client: TestClient, extra: dict[str, str]) -> None:
    headers = {"host": "127.0.0.1:3000", **extra}
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/graphql", headers=headers):
        pass


def test_own_page_json_and_websocket_pass(client: TestClient) -> None:
    own = {"origin": OWN, "referer": OWN + "/runs", "sec-fetch-site": "same-origin"}

    assert client.get("/runs", headers={"sec-fetch-site": "none"}).text == "reached"
    assert client.post("/graphql", json={"query": "{version}"}, headers=own).text == "reached"
    with client.websocket_connect(
        "/graphql", headers={"host": "127.0.0.1:3000", "origin": OWN}
    ) as socket:
        assert socket.receive_text() == "reached"


def test_following_a_link_from_another_site_opens_the_page(client: TestClient) -> None:
    headers = {
        "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document",
    }  # fmt: skip

    assert client.get("/runs", headers=headers).text == "reached"


def test_report_with_the_token_passes(client: TestClient) -> None:
    response = client.post("/report_asset_materialization/raw", headers={"x-fm-token": TOKEN})

    assert response.text == "reached"


def test_pages_may_not_be_framed(client: TestClient) -> None:
    headers = client.get("/").headers

    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]

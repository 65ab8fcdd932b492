"""What the alerts page is told, and who may say something on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from fm_platform.stages.alerts import Desk
from fm_platform.web.alerts.app import make_app
from fm_platform.web.lineage.links import Links
from tests.web.alerts.worlds import HOSTILE, world

BASE = "http://127.0.0.1:3003"


@pytest.fixture
def made(tmp_path: Path) -> tuple[Desk, TestClient]:
    desk, root = world(tmp_path)
    links = Links("http://127.0.0.1:3000", lineage="http://127.0.0.1:3002")
    return desk, TestClient(make_app(desk.ws, links, 3003, root), base_url=BASE)


def listed(page: TestClient) -> list[dict[str, Any]]:
    return list(page.get("/api/list", params={"project": "shop"}).json()["alerts"])


def test_open_ones_come_first_and_recorded_ones_last(made: tuple[Desk, TestClient]) -> None:
    _, page = made

    assert [(one["state"], one["severity"]) for one in listed(page)] == [
        ("open", "medium"),
        ("open", "record"),
        ("repaired", "high"),
    ]


def test_an_alert_is_told_from_beginning_to_end(made: tuple[Desk, TestClient]) -> None:
    _, page = made
    (closed,) = [one for one in listed(page) if one["state"] == "repaired"]

    told = page.get("/api/alert", params={"project": "shop", "id": closed["id"]}).json()

    (action,) = told["story"]["actions"]
    assert action["link"] == "http://127.0.0.1:3000/runs/b/abcdefgh"
    assert action["outcome"]["score"]["after"]["value"] == 0.671
    (version,) = told["story"]["versions"]
    assert version["link"].startswith("http://127.0.0.1:3002/?project=shop&v=merged_model")
    assert told["findings"][0]["moves"][0] == {"value": "amazon", "before": 0.0, "after": 0.61}


def test_rows_are_few_and_personal_data_is_masked(made: tuple[Desk, TestClient]) -> None:
    _, page = made
    told = page.get("/api/alert", params={"project": "shop", "id": listed(page)[0]["id"]})

    assert [row["label"] for row in told.json()["rows"]["rows"]] == ["good", "good"]
    assert "ann@shop.example" not in told.text
    assert "[EMAIL]" in told.text


def test_what_a_person_says_is_recorded_with_name_and_reason(
    made: tuple[Desk, TestClient],
) -> None:
    desk, page = made
    (one,) = [a for a in listed(page) if a["open"] and a["severity"] == "medium"]
    token = page.get("/api/about").json()["token"]

    def say(what: str, **more: object) -> Any:
        body = {"project": "shop", "id": one["id"], "what": what, "reason": "we know", **more}
        return page.post("/api/act", json=body, headers={"x-fm-token": token})

    assert say("lower").json()["severity"] == "low"
    assert say("raise").json()["severity"] == "medium"
    assert say("approve", repair=1).json()["state"] == "approved"
    assert say("approve", repair=9).status_code == 409
    assert say("snooze", days=-1).status_code == 409
    assert say("accept").json()["state"] == "accepted"
    ruling = desk.rulings().accepted[desk.find(one["id"]).alert.cause.key]
    assert ruling.reason == "we know"
    assert say("delete").status_code == 409


@pytest.mark.parametrize("token", ["", "wrong"])
@pytest.mark.parametrize(
    ("headers", "content"),
    [
        ({}, "application/json"),
        ({}, "text/plain"),
        ({}, "application/x-www-form-urlencoded"),
        ({"origin": "http://evil.example"}, "application/json"),
        ({"host": "evil.example"}, "application/json"),
        ({"sec-fetch-site": "cross-site"}, "application/json"),
    ],
)
def test_nobody_else_can_say_anything(
    made: tuple[Desk, TestClient], headers: dict[str, str], content: str, token: str
) -> None:
    desk, page = made
    before = len(desk.ws.ledger.alert_events("shop"))
    body = f'{{"project":"shop","id":"{listed(page)[0]["id"]}","what":"accept","reason":"x"}}'
    sent = {**headers, "content-type": content, "x-fm-token": token}

    assert page.post("/api/act", content=body, headers=sent).status_code in (401, 403, 415)
    assert page.get("/api/act", params={"what": "accept"}).status_code == 405

    assert len(desk.ws.ledger.alert_events("shop")) == before


def test_even_with_the_token_other_sites_and_kinds_are_refused(
    made: tuple[Desk, TestClient],
) -> None:
    _, page = made
    token = page.get("/api/about").json()["token"]
    for headers in ({"origin": "http://evil.example"}, {"content-type": "text/plain"}):
        sent = {"content-type": "application/json", "x-fm-token": token, **headers}
        assert page.post("/api/act", content="{}", headers=sent).status_code in (403, 415)


def test_hostile_names_travel_inert(made: tuple[Desk, TestClient]) -> None:
    _, page = made

    assert "\u202e" not in page.get("/api/list", params={"project": "shop"}).text
    assert HOSTILE not in page.get("/", follow_redirects=False).text

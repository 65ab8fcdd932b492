from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import sqlalchemy as sa
from starlette.testclient import TestClient

from fm_platform.home import Home
from fm_platform.lineage import schema
from fm_platform.lineage.graph import graph_at
from fm_platform.web.lineage.app import STATIC, make_app
from fm_platform.web.lineage.links import Links
from fm_platform.web.lineage.payload import with_named
from fm_platform.workspace import Workspace
from tests.web.lineage.conftest import put


def states(told: dict) -> dict[str, str]:
    names = ("fresh", "stale", "unbuilt", "replaced")
    found = {}
    for n, kind in enumerate(told["kind"]):
        day = told["days"][told["day"][n]] if told["day"][n] >= 0 else ""
        label = f"{told['kinds'][kind]} {day} #{told['number'][n]}"
        found[label] = names[told["state"][n]]
    return found


def pairs(told: dict) -> set[tuple[int, int]]:
    """The kinds that edges lead from and to."""
    ends = [told["kind"][place] for place in told["edges"]]
    return set(zip(ends[::2], ends[1::2], strict=True))


def test_the_graph_of_now_and_of_a_moment(page: TestClient, ws: Workspace) -> None:
    second = ws.ledger.uses("shop", "raw", "raw", "2026-01-02")[0].since
    now = page.get("/api/graph", params={"project": "shop"}).json()
    then = page.get("/api/graph", params={"at": second.isoformat()}).json()

    raw, cleaned = (now["kinds"].index(kind) for kind in ("raw", "cleaned"))
    assert states(now) == {
        "raw 2026-01-01 #2": "fresh",
        "raw 2026-01-02 #1": "fresh",
        "cleaned 2026-01-01 #1": "stale",
        "cleaned 2026-01-02 #1": "fresh",
        "merged_model  #2": "stale",
        "merged_model  #1": "replaced",
    }
    assert now["aliases"] == {str(now["id"][now["state"].index(3)]): ["champion"]}
    assert (raw, cleaned) in pairs(now)
    assert states(then) == {"raw 2026-01-01 #1": "fresh", "raw 2026-01-02 #1": "fresh"}


def test_a_graph_is_asked_again_only_when_something_is_new(page: TestClient, ws: Workspace) -> None:
    first = page.get("/api/graph").json()
    stamp = page.get("/api/about").json()["stamp"]
    ws.ledger.set_alias("shop", "challenger", first["id"][0], expected=None, reason="", actor="me")

    assert page.get("/api/about").json()["stamp"] != stamp
    assert page.get("/api/graph").json()["aliases"][str(first["id"][0])] == ["challenger"]


def test_a_record_tells_its_path_of_causes_its_numbers_and_where_else_it_is_shown(
    page: TestClient,
) -> None:
    told = page.get("/api/record", params={"ref": "merged_model"}).json()

    assert told["reference"] == "merged_model#2"
    assert told["state"] == "stale"
    assert [step["reference"] for step in told["path"]] == ["cleaned/2026-01-01#1"]
    assert told["series"]["over"] == "versions"
    assert [point["values"]["f1"] for point in told["series"]["points"]] == [0.5, 0.75]
    assert told["links"][0] == {
        "title": "Dagster run",
        "address": "http://127.0.0.1:3000/runs/run-1",
    }


def test_numbers_of_a_daily_artifact_go_over_its_days(page: TestClient) -> None:
    told = page.get("/api/record", params={"ref": "raw/2026-01-02"}).json()

    assert told["series"]["over"] == "days"
    assert [point["label"] for point in told["series"]["points"]] == ["2026-01-01", "2026-01-02"]


def test_a_version_is_compared_with_the_one_before_it(page: TestClient) -> None:
    told = page.get("/api/diff", params={"b": "merged_model"}).json()
    turned = page.get("/api/diff", params={"a": "merged_model#2", "b": "merged_model#1"}).json()

    assert (told["before"]["number"], told["after"]["number"]) == (1, 2)
    assert turned["before"]["number"] == 1
    assert told["causes"]


def test_what_cannot_be_answered_is_said(page: TestClient) -> None:
    unknown = page.get("/api/record", params={"ref": "merged_modle"})
    first = page.get("/api/diff", params={"b": "cleaned/2026-01-02"})
    kinds = page.get("/api/diff", params={"a": "champion", "b": "raw/2026-01-02"})
    time = page.get("/api/graph", params={"at": "yesterday"})

    assert unknown.status_code == 404
    assert "merged_model" in unknown.json()["error"]["found"]
    assert "none before it" in first.json()["error"]["message"]
    assert kinds.status_code == 409
    assert time.status_code == 404


def test_a_version_that_was_made_later_says_so(page: TestClient, ws: Workspace) -> None:
    with ws.ledger.reading() as connection:
        made = [row[0] for row in connection.execute(sa.select(schema.versions.c.created_at))]
    before = (min(made) + timedelta(minutes=1)).isoformat()

    told = page.get("/api/record", params={"ref": "merged_model", "at": before}).json()

    assert (told["state"], told["why"]) == ("later", "it was not made yet at this moment")


def test_a_champion_that_is_not_in_use_is_seen_with_what_it_was_made_from(ws: Workspace) -> None:
    first = put(ws.ledger, 7, "adapter")
    second = put(ws.ledger, 8, "evaluation", first)
    ws.ledger.set_alias("shop", "pinned", second.id, expected=None, reason="", actor="me")
    put(ws.ledger, 9, "adapter")
    put(ws.ledger, 10, "evaluation")

    graph = with_named(ws.ledger, graph_at(ws.ledger, "shop"))

    assert graph.by_id[first.id].state == graph.by_id[second.id].state == "replaced"
    assert (first.id, second.id) in graph.edges


def test_decisions_and_moves_of_names_are_told(page: TestClient, ws: Workspace) -> None:
    second = ws.ledger.latest("shop", "merged_model", "merged_model")
    assert second is not None
    ws.ledger.record_decision("shop", "refusal", second.id, {}, "it is worse", "gate")

    told = page.get("/api/graph").json()
    refused = page.get("/api/record", params={"ref": "merged_model#2"}).json()
    named = page.get("/api/record", params={"ref": "merged_model#1"}).json()
    marks = [m for stop in page.get("/api/timeline").json()["moments"] for m in stop["marks"]]

    assert told["decided"] == {str(second.id): ["refusal", "it is worse"]}
    assert refused["decisions"][0]["reason"] == "it is worse"
    assert refused["moves"] == []
    assert [(move["alias"], move["here"]) for move in named["moves"]] == [("champion", True)]
    assert [mark["what"] for mark in marks] == ["alias champion", "refusal"]


def test_a_model_has_the_numbers_of_its_evaluation(page: TestClient, ws: Workspace) -> None:
    model = ws.ledger.latest("shop", "merged_model", "merged_model")
    assert model is not None
    put(ws.ledger, 8, "evaluation", model, numbers={"merged_all/f1_weighted": 0.8})

    told = page.get("/api/record", params={"ref": "merged_model"}).json()["series"]

    assert told["numbers"][0] == "merged_all/f1_weighted"
    assert "merged_all/f1_weighted" not in told["points"][0]["values"]
    assert told["points"][1]["values"]["merged_all/f1_weighted"] == 0.8


def test_a_branch_is_a_history_of_its_own_since_it_parted(page: TestClient, ws: Workspace) -> None:
    ws.ledger.create_branch("try", {"shop": None}, datetime.now(timezone.utc), "me")
    put(ws.ledger.on_branch("try"), 7, "raw", day="2026-01-02", content="rows of the branch")
    here, there = {}, {"branch": "try"}

    main, branch = (page.get("/api/graph", params=which).json() for which in (here, there))
    stops = {
        name: page.get("/api/timeline", params=which).json()["moments"]
        for name, which in (("main", here), ("branch", there))
    }

    assert [b["name"] for b in page.get("/api/about").json()["branches"]] == ["try"]
    assert states(main)["raw 2026-01-02 #1"] == "fresh"
    assert states(branch)["raw 2026-01-02 #2"] == "fresh"
    assert states(branch)["cleaned 2026-01-02 #1"] == "stale"
    built = {name: sum(sum(s["kinds"].values()) for s in told) for name, told in stops.items()}
    assert built == {"main": 7, "branch": 8}
    assert "branch try" in [mark["what"] for stop in stops["main"] for mark in stop["marks"]]

    ws.ledger.delete_branch(ws.ledger.branch_of("shop", "try"))
    gone = page.get("/api/graph", params=there)
    assert gone.status_code == 404
    assert "no branch 'try'" in gone.json()["error"]["message"]


def test_links_lead_to_the_run_and_the_asset(ws: Workspace) -> None:
    raw = ws.ledger.latest("shop", "raw", "raw", "2026-01-02")
    assert raw is not None
    version = replace(raw, mlflow_run_id="run-2")

    everything = Links("http://127.0.0.1:3000", "http://127.0.0.1:3001").of(version)

    assert [link["address"] for link in everything] == [
        "http://127.0.0.1:3000/runs/run-1",
        "http://127.0.0.1:3000/assets/shop/raw?partition=2026-01-02",
        "/go/mlflow/run-2",
    ]
    assert Links().of(version) == []
    assert len(Links("http://127.0.0.1:3000").of(replace(raw, dagster_run_id="../x"))) == 1


def test_a_history_without_a_declared_project_is_shown_with_a_note(page: TestClient) -> None:
    told = page.get("/api/world").json()

    assert told["graph"] is None
    assert "shop" in told["note"]


def test_an_empty_home_says_so(tmp_path: Path) -> None:
    ws = Workspace(Home(tmp_path / "empty").ensure())
    page = TestClient(make_app(ws, Links(), 3002), base_url="http://127.0.0.1:3002")

    assert page.get("/api/about").json()["projects"] == []
    assert page.get("/api/graph").json()["error"]["message"] == "nothing is built yet"


def test_nothing_of_another_site_and_no_inline_script(page: TestClient) -> None:
    answer = page.get("/")
    policy = answer.headers["content-security-policy"]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in answer.text
    assert page.get("/", headers={"host": "evil.example"}).status_code == 403
    foreign = {"origin": "http://evil.example"}
    assert page.get("/api/graph", headers=foreign).status_code == 403
    assert page.get("/static/../app.py").status_code == 404


def test_the_scripts_never_make_markup_of_a_text() -> None:
    for file in sorted(STATIC.glob("*.js")):
        text = file.read_text("utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in text, file.name
        assert len(text.splitlines()) <= 400, file.name

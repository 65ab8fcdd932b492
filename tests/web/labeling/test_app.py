"""The server of the labeling page: nobody twice, nothing lost, nothing forged."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from fm_platform.spec.load import load_spec
from fm_platform.stages.annotations import answers
from fm_platform.web.labeling.app import STATIC
from fm_platform.workspace import Workspace
from tests.web.labeling.conftest import ORIGIN, Page

Built = tuple[Workspace, Path]


def kept(built: Built, who: str) -> dict[str, str | None]:
    ws, root = built
    spec = load_spec(root / "assets" / "defs" / "small" / "defs.yaml").spec
    rows = answers(ws, spec).to_pylist()
    return {row["text_key"]: row["label"] for row in rows if row["annotator"] == who}


def test_an_answer_is_written_at_once_with_all_its_versions(
    client: TestClient, built: Built
) -> None:
    page = Page(client, "ann", "one")
    first = page.next()["question"]
    told = page.answer(first["text_key"], "negative", "neutral").json()

    ws, root = built
    spec = load_spec(root / "assets" / "defs" / "small" / "defs.yaml").spec
    (row,) = [r for r in answers(ws, spec).to_pylist() if r["annotator"] == "ann"]
    assert told["new"]
    assert told["question"]["text_key"] != first["text_key"]
    names = ("text_key", "label", "guideline_version", "interface_version", "taxonomy_version")
    assert [row[n] for n in names] == [first["text_key"], "negative|neutral", "2", "1", 1]
    assert row["row_id"]
    assert row["answered_at"]


def test_a_row_shows_why_it_was_chosen_and_votes_only_when_asked(client: TestClient) -> None:
    page = Page(client, "eve", "one")
    told = page.next()

    shown = str(told["question"])
    assert told["question"]["why"]
    assert not any(name in shown for name in ("guess", "negative", "good_words"))
    votes = client.get("/api/votes", params={**page.who, **told["question"]}).json()["votes"]
    assert [v["function"] for v in votes] == ["bad_words", "flat_words", "good_words"]


def test_two_tabs_and_two_people_never_answer_a_row_twice(client: TestClient, built: Built) -> None:
    tabs = [Page(client, "bob", "one"), Page(client, "bob", "two"), Page(client, "cat", "one")]
    asked: dict[str, list[str]] = {"one": [], "two": [], "cat": []}

    def label(page: Page, name: str) -> None:
        for _ in range(6):
            question = page.next()["question"]
            asked[name].append(question["text_key"])
            assert page.answer(question["text_key"], "positive").status_code == 200

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(label, tabs, asked))

    assert len(set(asked["one"] + asked["two"])) == 12
    assert set(kept(built, "bob")) == set(asked["one"] + asked["two"])
    assert set(kept(built, "cat")) == set(asked["cat"])
    again = tabs[0].answer(asked["two"][0], "negative")
    assert again.status_code == 409
    assert "answered this row before" in again.json()["error"]["message"]
    assert not tabs[0].answer(asked["two"][0], "positive").json()["new"]  # sent twice, kept once


def test_a_reload_resumes_a_skip_comes_last_and_undo_asks_again(
    client: TestClient, built: Built
) -> None:
    page = Page(client, "dan", "one")
    first = page.next()["question"]["text_key"]
    assert Page(client, "dan", "one").next()["question"]["text_key"] == first

    second = page.tell("skip", text_key=first).json()["question"]["text_key"]
    page.answer(second)
    assert kept(built, "dan") == {second: None}
    undone = page.tell("undo", text_key=second).json()
    assert undone["question"]["text_key"] == second
    assert undone["progress"]["skipped"] == 1
    assert kept(built, "dan") == {}
    assert page.tell("undo", text_key=second).status_code == 422


def test_writes_are_refused_without_token_origin_and_json(client: TestClient) -> None:
    page = Page(client, "fay", "one")
    body = {**page.who, "text_key": "x", "classes": ["positive"]}
    token = {"x-fm-token": page.session["token"]}
    own = {"origin": ORIGIN}

    for headers, kind in (
        (own, "application/json"), (token, "application/json"),
        ({**own, "x-fm-token": "guessed"}, "application/json"),
        ({"origin": "http://evil.example", **token}, "application/json"),
        ({**own, **token}, "text/plain"), ({**own, **token}, "application/x-www-form-urlencoded"),
        ({**own, **token, "host": "evil.example"}, "application/json"),
    ):  # fmt: skip
        for path in ("answer", "skip", "undo", "again"):
            told = client.post(
                f"/api/{path}", content=str(body), headers={**headers, "content-type": kind}
            )
            assert told.status_code in (401, 403, 415), (headers, kind, path)
    assert client.get("/api/answer", params=body).status_code == 405


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"text_key": "x", "classes": ["positive"]}, "was not asked here"),
        ({"classes": ["ugly"]}, "is no class"),
        ({"classes": []}, "a list of classes"),
        ({"classes": "positive"}, "a list of classes"),
        ({"annotator": "../up"}, "needs the name"),
        ({"project": "../../etc"}, "no project"),
    ],
)
def test_what_is_wrong_is_said(client: TestClient, given: dict[str, object], says: str) -> None:
    page = Page(client, "gil", "one")
    key = page.next()["question"]["text_key"]

    told = page.tell("answer", **{"text_key": key, **given})

    assert told.status_code == 422
    assert says in told.json()["error"]["message"]


def test_the_page_is_inert(client: TestClient) -> None:
    answer = client.get("/")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "<script>" not in answer.text
    for file in sorted(STATIC.glob("*.js")):
        script = file.read_text("utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
            assert word not in script, file.name

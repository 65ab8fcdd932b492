"""Test rows that were there to train on: counted, set aside with the reason, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fm_platform.errors import LeakError
from fm_platform.home import Home
from fm_platform.spec.evaluation import Leaks
from fm_platform.spec.load import LoadedProject, load_spec
from fm_platform.spec.models import ProjectSpec
from fm_platform.stages import tables
from fm_platform.stages.held_out import HeldOut, held_out
from fm_platform.stages.models import training_days
from fm_platform.workspace import Workspace
from tests.stages.small import DAYS, SPEC, build_days
from tests.support.tiny_model import WORDS

TEXT = "{1} was {0} and {1} we would {1} come {1} back {1}"


def with_leaks(loaded: LoadedProject, **declared: Any) -> LoadedProject:
    evaluation = loaded.spec.evaluation.model_copy(update={"leaks": Leaks(**declared)})
    return replace(loaded, spec=loaded.spec.model_copy(update={"evaluation": evaluation}))


def look(ws: Workspace, loaded: LoadedProject) -> HeldOut:
    spec = loaded.spec
    labels, raws = ([ws.ledger.latest("small", kind, kind, day) for day in DAYS]
                    for kind in ("weak_labels", "raw"))  # fmt: skip
    assert all(labels)
    assert all(raws)
    return held_out(ws, spec, labels, raws, training_days(ws, spec), "evaluation-x")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, LoadedProject]:
    """The second day repeats the first: half as it was, the others with a word more."""
    folder = tmp_path_factory.mktemp("repeated")
    for source in ("chat", "mail"):
        texts = [TEXT.format(WORDS["positive"][n % 5], f"{source}{n}") for n in range(40)]
        again = [f"{text} " if n < 20 else f"{text} then" for n, text in enumerate(texts)]
        for day, listed in zip(DAYS, (texts, again), strict=True):
            rows = [
                json.dumps({"text": text, "label": "positive", "region": ("north", "south")[n % 2]})
                for n, text in enumerate(listed)
            ]
            (folder / f"{source}-{day}.jsonl").write_text("\n".join(rows) + "\n")
    words = {label: ", ".join(listed) for label, listed in WORDS.items()}
    quick = (
        SPEC.replace(
            "  labeling:\n", "  labeling:\n    label_model: {{candidates: [majority_vote]}}\n"
        )
        .replace(
            "  sources:\n", "  contract: {{columns: {{text: {{}}, region: {{}}}}}}\n  sources:\n"
        )
        .replace("  base_model:", "  cleaning: [{{rule: length}}]\n  base_model:")
    )
    (folder / "base").mkdir()
    (folder / "defs.yaml").write_text(quick.format(**words))
    loaded = load_spec(folder / "defs.yaml")
    ws = Workspace.open(Home(tmp_path_factory.mktemp("home")))
    build_days(ws, loaded)
    return ws, loaded


def test_a_test_row_leaks_where_a_train_row_of_any_day_is_like_it(
    repeated: tuple[Workspace, LoadedProject],
) -> None:
    ws, _ = repeated
    raw = [row for day in DAYS for row in tables.read(
        ws, ws.ledger.latest("small", "raw", "raw", day), "raw").to_pylist()]  # type: ignore[arg-type]  # fmt: skip

    def root(row: dict[str, Any]) -> str:
        return str(row["text"]).removesuffix(" then").strip()

    trained = {(root(r), r["text"].strip()) for r in raw if r["split"] == "train"}
    test = [r for r in raw if r["split"] == "test"]
    leaked = [r for r in test if root(r) in {known for known, _ in trained}]
    exact = [r for r in leaked if (root(r), r["text"].strip()) in trained]

    found = look(*repeated)

    assert not found.fair
    assert found.numbers == {
        "leaked": len(leaked), "exact": len(exact), "test_rows": len(test), "set_aside": False,
    }  # fmt: skip
    assert 0 < len(exact) < len(leaked)
    assert sum(row["leaked"] for row in found.by_source) == len(leaked)
    assert found.rows.num_rows == len(test)
    assert found.aside.num_rows == 0


def test_rows_set_aside_are_in_quarantine_with_the_row_that_they_repeat(
    repeated: tuple[Workspace, LoadedProject],
) -> None:
    ws, loaded = repeated

    found = look(ws, with_leaks(loaded, action="set_aside"))

    assert found.fair
    kept, gone = found.rows["row_id"].to_pylist(), found.aside["row_id"].to_pylist()
    assert not set(kept) & set(gone)
    assert len(kept) + len(gone) == found.numbers["test_rows"]
    for row in found.aside.to_pylist():
        assert row["rule"] == "leak"
        assert "train row" in row["reason"]
        assert row["before"] not in row["reason"]


def test_above_the_allowed_share_nothing_is_evaluated(
    repeated: tuple[Workspace, LoadedProject],
) -> None:
    ws, loaded = repeated

    with pytest.raises(LeakError) as told:
        look(ws, with_leaks(loaded, max_share=0.01))

    assert "at most 1.0%" in str(told.value)
    assert "near_duplicates" in str(told.value)
    assert look(ws, with_leaks(loaded, max_share=1.0)).rows.num_rows


def test_columns_of_compared_slices_come_with_the_test_rows(
    repeated: tuple[Workspace, LoadedProject],
) -> None:
    ws, loaded = repeated
    slices = [
        {"name": "north", "column": "region", "operator": "==", "value": "north"},
        {"name": "south", "column": "region", "operator": "==", "value": "south"},
    ]
    gap = {"between": ["north", "south"], "at_most": 0.2}
    whole = loaded.spec.model_dump()
    whole |= {"slices": slices, "gate": {"constraints": {"largest_gap": [gap]}}}
    sliced = replace(loaded, spec=ProjectSpec.model_validate(whole))
    raw = [row for day in DAYS for row in tables.read(
        ws, ws.ledger.latest("small", "raw", "raw", day), "raw").to_pylist()]  # type: ignore[arg-type]  # fmt: skip
    regions = {row["row_id"]: row["region"] for row in raw}

    found = look(ws, sliced).rows

    assert "region" not in look(ws, loaded).rows.column_names
    assert found["region"].to_pylist() == [regions[i] for i in found["row_id"].to_pylist()]

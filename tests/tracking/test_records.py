"""Records survive the spool."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fm_platform.errors import TrackingError
from fm_platform.tracking.records import ChampionRecord, from_json, to_json
from fm_platform.tracking.spool import Spool
from tests.tracking.conftest import Records


def test_json_round_trip(records: Records) -> None:
    champion = ChampionRecord("p", "3" * 64, "why")
    for record in (records.model(), records.evaluation(), champion):
        assert from_json(json.loads(json.dumps(to_json(record)))) == record
    training = from_json(json.loads(json.dumps(to_json(records.training()))))
    assert training.history == records.training().history
    assert training.key == records.training().key


def test_key_depends_on_kind_project_and_recipe(records: Records) -> None:
    keys = {records.training().key, records.model().key, records.model("9").key}

    assert len(keys) == 3
    assert records.training(name="other").key in keys


@pytest.mark.parametrize("value", [{}, {"kind": "x"}, {"kind": "model", "nonsense": 1}])
def test_what_is_no_record_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(TrackingError, match="no record"):
        from_json(value)


def test_spool_keeps_order_and_each_record_once(tmp_path: Path, records: Records) -> None:
    spool = Spool(tmp_path / "s")
    assert spool.entries() == []
    for record in (records.training(), records.model(), records.training()):
        spool.add(record)

    entries = spool.entries()
    assert [spool.read(entry).kind for entry in entries] == ["training", "model"]
    spool.remove(entries[0])
    spool.add(records.evaluation())
    assert [spool.read(entry).kind for entry in spool.entries()] == ["model", "evaluation"]


def test_last_champion_decision_is_published_last(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s")
    for recipe in ("1", "2", "1"):
        spool.add(ChampionRecord("p", recipe * 64))

    found = [spool.read(entry).recipe_hash[0] for entry in spool.entries()]
    assert found == ["2", "1"]


def test_damaged_spool_file_is_set_aside_at_once(tmp_path: Path, records: Records) -> None:
    spool = Spool(tmp_path / "s")
    for damage in ("{", "[]", "{}"):
        entry = spool.add(records.training())
        entry.path.write_text(damage)

        with pytest.raises(TrackingError, match="damaged"):
            spool.read(entry)
        assert spool.refused(entry, "damaged")
        assert spool.entries() == []
    assert len(list((tmp_path / "s" / "refused").iterdir())) == 6


def test_third_refusal_sets_aside(tmp_path: Path, records: Records) -> None:
    spool = Spool(tmp_path / "s")
    entry = spool.add(records.training())

    assert [spool.refused(entry, "no") for _ in range(3)] == [False, False, True]
    assert spool.entries() == []

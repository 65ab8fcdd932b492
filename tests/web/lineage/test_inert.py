from __future__ import annotations

import json

from fm_platform.web.lineage.inert import TEXT_CHARS, inert


def test_source_keeps_its_shape_and_nothing_else_passes() -> None:
    assert inert("def f(x):\n    return x") == "def f(x):\n    return x"
    assert "\u202e" not in inert("a\u202eb\x1b[31m")
    assert "\x1b" not in inert("a\u202eb\x1b[31m")


def test_what_json_does_not_know_becomes_text() -> None:
    assert json.dumps(inert({"a": [float("nan"), 1, True, None]}), allow_nan=False)


def test_long_texts_are_cut() -> None:
    assert len(inert("x" * 10 * TEXT_CHARS)) == TEXT_CHARS + 1

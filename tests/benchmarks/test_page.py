from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.page import measure, text
from tests.support.browser import chromium

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_a_page_is_opened_and_moved(tmp_path: Path) -> None:
    with chromium(tmp_path / "profile") as browser:
        browser.resize(1440, 900)
        found = measure(9, tmp_path, browser)

    assert found.in_use > 9 * 25
    assert found.edges > found.in_use
    assert set(found.frames) == {"pointing", "zooming", "panning", "the slider dragged"}
    assert all(seen.median_ms > 1 for seen in found.frames.values())
    assert "9 days" in text([found])

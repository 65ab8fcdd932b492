"""Settings by which rows would come on other days, or columns get lost, are refused."""

from __future__ import annotations

import pytest

from fm_platform.errors import SpecError
from fm_platform.sources.mapping import mapping_problems, tells_the_day
from fm_platform.spec.load import parse_spec

SPEC = """\
type: assets.project.ContinuousTraining
attributes:
  name: small
  taxonomy: {{classes: [bad, good]}}
  calendar: {{start: 2026-01-01}}
  sources:
    - name: main
      connector: {connector}
      options: {{path: rows, date_column: at, {option}}}
"""


def mistakes(option: str, connector: str = "files") -> list[str]:
    text = SPEC.format(connector=connector, option=option)
    try:
        parse_spec(text, "defs.yaml", [mapping_problems])
    except SpecError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    "written",
    ["%d.%m.%Y", "%m/%d/%y", "%Y%m%d", "%d %b %Y", "%Y-%j", "%d.%m.%Y %H:%M", "%FT%T%z",
     "%Y-%m-%d %H:%M:%S%.f", "%a, %d %b %Y %I:%M %p"],
)  # fmt: skip
def test_a_day_can_be_written_in_many_ways(written: str) -> None:
    assert tells_the_day(written)
    assert mistakes(f"date_format: '{written}'") == []


@pytest.mark.parametrize(
    "written", ["%Y", "%Y-%m", "%d.%m.", "%H:%M", "dd.mm.yyyy", "", "%s", "%Q", "%Y-%m-%d %Hh"]
)
def test_a_date_format_that_tells_no_day_is_refused(written: str) -> None:
    assert mistakes(f"date_format: '{written}'") == [
        "defs.yaml:9: sources[0].options.date_format: day, month and year of a date cannot be read"
        f" from what is written so; e.g. %d.%m.%Y reads 31.01.2026 (found {written!r})"
    ]


@pytest.mark.parametrize("connector", ["files", "delta"])
@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("rename: {a: stars, b: stars, c: other}", "a and b cannot both become 'stars'"),
        ("rename: {body: text}", "the column of the text is named by `text_column: body`"),
    ],
)
def test_a_column_that_another_one_would_hide_is_refused(
    connector: str, option: str, told: str
) -> None:
    assert mistakes(option, connector) == [f"defs.yaml:9: sources[0].options.rename: {told}"]


def test_a_rename_that_says_it_twice_is_no_mistake() -> None:
    assert mistakes("rename: {body: text, b: stars}, text_column: body") == []


def test_a_boolean_is_no_version() -> None:
    (told,) = mistakes("version: yes", "delta")

    assert "sources[0].options.version: a number is expected" in told


def test_other_mistakes_are_left_to_others() -> None:
    assert mistakes("rename: 3") == []

"""The title of an alert and its first sentence speak of the same thing."""

from __future__ import annotations

from fm_platform.monitoring.cause import Group
from fm_platform.monitoring.records import Band, Cause, Finding, Move
from fm_platform.monitoring.words import evidence_words, title_of

DAY = "2026-01-15"


def finding(metric: str, distance: float, corrected: float, value: str = "conflicts") -> Finding:
    return Finding(
        metric, "mail", "shares", DAY, DAY, 0.0, distance, (Move(value, 0.0, distance),), 65,
        ("chi2", 40.0), distance, corrected, corrected, Band(0.0, 0.06),
    )  # fmt: skip


def test_the_finding_of_the_cause_comes_first_though_another_is_surer() -> None:
    group = Group(
        Cause("function", "vader", None, ("mail",)),
        (finding("conflict:stars", 0.3, 1e-12), finding("function:vader", 0.2, 1e-6, "abstains")),
    )

    title, first = title_of(group, 1.0, 100), evidence_words(group)[0]

    assert title.startswith("labeling function `vader`: coverage fell from 100 % to 80 %")
    assert first.startswith("labeling function `vader` in mail: coverage fell")


def test_a_function_that_only_others_speak_against_is_not_given_their_numbers() -> None:
    group = Group(
        Cause("function", "vader", None, ("mail",)), (finding("conflict:exemplars", 0.12, 1e-9),)
    )

    title, (first, second) = title_of(group, 1.0, 100), evidence_words(group)

    assert title == (
        f"labeling function `vader`: the live model believes fewer of its votes in mail since {DAY}"
    )
    assert first.startswith("labeling function `vader` in mail: the live model agrees with fewer")
    assert second.startswith(
        "labeling function `exemplars` in mail: contradicts the others on 12 %"
    )

"""Do people mean the same by a class? Krippendorff's alpha, and what they agree on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """How far people agree on the rows that two or more of them answered.

    Attributes:
        alpha: 1: always; 0: as by chance; below: less than that. None where nobody can tell:
            no row was answered twice, or all answers are of one class.
        rows: Rows with two or more answers.
        annotators: People who gave them.
        observed: Share of pairs of answers to one row that are equal.
    """

    alpha: float | None
    rows: int
    annotators: int
    observed: float | None


def krippendorff_alpha(units: Iterable[Sequence[str]]) -> float | None:
    """Return Krippendorff's alpha for nominal answers.

    Of a unit with m answers each pair counts 1 / (m - 1), so people may have answered different
    numbers of rows. alpha = 1 - D_o / D_e with the disagreement that is observed and the one
    expected by chance (Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", section C).

    Args:
        units: The answers to each row; rows with fewer than two say nothing.

    Returns:
        At most 1; None where no row has two answers, or all answers are the same.
    """
    values: Counter[str] = Counter()
    apart = 0.0
    for answers in units:
        if len(answers) < 2:
            continue
        counts = Counter(answers)
        values.update(counts)
        pairs = len(answers) ** 2 - sum(count**2 for count in counts.values())
        apart += pairs / (len(answers) - 1)
    n = sum(values.values())
    chance = n**2 - sum(count**2 for count in values.values())
    return None if chance == 0 else 1 - (n - 1) * apart / chance


def agreement(answers: Iterable[tuple[str, str, str]]) -> Agreement:
    """Return how far people agree.

    Args:
        answers: (row, person, class); one a person and row.
    """
    rows: dict[str, dict[str, str]] = {}
    for row, person, label in answers:
        rows.setdefault(row, {})[person] = label
    twice = {row: told for row, told in rows.items() if len(told) > 1}
    units = [list(told.values()) for _, told in sorted(twice.items())]
    pairs = sum(len(unit) * (len(unit) - 1) for unit in units)
    equal = sum(count * (count - 1) for unit in units for count in Counter(unit).values())
    people = {person for told in twice.values() for person in told}
    observed = equal / pairs if pairs else None
    return Agreement(krippendorff_alpha(units), len(units), len(people), observed)


def agreed(answers: Mapping[str, str], least: int) -> str | None:
    """Return the class that more than half of the people say, if at least `least` say it.

    Args:
        answers: Person -> class.
        least: How many must agree.

    Example:
        >>> agreed({"ann": "good", "bob": "good", "cat": "bad"}, 2)
        'good'
        >>> agreed({"ann": "good", "bob": "bad"}, 1) is None
        True
    """
    if not answers:
        return None
    label, count = Counter(answers.values()).most_common(1)[0]
    return label if count >= least and 2 * count > len(answers) else None

"""What a check says of one thing that a build needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fm_platform.errors import FMError

OK, NOTE, DIFFERS, MISSING, WRONG = "ok", "note", "differs", "missing", "wrong"
FAILING = (DIFFERS, MISSING, WRONG)


@dataclass(frozen=True)
class Finding:
    """One item that was looked at.

    Attributes:
        part: `project file`, `taxonomy`, `sources`, `labeling functions`, `base model`,
            `tokenizer`, `training`, `unit set`, `serving` or `packages`.
        state: `ok`; `note`: different on purpose or of no effect; `differs`: not as it was when
            the project was last built; `missing` or `wrong`: a build would fail.
        what: The item and what is the matter.
        next_step: What to do; empty where nothing is to be done.
    """

    part: str
    state: str
    what: str
    next_step: str = ""

    @property
    def failing(self) -> bool:
        """Whether somebody should act before a build."""
        return self.state in FAILING


def of_error(part: str, error: FMError) -> Finding:
    """Return an error of the platform as a finding."""
    words = [error.message]
    words += [f"{label} {value}" for label, value in (
        ("expected", error.expected), ("found", error.found), ("in", error.where),
    ) if value is not None]  # fmt: skip
    return Finding(part, WRONG, "; ".join(words), error.next_step or "")


def failing(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings on which somebody should act."""
    return [finding for finding in findings if finding.failing]

"""What differs between two versions, from the cause down.

`diff` compares two versions of one kind. Of the two histories it looks only at what differs:
versions with equal content are equal, whatever made them. So two models of which one labeling
function differs are compared in the columns of that function, the days below it, the tensors and
the answers, and in nothing else.
"""

from __future__ import annotations

from fm_platform.stages.diff.compare import COMPARABLE, Wanted, diff
from fm_platform.stages.diff.records import Diff

__all__ = ["COMPARABLE", "Diff", "Wanted", "diff"]

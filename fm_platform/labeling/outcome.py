"""What a labeling function may know besides the rows, and what it says of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fm_platform.labeling.partial import NO_SETS, ClassSets, Votes
from fm_platform.labeling.tokens import Tokens, tokens_of
from fm_platform.labeling.watch import Watch

if TYPE_CHECKING:
    import polars as pl


class Shared:
    """The words of the columns of one batch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[str, Tokens] = {}

    def tokens(self, texts: pl.Series) -> Tokens:
        """Return the words of a column, by its name."""
        with self._lock:
            if texts.name not in self._tokens:
                self._tokens[texts.name] = tokens_of(texts)
            return self._tokens[texts.name]


@dataclass(frozen=True)
class LabelingContext:
    """What a function may know besides the rows. Most functions need nothing of it.

    Attributes:
        row_embeddings: float32[n, d], frozen mean-pooled embeddings of the rows.
        row_votes: int8[n, m], votes of the plain functions.
        row_sources / row_ids: n names.
        exemplar_*: The same for the e exemplars, and `exemplar_labels` int64[e].
        watch: Interrupts calls of Python that take too long.
        shared: What several functions need of one batch, made once; None for a function alone.
    """

    row_embeddings: npt.NDArray[np.float32] | None = None
    row_votes: Votes | None = None
    row_sources: Sequence[str] = ()
    row_ids: Sequence[str] = ()
    exemplar_embeddings: npt.NDArray[np.float32] | None = None
    exemplar_votes: Votes | None = None
    exemplar_sources: Sequence[str] = ()
    exemplar_ids: Sequence[str] = ()
    exemplar_labels: npt.NDArray[np.int64] | None = None
    seed: int = 0
    watch: Watch = field(default_factory=Watch)
    shared: Shared | None = None

    def tokens(self, texts: pl.Series) -> Tokens:
        """Return the words of a column of the batch."""
        return tokens_of(texts) if self.shared is None else self.shared.tokens(texts)


@dataclass(frozen=True)
class Outcome:
    """Votes of one batch, and the rows on which the function failed (they abstain).

    `sets` tells which classes the votes below -1 leave open.
    """

    votes: Votes
    failures: Mapping[int, str] = field(default_factory=dict)
    sets: ClassSets = NO_SETS

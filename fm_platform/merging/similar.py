"""Merge weights by how alike experts' texts are to the texts to be answered: no label is read.

AdapterSoup: Chronopoulou et al. 2023, arXiv 2302.07027, chooses adapters for texts of
a new domain by sentence embeddings, or by the cluster that they fall into. Here each text to be
answered asks its nearest neighbours among the experts' texts whose they are, which needs no scale:
in one embedding the cosines of all texts are near 1, in another near 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fm_platform.errors import MergeRefusedError
from fm_platform.merging.search import DevSample

Vectors = npt.NDArray[np.float32]
NEIGHBOURS = 5


def text_vectors(model: Any, sample: DevSample) -> Vectors:
    """Return the mean last hidden state of each row's text, float32[n, width].

    Args:
        model: The base with any head, in evaluation mode: it tells what texts are about, where
            experts tell their classes.
        sample: The rows.
    """
    import torch

    found = []
    with torch.inference_mode():
        for batch in sample.batches:
            states = model.base_model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"].unsqueeze(-1).float()
            found.append((states * mask).sum(dim=1) / mask.sum(dim=1))
        vectors: Vectors = torch.cat(found).numpy()
    return vectors


def similarities(
    vectors: Vectors,
    sources: Sequence[str],
    experts: Mapping[str, Sequence[str]],
    towards: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, float]:
    """Return expert -> the share of the nearest neighbours that are its texts; they sum to 1.

    Near is what has a large cosine, beyond what the experts' texts have in common. Every expert has
    as many texts among the neighbours as the one with the fewest. No text is its own neighbour.

    Args:
        vectors: Of the rows' texts, float32[n, width].
        sources: Source of each row.
        experts: Expert -> the sources it was trained on.
        towards: Sources whose texts are to be answered; none: those without an expert, or all
            where there are none.
        seed: Of the texts that are left out.

    Raises:
        MergeRefusedError: If an expert or the sources to be answered have no texts.
    """
    names = np.array(sources, dtype=object)
    owned = {source for own in experts.values() for source in own}
    wanted = list(towards) or sorted(set(names.tolist()) - owned) or sorted(owned)
    asked = np.flatnonzero(np.isin(names, wanted))
    texts = {e: np.flatnonzero(np.isin(names, list(own))) for e, own in sorted(experts.items())}
    without = [*(e for e, own in texts.items() if not len(own)), *([] if len(asked) else wanted)]
    if without:
        raise MergeRefusedError(
            "texts are compared with texts, and some have none among the dev rows",
            found=", ".join(without), next_step="give the project some more days",
        )  # fmt: skip
    fewest, generator = min(map(len, texts.values())), np.random.default_rng([seed, 8])
    kept = np.concatenate([generator.permutation(own)[:fewest] for own in texts.values()])
    owners = np.repeat(np.arange(len(texts)), fewest)
    beyond = vectors - vectors[kept].mean(axis=0)
    beyond /= np.linalg.norm(beyond, axis=1, keepdims=True).clip(min=1e-12)
    cosines = beyond[asked] @ beyond[kept].T
    cosines[asked[:, None] == kept[None, :]] = -np.inf
    nearest = np.argsort(-cosines, axis=1, kind="stable")[:, : min(NEIGHBOURS, len(kept) - 1)]
    counts = np.bincount(owners[nearest].reshape(-1), minlength=len(texts))
    return {e: float(count / max(counts.sum(), 1)) for e, count in zip(texts, counts, strict=True)}


def similar_weights(similarity: Mapping[str, float], least: float) -> dict[str, float]:
    """Return weights in proportion to the similarity; below `least` an expert has none.

    They sum to 1.

    Raises:
        MergeRefusedError: If no expert is as similar.
    """
    kept = {name: value for name, value in similarity.items() if value >= least}
    if not sum(kept.values()):
        raise MergeRefusedError(
            "no expert's texts are alike enough to those to be answered",
            expected=f"a similarity of at least {least:g}",
            found=", ".join(f"{name} {value:.2f}" for name, value in similarity.items()),
            next_step="lower merge.similarity, or train an expert on such texts",
        )
    return {name: round(kept.get(name, 0.0) / sum(kept.values()), 6) for name in similarity}

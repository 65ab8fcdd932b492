"""Places come back whatever the gaps, and take a byte each where they are near."""

from __future__ import annotations

import pytest
import torch

from fm_platform.merging.gaps import packed, unpacked


@pytest.mark.parametrize(
    "places", [[], [0], [126], [127], [0, 1, 2], [5, 132, 133, 20_000, 3_000_000, 2**34 - 2]]
)
def test_places_come_back(places: list[int]) -> None:
    told = torch.tensor(places, dtype=torch.int64)

    assert torch.equal(unpacked(packed(told)), told)


def test_every_hundredth_entry_costs_little_more_than_a_byte() -> None:
    generator = torch.Generator().manual_seed(0)
    places = torch.nonzero(torch.rand(1_000_000, generator=generator) < 0.01).reshape(-1)

    assert torch.equal(unpacked(packed(places)), places)
    assert len(packed(places)) < 1.35 * len(places)


@pytest.mark.parametrize("data", [[128], [5, 255], [128, 128, 128, 128, 128, 0]])
def test_bytes_that_are_no_places_are_refused(data: list[int]) -> None:
    with pytest.raises(ValueError, match="gap"):
        unpacked(torch.tensor(data, dtype=torch.uint8))

"""A fitted label model in the form that other units need: where EM begins on another day."""

from __future__ import annotations

import numpy as np

from fm_platform.labeling.parameters import LabelModel
from fm_platform.labeling.patterns import Floats
from fm_platform.labeling.units import Packed


def adapted(start: LabelModel, packed: Packed, silence: bool) -> LabelModel | None:
    """Return a model in the form that these units need, or None where it is of other functions.

    A function that was in a group and is alone now keeps what it says of each class; one that is
    in a new group starts from its own emissions, and the source as one that tells the class.
    """
    k, states = packed.n_classes, packed.n_classes + silence
    fits = len(start.emissions) == packed.n_functions and start.silence == silence
    if not fits or len(start.prior) != k:
        return None
    emissions, seen = list(start.emissions), list(start.seen)
    groups, links = [], []
    for unit in packed.units:
        if unit.joint and unit.members in start.groups:
            links.append(start.links[start.groups.index(unit.members)])
            groups.append(unit.members)
            continue
        for function in unit.members:
            emissions[function] = start.conditional(function)
            seen[function] = _seen_of_classes(start, function)
        if unit.joint:
            links.append(np.eye(k, states) * 0.9 + 0.1 / states)
            groups.append(unit.members)
            for function in unit.members:
                emissions[function] = _with_silent_state(emissions[function], states)
                seen[function] = np.zeros(states)  # other states: nothing to carry
    return LabelModel(
        start.method, start.prior, tuple(emissions), tuple(groups), tuple(links), silence, 1.0,
        start.rows, tuple(seen),
    )  # fmt: skip


def _seen_of_classes(model: LabelModel, function: int) -> Floats:
    for group, link in zip(model.groups, model.links, strict=True):
        if function in group:
            joint = model.prior[:, None] * link
            share = joint / np.maximum(joint.sum(axis=0), 1e-300)
            spread: Floats = share @ model.seen[function]
            return spread
    return model.seen[function]


def _with_silent_state(emission: Floats, states: int) -> Floats:
    if len(emission) == states:
        return emission
    quiet = np.full((1, emission.shape[1]), 0.1 / emission.shape[1])
    quiet[0, -1] += 0.9
    return np.concatenate([emission, quiet])

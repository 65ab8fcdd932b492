"""What trials may differ in beside method, rank, rate and frozen layers: how noise is met.

Losses, weights of rows, subsets. What has one value is no dimension of the search, so that a
search of a project that declares none is what it was; and what is not declared is not chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fm_platform.spec.training import Training


def _declared(config: Training) -> dict[str, tuple[Any, ...]]:
    auto = config.auto
    return {"loss": auto.losses, "weights": auto.weights, "subset": auto.subsets}


def open_of(config: Training) -> dict[str, tuple[Any, ...]]:
    """Return setting -> values, of those with more than one."""
    return {name: values for name, values in _declared(config).items() if len(values) > 1}


def usual_of(config: Training) -> dict[str, Any]:
    """Return the value of each open setting that is tried first: the project's, or the first."""
    return {
        name: getattr(config, name) if getattr(config, name) in values else values[0]
        for name, values in open_of(config).items()
    }


def one_by_one(config: Training) -> list[dict[str, Any]]:
    """Return the usual values with one changed, for each other value."""
    usual = usual_of(config)
    return [
        {**usual, name: value}
        for name, values in open_of(config).items()
        for value in values
        if value != usual[name]
    ]


def tried_of(config: Training, trial: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a trial of which `auto` declares values."""
    return {
        name: trial.get(name, values[0]) for name, values in _declared(config).items() if values
    }


def shown_of(config: Training, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return loss, weights and subset of a trial with these settings."""
    return {name: settings.get(name, getattr(config, name)) for name in _declared(config)}


def named_of(config: Training, row: Mapping[str, Any]) -> str:
    """Return in words what a trial took of the settings that are open; empty where none is."""
    told = {
        "loss": f"{row['loss']} loss",
        "weights": f"weights {row['weights']}",
        "subset": f"{100 * row['subset']:g} % of the rows",
    }
    return "".join(f", {told[name]}" for name in open_of(config))

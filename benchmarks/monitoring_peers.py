"""What others say of the same days: Evidently's preset, and a comparison in the manner of TFDV."""

from __future__ import annotations

from typing import Any

import numpy as np

TFDV_CATEGORIES, TFDV_NUMBERS, TFDV_MISSING = 0.1, 0.1, 0.05


def evidently(known: Any, now: Any) -> tuple[bool, bool, str]:
    """Return whether the data set drifted, whether any column did, and the column most so."""
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    numbers = [name for name in known if known[name].dtype.kind == "f"]
    definition = DataDefinition(
        numerical_columns=numbers, categorical_columns=[n for n in known if n not in numbers]
    )
    sides = [Dataset.from_pandas(side, data_definition=definition) for side in (now, known)]
    drifted: dict[str, float] = {}
    share = 0.0
    for metric in Report([DataDriftPreset()]).run(*sides).dict()["metrics"]:
        config, value = metric["config"], metric["value"]
        if "column" in config:
            by_p = "p_value" in str(config.get("method", ""))
            limit = float(config["threshold"])
            score = (limit - value) / limit if by_p else value / limit - 1
            if score > 0:
                drifted[config["column"]] = score
        elif isinstance(value, dict) and "share" in value:
            share = float(value["share"])
    top = max(sorted(drifted), key=lambda name: drifted[name], default="")
    return share >= 0.5, bool(drifted), top


def tfdv_like(known: Any, now: Any) -> tuple[bool, str]:
    """Return whether a threshold was passed, and by which column most."""
    from scipy.spatial.distance import jensenshannon

    passed: dict[str, float] = {}
    for name in known:
        before, after = known[name], now[name]
        missing = abs(after.isna().mean() - before.isna().mean()) / TFDV_MISSING
        if before.dtype.kind == "f":
            edges = np.histogram_bin_edges(np.concatenate([before.dropna(), after.dropna()]), 20)
            sides = [np.histogram(side.dropna(), edges)[0] + 1e-9 for side in (before, after)]
            score = float(jensenshannon(*sides)) ** 2 / TFDV_NUMBERS
        else:
            shares = [side.value_counts(normalize=True) for side in (before, after)]
            gap = shares[0].sub(shares[1], fill_value=0).abs()
            score = float(gap.max()) / TFDV_CATEGORIES if len(gap) else 0.0
        score = max(score, missing)
        if score > 1:
            passed[name] = score
    return bool(passed), max(sorted(passed), key=lambda name: passed[name], default="")

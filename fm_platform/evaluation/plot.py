"""Small pictures of an evaluation, readable on light and dark pages.

The background is transparent and every line of text is a grey that both white and black carry.
The colours are those of Okabe and Ito, told apart by people with any colour vision.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fm_platform.display import plain
from fm_platform.evaluation.metrics import ALL
from fm_platform.evaluation.table import CHAMPION, HUMAN, MERGED_MODEL, EvaluationTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_GREY = "#7f7f7f"
_FAINT = "#7f7f7f55"
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#a6761d")
_DPI = 120
_MAX_SOURCES = 8
_MAX_CURVES = 8


def source_bars_png(table: EvaluationTable, metric: str = "f1_weighted") -> bytes:
    """Return a PNG: per source one bar with its interval for every system."""
    sources = table.sources[: _MAX_SOURCES + 1]
    systems = table.systems
    figure = _figure(1.9 + 1.75 * len(sources), 0.7 + 0.3 * len(systems))
    axes = figure.subplots(1, len(sources), sharey=True, squeeze=False)[0]
    for axis, source in zip(axes, sources, strict=True):
        _bars(axis, table, source, systems, metric)
    axes[0].set_yticks(range(len(systems)), [plain(system, 24) for system in systems])
    axes[0].invert_yaxis()
    return _png(figure)


def loss_curves_png(curves: Mapping[str, Sequence[tuple[float, float]]]) -> bytes:
    """Return a PNG of curves: name -> (step, loss) pairs; names ending in `dev` are dashed."""
    figure = _figure(6.4, 3.2)
    axis = figure.subplots()
    for index, (name, points) in enumerate(list(curves.items())[:_MAX_CURVES]):
        steps, losses = zip(*points, strict=True) if points else ((), ())
        axis.plot(
            steps,
            losses,
            color=_COLOURS[index % len(_COLOURS)],
            linestyle="--" if name.endswith("dev") else "-",
            marker="o" if len(points) < 12 else None,
            markersize=3.5,
            linewidth=1.6,
            label=plain(name, 24),
        )
    axis.set_xlabel("step", color=_GREY)
    axis.set_ylabel("loss", color=_GREY)
    _style(axis)
    if curves:
        axis.legend(frameon=False, labelcolor=_GREY, fontsize=10)
    return _png(figure)


def reliability_png(curves: Mapping[str, Sequence[Mapping[str, float | int]]]) -> bytes:
    """Return a PNG: confidence against share correct, from `metrics.reliability`."""
    figure = _figure(4.2, 3.8)
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color=_FAINT, linewidth=1, linestyle=":")
    for index, (name, bins) in enumerate(list(curves.items())[:_MAX_CURVES]):
        axis.plot(
            [row["confidence"] for row in bins],
            [row["correct"] for row in bins],
            color=_COLOURS[index % len(_COLOURS)],
            marker="o",
            markersize=4,
            linewidth=1.6,
            label=plain(name, 24),
        )
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1)
    axis.set_xlabel("confidence", color=_GREY)
    axis.set_ylabel("share correct", color=_GREY)
    _style(axis)
    if curves:
        axis.legend(frameon=False, labelcolor=_GREY, fontsize=10, loc="upper left")
    return _png(figure)


def _bars(
    axis: Axes, table: EvaluationTable, source: str, systems: Sequence[str], metric: str
) -> None:
    for position, system in enumerate(systems):
        row = table.get(system, source)
        interval = row.metric(metric) if row else None
        if interval is None:
            continue
        axis.barh(
            position,
            interval.value,
            height=0.66,
            color=_bar_colour(system),
            xerr=[
                [max(interval.value - interval.low, 0.0)],
                [max(interval.high - interval.value, 0.0)],
            ],
            error_kw={"ecolor": _GREY, "elinewidth": 1.2, "capsize": 2},
        )
    axis.set_title("all sources" if source == ALL else plain(source, 18), color=_GREY, fontsize=11)
    axis.set_xlim(0, 1)
    axis.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    _style(axis)


def _bar_colour(system: str) -> str:
    fixed = {MERGED_MODEL: _COLOURS[0], CHAMPION: _COLOURS[2], HUMAN: _COLOURS[4]}
    return fixed.get(system, _COLOURS[5] + "aa")


def _figure(width: float, height: float) -> Figure:
    # Figures made without pyplot hold no global state and never open a window.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=_DPI, layout="constrained")


def _style(axis: Axes) -> None:
    axis.patch.set_alpha(0.0)
    axis.tick_params(colors=_GREY, labelsize=10, length=3)
    axis.grid(axis="both", color=_FAINT, linewidth=0.5)
    axis.set_axisbelow(True)
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_GREY)


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    # No creation date and no library version: the same numbers give the same bytes.
    figure.savefig(out, format="png", transparent=True, metadata={"Software": None})
    return out.getvalue()

"""What a model is worth: metrics with intervals, the gate, reports, on the same gold rows."""

from fm_platform.evaluation.gate import GateDecision, gate
from fm_platform.evaluation.metrics import Difference, Interval, SystemPredictions, differences
from fm_platform.evaluation.table import EvaluationRow, EvaluationTable, evaluate

__all__ = [
    "Difference",
    "EvaluationRow",
    "EvaluationTable",
    "GateDecision",
    "Interval",
    "SystemPredictions",
    "differences",
    "evaluate",
    "gate",
]

"""Metrics of overfitting: the gap between training and validation data, its slope and its onset."""

from lightning_dropout.metrics.curves import gap_slope, overfitting_onset
from lightning_dropout.metrics.fit_state import FitJudge, FitState
from lightning_dropout.metrics.gap import CalibrationGap, GeneralizationGap, generalization_gap
from lightning_dropout.metrics.noise import DropoutNoise

__all__ = [
    "CalibrationGap",
    "DropoutNoise",
    "FitJudge",
    "FitState",
    "GeneralizationGap",
    "gap_slope",
    "generalization_gap",
    "overfitting_onset",
]

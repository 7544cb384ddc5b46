"""Predictors: how many tokens an utterance has, and where."""

from voxkit.predictors.cif import CifConfig, CifOutput, CifPredictor, CifState

__all__ = ["CifConfig", "CifOutput", "CifPredictor", "CifState"]

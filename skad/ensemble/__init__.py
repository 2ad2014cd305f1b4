"""Detectors that combine many simple ones."""

from skad.ensemble._feature_bagging import FeatureBagging
from skad.ensemble._isolation_forest import IsolationForest

__all__ = ["FeatureBagging", "IsolationForest"]

"""Detectors that learn from a few known anomalies."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

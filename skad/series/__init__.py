"""Detectors on time series: one score per time step, a map over the channels."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

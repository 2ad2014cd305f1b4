"""Detectors that learn a task whose answers the rows themselves give."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

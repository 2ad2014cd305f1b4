"""Detectors that look at one feature at a time."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

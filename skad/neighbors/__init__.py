"""Detectors that compare a row with its nearest training rows."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

"""Detectors that draw a boundary around the normal rows."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

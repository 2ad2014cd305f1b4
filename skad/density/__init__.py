"""Detectors that estimate the density of normal rows."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

"""Detectors that measure what a low-dimensional subspace leaves out."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

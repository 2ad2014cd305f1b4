"""Detectors on pictures, and what brings pictures in."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

"""Detectors that rebuild a sample and look at what is lost."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

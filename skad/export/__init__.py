"""Detectors as files for other runtimes."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

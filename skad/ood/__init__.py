"""Out-of-distribution detectors around a classifier."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

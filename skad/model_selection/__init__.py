"""Splits and scorers that choose a detector's parameters, with labels or without."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

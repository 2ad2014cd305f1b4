"""Detectors of streams of rows: what is known is bounded, and may be forgotten."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

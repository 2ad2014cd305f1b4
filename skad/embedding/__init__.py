"""Transformers from pictures, windows or a classifier's input to plain features."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

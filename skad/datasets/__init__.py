"""Data to detect anomalies in: tables in files, and sets that scikit-learn ships."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(__name__)

"""Detectors that estimate the density of normal rows."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_dagmm": ["DAGMM"],
        "_gmm": ["GMM"],
        "_kde": ["KDE"],
        "_mahalanobis": ["Mahalanobis"],
    },
)

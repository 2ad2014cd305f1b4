"""Detectors that draw a boundary around the normal rows."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_deep_sad": ["DeepSAD"],
        "_deep_svdd": ["DeepSVDD"],
        "_svdd": ["SVDD"],
        "_svm": ["OneClassSVM"],
    },
)

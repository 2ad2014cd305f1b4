"""Out-of-distribution detectors around a classifier."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_energy": ["Energy"],
        "_entropy": ["Entropy"],
        "_gen": ["GEN"],
        "_kl_matching": ["KLMatching"],
        "_max_logit": ["MaxLogit"],
        "_max_softmax": ["MaxSoftmax"],
    },
)

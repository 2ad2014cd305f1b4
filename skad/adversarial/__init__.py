"""Detectors whose networks are trained against each other."""

from skad._lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "_aae": ["AAE"],
        "_adae": ["ADAE"],
        "_alad": ["ALAD"],
        "_alocc": ["ALOCC"],
        "_anogan": ["AnoGAN"],
        "_egbad": ["EGBAD"],
        "_fanogan": ["FAnoGAN"],
        "_ganomaly": ["GANomaly"],
        "_skip_ganomaly": ["SkipGANomaly"],
    },
)

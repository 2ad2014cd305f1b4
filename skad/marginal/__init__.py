"""Detectors that look at one feature at a time."""

from skad.marginal._copod import COPOD
from skad.marginal._ecod import ECOD
from skad.marginal._hbos import HBOS

__all__ = ["COPOD", "ECOD", "HBOS"]

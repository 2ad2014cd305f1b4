"""Detectors that compare a row with its nearest training rows."""

from skad.neighbors._knn import KNN
from skad.neighbors._lof import LOF

__all__ = ["KNN", "LOF"]

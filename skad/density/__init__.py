"""Detectors that estimate the density of normal rows."""

from skad.density._gmm import GMM
from skad.density._kde import KDE
from skad.density._mahalanobis import Mahalanobis

__all__ = ["GMM", "KDE", "Mahalanobis"]

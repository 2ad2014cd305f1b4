"""Detectors that estimate the density of normal rows."""

from skad.density._mahalanobis import Mahalanobis

__all__ = ["Mahalanobis"]

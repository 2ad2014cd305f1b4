"""Detectors that draw a boundary around the normal rows."""

from skad.one_class._svdd import SVDD
from skad.one_class._svm import OneClassSVM

__all__ = ["SVDD", "OneClassSVM"]

"""Detectors that draw a boundary around the normal rows."""

from skad.one_class._svm import OneClassSVM

__all__ = ["OneClassSVM"]

"""Detectors that measure what a low-dimensional subspace leaves out."""

from skad.subspace._pca import PCAReconstruction

__all__ = ["PCAReconstruction"]

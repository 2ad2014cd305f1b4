"""Detectors that measure what a low-dimensional subspace leaves out."""

from skad.subspace._kernel_pca import KernelPCAReconstruction
from skad.subspace._pca import PCAReconstruction

__all__ = ["KernelPCAReconstruction", "PCAReconstruction"]

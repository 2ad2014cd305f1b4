"""Detectors that measure what a low-dimensional subspace leaves out."""

from skad.subspace._kernel_pca import KernelPCAReconstruction
from skad.subspace._pca import PCAReconstruction
from skad.subspace._sketch import MatrixSketch

__all__ = ["KernelPCAReconstruction", "MatrixSketch", "PCAReconstruction"]

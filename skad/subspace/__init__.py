"""Detectors that measure what a low-dimensional subspace leaves out."""

__all__ = []

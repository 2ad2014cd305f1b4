"""Detectors that look at one feature at a time."""

__all__ = []

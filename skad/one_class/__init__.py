"""Detectors that draw a boundary around the normal rows."""

__all__ = []

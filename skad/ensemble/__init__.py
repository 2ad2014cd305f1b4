"""Detectors that average many weak views of the rows."""

__all__ = []

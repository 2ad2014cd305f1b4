"""Detectors that rebuild features or pictures, and compare."""

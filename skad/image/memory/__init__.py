"""Detectors that keep what normal pictures look like, and search in it."""

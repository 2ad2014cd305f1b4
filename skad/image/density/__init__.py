"""Detectors with a density of the features of normal pictures."""

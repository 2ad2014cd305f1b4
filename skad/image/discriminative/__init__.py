"""Detectors that tell normal features from made anomalies."""

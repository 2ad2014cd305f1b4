"""Detectors whose student network imitates a teacher on normal pictures only."""

"""Modules and losses; no scikit-learn in here."""

"""Splits and scorers that choose a detector's parameters, with labels or without."""

from skad.model_selection._curves import excess_mass_curve, mass_volume_curve
from skad.model_selection._label_free import (
    ExcessMass,
    MassVolume,
    excess_mass,
    mass_volume,
)
from skad.model_selection._novelty_fold import NoveltyKFold

__all__ = [
    "ExcessMass",
    "MassVolume",
    "NoveltyKFold",
    "excess_mass",
    "excess_mass_curve",
    "mass_volume",
    "mass_volume_curve",
]

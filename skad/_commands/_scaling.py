"""Features of other units: brought to one scale where a detector depends on it."""

from typing import NamedTuple

import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

SCALINGS = ("robust", "standard", "none")

# Robust scaling brings values farther from the median than so many deviations, of a
# Gaussian with the feature's quartiles, to that, and takes mean and deviation then:
# where no value strays it is standard scaling. tables_scaling.tsv of the benchmarks has
# the figures.
_STRAY = 10
_QUARTILES = 1.349  # between those of a standard Gaussian, its deviations

# Spreads that differ by more are named: without scaling the smaller is lost.
_DIFFERENT = 30


class Scaled(NamedTuple):
    """A detector with the scaling before it, and what is said of that."""

    model: object
    scaling: str  # one of SCALINGS
    words: str  # a line, or nothing


def with_scaling(model, X, scaling=None, *, image_shape=None):
    """Return a detector with the scaling that it needs before it.

    Parameters
    ----------
    model : BaseDetector
        Not fitted.
    X : ndarray of shape (n, d)
        The training rows, with NaN where values are missing.
    scaling : {"robust", "standard", "none"} or None, default=None
        None is "robust" where the detector depends on the units of features, and "none"
        otherwise, and where rows are pictures.
    image_shape : tuple of int or None, default=None
        Where rows are pictures.

    Returns
    -------
    scaled : Scaled
    """
    name = type(model).__name__
    if scaling is None:
        free = model._ignores_units or model._data == "edges"
        scaling = "none" if free or image_shape is not None else "robust"
        chosen = True
    else:
        chosen = False
    if scaling == "none":
        ratio = _ratio_of_spreads(X)
        if chosen or model._ignores_units or ratio <= _DIFFERENT:
            return Scaled(model, scaling, "")
        words = f"scaling: none, though the spreads of the features differ {ratio:,.0f}"
        return Scaled(model, scaling, f"{words} times and {name} depends on them")
    if scaling == "standard":
        scaler = StandardScaler()
        words = "scaling: every feature to mean 0 and variance 1 over the training rows"
        return Scaled(make_pipeline(scaler, model), scaling, words)
    words = "scaling: every feature to mean 0 and variance 1, stray values set aside"
    if chosen:
        words += f", since {name} depends on units (--scaling none leaves them)"
    scaler = FrozenEstimator(_robust_scaler(X))
    return Scaled(make_pipeline(scaler, model), scaling, words)


def _robust_scaler(X):
    """Return a fitted scaler that no few stray values have a say in."""
    low, middle, high = np.nanquantile(X, [0.25, 0.5, 0.75], axis=0).astype(X.dtype)
    far = _STRAY * (high - low) / np.asarray(_QUARTILES, dtype=X.dtype)
    far[far == 0] = np.inf  # most values are one, and all others would be stray
    return StandardScaler().fit(np.clip(X, middle - far, middle + far))


def _ratio_of_spreads(X):
    """Return how many times the largest spread of a feature is the smallest."""
    spread = np.nanstd(X.astype(np.float64), axis=0)
    spread = spread[spread > 0]
    return float(spread.max() / spread.min()) if len(spread) else 1.0

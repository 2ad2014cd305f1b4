"""A word about stray values, where a method cannot tell other rows apart behind one."""

import warnings

import numpy as np
from scipy.sparse import issparse

from skad._array import over_rows, to_numpy
from skad._dask import Blocks

# Rows, evenly spread, that show what a feature usually is.
_ROWS = 200


def strays(X):
    """Return how far the farthest value of each feature (d,) is out, and what it is.

    In distances between the quartiles, from the median; 0 where these are equal, as in
    features that are mostly one value.
    """
    few = to_numpy(X[:: max(1, X.shape[0] // _ROWS)]).astype(np.float64)
    few.sort(axis=0)  # missing values last
    known = np.count_nonzero(~np.isnan(few), axis=0) - 1
    places = (known * np.array([[0.25], [0.5], [0.75]])).round().astype(np.intp)
    low, middle, high = np.take_along_axis(few, np.maximum(places, 0), axis=0)
    ends = [to_numpy(end).astype(np.float64) for end in _ends(X)]
    upper = ends[1] - middle > middle - ends[0]
    far = np.where(upper, ends[1], ends[0])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        times = np.abs(far - middle) / (high - low)
    return np.where(high > low, times, 0.0), far


def _ends(X):
    """Return the least and the largest value of each feature, missing ones left out."""
    if not isinstance(X, np.ndarray):
        return X.amin(0), X.amax(0)
    return over_rows(np.fmin.reduce, X), over_rows(np.fmax.reduce, X)


def warn_of_strays(detector, X):
    """Warn of a value in rows (n, d) that is so far out that it hides the others.

    How far that is says the class; most methods let stray values be.
    """
    limit = detector._hiding_times
    if detector._is_copy or not np.isfinite(limit):
        return
    if issparse(X) or isinstance(X, Blocks) or X.shape[0] < 3:
        return
    times, far = strays(X)
    worst = int(times.argmax())
    if not times[worst] > limit:
        return
    name = type(detector).__name__
    feature = getattr(detector, "feature_names_in_", range(len(far)))[worst]
    warnings.warn(
        f"Feature {feature!r} has a training value of {far[worst]:.3g}, "
        f"{times[worst]:.1g} times as far from the median as the quartiles are apart: "
        f"behind such a value {name} may tell no other rows apart. Leave stray values "
        "out, clip them, or take a detector that lets them be, such as IsolationForest "
        "or KNN.",
        stacklevel=5,
    )

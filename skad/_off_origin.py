"""How far rows are from the origin, and a word where a method looks from there."""

import warnings

from scipy.sparse import issparse

from skad._array import namespace, to_double
from skad._dask import Blocks
from skad._moments import mean_row


def off_origin(X):
    """Return how far rows (n, d) are off the origin, the feature, and its mean.

    That is the largest mean of a feature in units of the root of the mean variance of
    all; 0 of rows that are all alike.
    """
    xp, mean = namespace(X), mean_row(X)
    variance = float(xp.mean((to_double(X) - mean) ** 2))
    feature = int(xp.argmax(xp.abs(mean)))
    mean = float(mean[feature])
    return (abs(mean) / variance**0.5 if variance > 0 else 0.0), feature, mean


def warn_of_origin(detector, X):
    """Warn of rows (n, d) so far off the origin that they look alike from there.

    How far that is says the class; most methods look from the rows' own middle.
    """
    if detector._is_copy or not detector._origin_times < float("inf"):
        return
    if issparse(X) or isinstance(X, Blocks):
        return
    times, feature, mean = off_origin(X)
    if not times > detector._origin_times:
        return
    name = type(detector).__name__
    feature = getattr(detector, "feature_names_in_", range(X.shape[1]))[feature]
    warnings.warn(
        f"Feature {feature!r} is {mean:.3g} in the mean, {times:.1g} times what "
        f"features deviate from their means, and {name} looks from the origin, where "
        "such rows are alike: centre the features, make_pipeline(StandardScaler(), "
        f"{name}(...)).",
        stacklevel=5,
    )

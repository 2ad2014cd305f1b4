"""Scores of rows by copies of a detector that were fitted without them."""

import warnings

import numpy as np
from sklearn.base import clone

from skad._array import is_torch, like, namespace, to_numpy
from skad._pictures import PictureFiles
from skad._sklearn import _safe_indexing

# Up to this many rows five copies are fitted, each without a fifth of the rows; beyond
# it one such copy. The rows of five copies are few, so that `fit` at most doubles where
# it takes time, and a fifth of many is enough to set a threshold.
FIVE_FOLDS = 200


def folds(n):
    """Return the rows, a list of arrays, that copies are fitted without."""
    # in any order but that of the rows, which may be periodic
    rows = np.random.RandomState(0).permutation(n)
    if n > FIVE_FOLDS:
        return [rows[::5]]
    k = min(n, 5)
    return [rows[i::k] for i in range(k)]


def rows_of(X, rows):
    """Return some rows, in the library and on the device of `X`."""
    if is_torch(X):
        return X[like(rows, X, dtype="keep")]
    if isinstance(X, PictureFiles):
        return X.take(rows)
    if hasattr(X, "shape") and not hasattr(X, "columns"):
        return X[rows]
    return _safe_indexing(X, rows)  # lists and frames, which ensembles pass on


def cross_fitted(detector, X, y, params, anomaly=None):
    """Return the anomaly (m,) of normal training rows by copies fitted without them.

    Where that is all of them they are in their order.

    Parameters
    ----------
    detector : BaseDetector
        Fitted to `X`; its copies are fitted with its parameters.
    X : array, tensor or pictures of shape (n, ...)
        The training data, checked.
    y : array-like of shape (n,) or None
        Rows labelled -1 are not scored where the detector uses labels.
    params : dict
        What `fit` takes besides, one value a row. With a "sample_weight" the result is
        (n,), in the order of the rows that the weights are of, NaN where not scored.
    anomaly : array of shape (n,) or None
        The training anomaly, taken where too few rows are left to fit a copy.
    """
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    known = labelled_anomalies(detector, y, n)
    found, rows_found = [], []
    try:
        for held in folds(n):
            held = held[~known[held]]  # every copy learns from the known anomalies
            if not len(held):
                continue
            kept = np.setdiff1d(np.arange(n), held)
            own = {name: part_of(value, kept, n) for name, value in params.items()}
            member = unfitted(detector)
            member.fit(rows_of(X, kept), part_of(y, kept, n), **own)
            rows = member._validate(rows_of(X, held), reset=False)
            found.append(member._in_blocks(member._anomaly, rows))
            rows_found.append(held)
    except ValueError as error:
        return scored_as_seen(detector, X, n, anomaly, error)
    found, rows_found = namespace(found[0]).concat(found), np.concatenate(rows_found)
    if "sample_weight" in params:
        whole = np.full(n, np.nan)
        whole[rows_found] = to_numpy(found)
        return whole
    return rows_of(found, np.argsort(rows_found))


def labelled_anomalies(detector, y, n):
    """Return which of n rows a detector that uses labels knows as anomalies, (n,)."""
    if y is None or not getattr(detector, "_uses_labels", False):
        return np.zeros(n, dtype=bool)
    return np.asarray(y) == -1


def scored_as_seen(detector, X, n, anomaly, error):
    """Return the training anomaly (n,), with a warning that it is not honest."""
    warnings.warn(
        f"{type(detector).__name__} cannot be fitted without some of the {n} training "
        f"samples ({error}): its threshold comes from scores of samples that it has "
        "learned from, and more than false_alarm_rate="
        f"{detector.false_alarm_rate} of new normal samples will fall below it.",
        stacklevel=7,
    )
    return detector._seen_anomaly(X, anomaly)


def unfitted(detector, **parameters):
    """Return an unfitted copy that calls nobody back and sets no threshold.

    It knows the shape of the pictures that the detector was fitted to, and would take
    for rows of a table as they come from its checks.
    """
    shape = getattr(detector, "image_shape_", None)
    known = shape is not None and not getattr(detector, "_are_rows_", False)
    if known and "image_shape" in detector.get_params(deep=False):
        parameters["image_shape"] = tuple(shape)
    member = clone(detector).set_params(contamination=0.5, **parameters)
    vars(member).pop("_skl_callbacks", None)
    member._is_copy = member._only_scores = True
    return member


def part_of(value, rows, n):
    """Return some rows' values of what has one for each of n rows, all else as it is.

    What `fit` took without looking at it, such as labels of a method that uses none,
    may be anything.
    """
    try:
        values = to_numpy(value) if is_torch(value) else np.asarray(value)
    except ValueError:  # ragged
        return _safe_indexing(value, rows) if len(value) == n else value
    if values.ndim == 0 or len(values) != n:
        return value
    return value.iloc[rows] if hasattr(value, "iloc") else values[rows]

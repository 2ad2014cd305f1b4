"""Scores of rows by copies of a detector that were fitted without them."""

import warnings

import numpy as np
from sklearn.base import clone

from skad._array import like, namespace, to_numpy

# Up to this many rows five copies are fitted, up to the next two, each without its
# part of the rows; beyond it one copy, without a fifth of the rows. The rows of five
# copies are few, so that `fit` at most doubles where it takes time.
_FIVE_FOLDS = 200
_TWO_FOLDS = 1000


def folds(n):
    """Return the rows, a list of arrays, that copies are fitted without."""
    # in any order but that of the rows, which may be periodic
    rows = np.random.RandomState(0).permutation(n)
    if n > _TWO_FOLDS:
        return [rows[::5]]
    k = min(n, 5 if n <= _FIVE_FOLDS else 2)
    return [rows[i::k] for i in range(k)]


def rows_of(X, rows):
    """Return some rows, in the library and on the device of `X`."""
    return X[like(rows, X, dtype="keep")] if hasattr(X, "new_empty") else X[rows]


def cross_fitted(detector, X, y, params, anomaly=None):
    """Return the anomaly (m,) of normal training rows by copies fitted without them.

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
    n = X.shape[0]
    known = np.zeros(n, dtype=bool)
    if y is not None and getattr(detector, "_uses_labels", False):
        known = np.asarray(y) == -1
    found = []
    try:
        for held in folds(n):
            kept = np.setdiff1d(np.arange(n), held)
            own = {name: part_of(value, kept) for name, value in params.items()}
            member = _copy(detector)
            member.fit(rows_of(X, kept), part_of(y, kept), **own)
            held = held[~known[held]]
            if len(held):
                rows = member._validate(rows_of(X, held), reset=False)
                found.append((held, member._in_blocks(member._anomaly, rows)))
    except ValueError as error:
        warnings.warn(
            f"{type(detector).__name__} cannot be fitted without some of the {n} "
            f"training samples ({error}): its threshold comes from scores of samples "
            "that it has learned from, and more than false_alarm_rate="
            f"{detector.false_alarm_rate} of new normal samples will fall below it.",
            stacklevel=6,
        )
        return detector._seen_anomaly(X, anomaly)
    if "sample_weight" in params:
        whole = np.full(n, np.nan)
        for held, scored in found:
            whole[held] = to_numpy(scored)
        return whole
    parts = [scored for _, scored in found]
    return namespace(parts[0]).concat(parts)


def _copy(detector):
    """Return an unfitted copy that calls nobody back and needs no threshold."""
    member = clone(detector).set_params(contamination=0.5)
    vars(member).pop("_skl_callbacks", None)
    return member


def part_of(value, rows):
    """Return some rows of what `fit` takes besides `X`; what is no column stays."""
    if value is None:
        return None
    if hasattr(value, "iloc"):
        return value.iloc[rows]
    column = to_numpy(value)
    return column[rows] if column.ndim else value

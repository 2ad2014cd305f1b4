"""Samples of whatever detectors take: tables, frames, tensors, pictures, series."""

from collections.abc import Mapping, Set

import numpy as np
from scipy.sparse import issparse

from skad._array import is_torch, like
from skad._picture_input import Pictures
from skad._pictures import PictureFiles
from skad._sklearn import _safe_indexing
from skad._validation import refuse_unreadable


def n_rows(X):
    """Return the number of samples of whatever detectors take."""
    shape = getattr(X, "shape", None)
    if isinstance(shape, tuple) and shape:
        return int(shape[0])
    unordered = isinstance(X, str | bytes | Mapping | Set)
    if unordered or shape == () or not hasattr(type(X), "__len__"):
        raise TypeError(f"Expected a sequence of samples, got {type(X).__name__}.")
    return len(X)


def readable(X):
    """Return samples that have a length and can be asked for by index."""
    refuse_unreadable(X)
    if hasattr(X, "__array__") and not hasattr(X, "__getitem__"):
        X = np.asarray(X)
    n_rows(X)
    # other sequences may lack what is asked of lists, or lie about their length
    known = hasattr(X, "shape") or isinstance(X, list | tuple)
    return X if known else list(X)


def take_rows(X, rows):
    """Return the samples at indices `rows` of whatever detectors take."""
    if is_torch(X):
        return X[like(rows, X, dtype="keep")]
    if isinstance(X, PictureFiles):
        return X.take(rows)
    if isinstance(X, Pictures):
        return X[rows]
    return _safe_indexing(X.tocsr() if issparse(X) else X, rows)


def per_sample(value, n):
    """Tell whether a parameter of `fit` has a value for each of `n` samples."""
    sized = hasattr(value, "__len__") and not isinstance(value, str | dict)
    return sized and len(value) == n

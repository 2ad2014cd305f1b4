"""Sparse rows: kept where the method reads them, else dense, a block at a time."""

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config

_MEBIBYTE = 2**20


def check_dense_size(estimator, X, what):
    """Raise where sparse `X` as a dense array needs more than the working memory.

    That is scikit-learn's, which it bounds its own temporaries by; `what` says what
    the dense array is for.
    """
    size = X.shape[0] * X.shape[1] * np.dtype(X.dtype).itemsize / _MEBIBYTE
    allowed = get_config()["working_memory"]
    if size > allowed:
        raise ValueError(
            f"X is sparse, and {type(estimator).__name__} {what}: with shape "
            f"{tuple(X.shape)} {size:.0f} MiB, above scikit-learn's working_memory of "
            f"{allowed} MiB. Reduce the features before "
            "(TruncatedSVD, OneHotEncoder(max_categories=...)), pass fewer rows, or "
            f"allow it: sklearn.set_config(working_memory={int(size) + 1})."
        )


def rows_to_learn(estimator, X):
    """Return `X` as `_fit` takes it: sparse where the method reads that, else dense."""
    names = ("_reads_sparse", "_fits_sparse")
    reads = any(getattr(estimator, name, False) for name in names)
    return X if reads else dense_rows(estimator, X)


def dense_rows(estimator, X):
    """Return `X` as it is, or as a dense array where it is sparse and small enough."""
    if not issparse(X):
        return X
    check_dense_size(estimator, X, "learns from dense rows")
    return X.toarray()

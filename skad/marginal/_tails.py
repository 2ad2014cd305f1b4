"""The empirical tails of each feature, which ECOD and COPOD reduce to a score."""

import numpy as np

from skad._array import is_torch, like, namespace, to_double


def sorted_columns(X):
    """Return the columns of `X` (n, d), each sorted, as the rows of (d, n)."""
    if is_torch(X):
        return X.T.contiguous().sort(dim=1).values
    return np.sort(np.ascontiguousarray(X.T), axis=1)


def narrower(fitted, X):
    """Return a fitted array and `X` side by side, in the narrower of their dtypes.

    Rounding keeps the order, so that a value seen in one precision stays equal to
    itself when it comes back in the other.
    """
    if fitted.dtype.itemsize > X.dtype.itemsize:
        return like(fitted, X), X
    fitted = like(fitted, X, dtype="keep")
    with np.errstate(over="ignore"):  # beyond the narrower dtype is infinity
        return fitted, namespace(X).astype(X, fitted.dtype, copy=False)


def count_below(columns, X, *, inclusive):
    """Return how many values of each sorted column lie below each element of `X`.

    Parameters
    ----------
    columns : array or tensor of shape (d, m)
        Each row sorted.
    X : array or tensor of shape (b, d)
        The values to place.
    inclusive : bool
        Whether equal values count as below.

    Returns
    -------
    counts : array or tensor of shape (b, d), int64
        From 0 to m.
    """
    columns, X = narrower(columns, X)
    if is_torch(X):
        import torch

        columns, values = columns.contiguous(), X.T.contiguous()
        return torch.searchsorted(columns, values, right=inclusive).T
    counts = np.empty(X.shape, dtype=np.int64)
    side = "right" if inclusive else "left"
    for j, column in enumerate(columns):
        if X.shape[0] < 100:
            counts[:, j] = column.searchsorted(X[:, j], side)
        else:  # in order, so that the search stays near in memory
            order = X[:, j].argsort()
            counts[order, j] = column.searchsorted(X[order, j], side)
    return counts


def tail_probabilities(columns, X):
    r"""Return how much of the training data lies in the tails beyond each value.

    With the training column :math:`x_1, \dots, x_n`, the left tail of a value `z` is
    :math:`\max(\#\{x_i \le z\} / n, 1 / (n + 1))` and the right one the same with
    :math:`x_i \ge z`. The bound only acts on values beyond all training values, which
    are so less likely than any training value, yet not impossible.

    Parameters
    ----------
    columns : array or tensor of shape (d, n)
        The training columns, each sorted.
    X : array or tensor of shape (b, d)
        The rows to place.

    Returns
    -------
    left, right : arrays or tensors of shape (b, d)
        In the dtype of `X`.
    """
    xp = namespace(X)
    n_samples = columns.shape[1]
    below = count_below(columns, X, inclusive=True)
    above = n_samples - count_below(columns, X, inclusive=False)
    least = 1 / (n_samples + 1)
    left, right = (
        xp.clip(xp.astype(counts, X.dtype) / n_samples, least, None)
        for counts in (below, above)
    )
    return left, right


def skewness(columns):
    r"""Return the skewness of each sorted column, of shape (d,), in float64.

    The third central moment over the 3/2 power of the variance (with `n - 1` below),
    and 0 for a column that is constant or symmetric up to rounding.
    """
    xp = namespace(columns)
    columns = to_double(columns)
    n_samples = columns.shape[1]
    spread = columns[:, -1:] - columns[:, :1]  # (d, 1)
    constant = spread == 0
    standard = (columns - columns[:, :1]) / xp.where(constant, 1.0, spread)
    standard = standard - xp.mean(standard, axis=1, keepdims=True)
    variance = xp.sum(standard**2, axis=1) / (n_samples - 1)
    variance = xp.where(constant[:, 0], 1.0, variance)
    skew = xp.mean(standard**3, axis=1) / variance**1.5
    return xp.where(xp.abs(skew) < 1e-12, 0.0, skew)


def skewed_tail(left, right, skew):
    """Return the tail on the long side of each feature: left where `skew` < 0."""
    return namespace(left).where(like(skew, left) < 0, left, right)


def largest_sum(left, right, skewed):
    """Return, row by row, the one of three (b, d) maps with the largest sum."""
    xp = namespace(left)
    choices = xp.stack((left, right, skewed))  # (3, b, d)
    largest = xp.argmax(xp.sum(choices, axis=2), axis=0)  # (b,)
    return xp.take_along_axis(choices, largest[None, :, None], axis=0)[0]

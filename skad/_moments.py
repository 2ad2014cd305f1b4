"""Sums over rows in double precision, block by block, that add up over sets of rows."""

import numpy as np
from scipy.sparse import issparse

from skad._array import blocks, column_sums, like, namespace, to_double


def mean_row(X, weights=None):
    """Return the mean (d,) of `X`, in float64, of rows that count by `weights` (n,).

    The second pass takes back the rounding of the first, which grows with the number
    of rows and would turn a constant column into one with a tiny variance.
    """
    if issparse(X):
        weights = np.ones(X.shape[0]) if weights is None else weights
        return (weights @ to_double(X)) / weights.sum()
    mean, total = 0.0, X.shape[0] if weights is None else float(weights.sum())
    for _ in range(2):
        rest = sum(
            column_sums(times(to_double(X[rows]) - mean, weights, rows))
            for rows in blocks(*X.shape)
        )
        mean = mean + rest / total
    return mean


def times(rows, weights, part=slice(None)):
    """Return rows (b, d) times a part of the weights (n,); as they are without any."""
    return rows if weights is None else rows * like(weights[part], rows)[:, None]


def moments(X, weights=None):
    """Return the number of rows, mean (d,) and scatter (d, d) of `X`, in float64.

    Weighted, the number of rows is the sum of the weights.
    """
    mean = mean_row(X, weights)
    scatter = 0
    for rows in blocks(*X.shape):
        centred = to_double(X[rows]) - mean  # (b, d)
        scatter = scatter + times(centred, weights, rows).T @ centred
    total = X.shape[0] if weights is None else float(weights.sum())
    return total, mean, scatter


def merge_moments(first, second):
    """Return the moments of the union of two sets of rows (Chan et al. 1979)."""
    (n, mean, scatter), (m, other_mean, other_scatter) = first, second
    # what was learned from arrays may go on with tensors
    mean, scatter = like(mean, other_mean), like(scatter, other_scatter)
    shift = other_mean - mean
    outer = shift[:, None] * shift[None, :]
    return (
        n + m,
        mean + shift * (m / (n + m)),
        scatter + other_scatter + outer * (n * m / (n + m)),
    )


def deviations(variance, mean, roundings=1):
    """Return the standard deviations (d,); 0 where rounding alone makes them.

    A constant such as 0.1 differs from its own mean in the last digits, after as many
    `roundings` as went into the mean one after the other.
    """
    xp = namespace(variance)
    deviation = xp.sqrt(variance)
    unit = float(xp.finfo(variance.dtype).eps) * xp.abs(mean)
    return xp.where(deviation > max(16, roundings) * unit, deviation, 0.0)


def mean_and_deviation(values):
    """Return the mean and the standard deviation (m,) of columns; 1 for constants."""
    mean = values.mean(axis=0)
    centred = values - mean
    # relative to the largest, whose square may overflow
    unit = np.abs(centred).max(axis=0)
    unit = np.where(unit > 0, unit, 1.0)
    deviation = unit * np.sqrt(np.mean((centred / unit) ** 2, axis=0))
    rounding = max(16, len(values)) * np.finfo(values.dtype).eps * np.abs(mean)
    return mean, np.where(deviation > rounding, deviation, 1.0)

"""Sums over rows in double precision, block by block, that add up over sets of rows."""

from skad._array import blocks, namespace, to_double


def mean_row(X):
    """Return the mean (d,) of `X`, in float64."""
    xp = namespace(X)
    total = sum(xp.sum(to_double(X[rows]), axis=0) for rows in blocks(*X.shape))
    return total / X.shape[0]


def moments(X):
    """Return the number of rows, mean (d,) and scatter (d, d) of `X`, in float64."""
    mean = mean_row(X)
    scatter = 0
    for rows in blocks(*X.shape):
        centred = to_double(X[rows]) - mean  # (b, d)
        scatter = scatter + centred.T @ centred
    return X.shape[0], mean, scatter


def merge_moments(first, second):
    """Return the moments of the union of two sets of rows (Chan et al. 1979)."""
    (n, mean, scatter), (m, other_mean, other_scatter) = first, second
    shift = other_mean - mean
    outer = shift[:, None] * shift[None, :]
    return (
        n + m,
        mean + shift * (m / (n + m)),
        scatter + other_scatter + outer * (n * m / (n + m)),
    )

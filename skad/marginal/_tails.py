"""The empirical tails of each feature, which ECOD and COPOD reduce to a score."""

import numpy as np

from skad._array import (
    blocks,
    by_columns,
    device_of,
    is_torch,
    like,
    namespace,
    to_double,
)

# So few pairs of values are compared all at once.
_FEW_PAIRS = 15_000
# Columns of at most this many values are compared with value by value.
_FEW = 32
# A search among so many is not faster in order, which costs a sort.
_NEAR = 256


def sorted_columns(X):
    """Return the columns of `X` (n, d), each sorted, as the rows of (d, n).

    Missing values (NaN) are last, as infinity, which is above all values.
    """
    if is_torch(X):
        columns = by_columns(X).sort(dim=1).values
    else:
        columns = by_columns(X, copy=True)
        columns.sort(axis=1)
    missing = namespace(X).isnan(columns[:, -1])
    if missing.any():
        columns[namespace(X).isnan(columns)] = np.inf
    return columns


def counts_of_known(columns):
    """Return how many values of sorted columns (d, n) are known, (d,); None for all."""
    xp = namespace(columns)
    known = columns < np.inf
    return None if xp.all(known[:, -1]) else xp.sum(known, axis=1)


def known_values(X, known=None):
    """Return `X` (b, d) with zeros for what is unknown, and where that is, or None.

    Unknown are missing values, and all of a feature without any value in training,
    of which `known` (d,) tells, as `counts_of_known` does.
    """
    xp = namespace(X)
    # a sum needs no memory, and is NaN where a value is
    if known is None and not xp.isnan(xp.sum(X)):
        return X, None
    absent = xp.isnan(X)
    if known is not None:
        absent = absent | (like(known, X, dtype="keep") == 0)
    return xp.where(absent, 0.0, X), absent


def over_known(maps, absent):
    """Return maps (b, d), zero where `absent`, scaled as if all features were there.

    The sum is that of the features that are there, times the number of all over theirs.
    """
    if absent is None:
        return maps
    xp = namespace(maps)
    there = maps.shape[1] - xp.sum(xp.astype(absent, maps.dtype), axis=1)
    factor = maps.shape[1] / xp.where(there > 0, there, 1.0)
    return xp.where(absent, 0.0, maps) * factor[:, None]


def one_or_more(counts):
    """Return a count, or an array of them, where it is at least one, else one."""
    if isinstance(counts, int):
        return max(1, counts)
    return namespace(counts).clip(counts, 1, None)


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
    if few_pairs(X, columns):
        xp, values = namespace(X), X[:, :, None]
        return xp.sum(values >= columns if inclusive else values > columns, axis=2)
    if columns.shape[1] <= _FEW:
        return _count_few(columns, X, inclusive)
    if is_torch(X):
        import torch

        columns, values = columns.contiguous(), by_columns(X)
        return torch.searchsorted(columns, values, right=inclusive).T
    side = "right" if inclusive else "left"
    (counts,) = _searched(columns, X, [side])
    return counts


def counts_around(columns, X):
    """Return how many values of each sorted column are less, and at most, as `X`."""
    if is_torch(X) or columns.shape[1] <= _FEW:
        return [count_below(columns, X, inclusive=most) for most in (False, True)]
    return _searched(*narrower(columns, X), ["left", "right"])


def few_pairs(X, columns):
    """Tell whether to compare each of a few rows (b, d) with all of columns (d, m)."""
    return len(X) * columns.shape[0] * columns.shape[1] <= _FEW_PAIRS


def _count_few(columns, X, inclusive):
    """Return what `count_below` does, value by value of short columns."""
    xp = namespace(X)
    values = by_columns(X)
    counts = xp.zeros(values.shape, dtype=xp.uint8, device=X.device)
    for j in range(columns.shape[1]):
        bound = columns[:, j : j + 1]
        counts += values >= bound if inclusive else values > bound
    return xp.astype(counts.T, xp.int64)


def _searched(columns, X, sides):
    """Return for each side what `searchsorted` finds of `X` (b, d), of shape (b, d)."""
    found = [np.empty(X.shape[::-1], dtype=np.int64) for _ in sides]
    for j, column in enumerate(columns):
        values, order = X[:, j], slice(None)
        # in order, so that the search stays near in memory
        if len(values) >= 100 and len(column) > _NEAR:
            order = values.argsort()
            values = values[order]
        for counts, side in zip(found, sides, strict=True):
            counts[j, order] = column.searchsorted(values, side)
    return [np.ascontiguousarray(counts.T) for counts in found]


def tail_probabilities(columns, X, own=0, known=None):
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
    own : {0, 1}, default=0
        1 leaves each row, one of the training rows, out of the counts.
    known : array or tensor of shape (d,), default=None
        How many values of a column are known, where not all are.

    Returns
    -------
    left, right : arrays or tensors of shape (b, d)
        In the dtype of `X`.
    """
    xp = namespace(X)
    n_samples = columns.shape[1] if known is None else like(known, X, dtype="keep")
    less, below = counts_around(columns, X)
    below, above = below - own, n_samples - less - own
    n_samples = one_or_more(n_samples - own)
    least = 1 / (n_samples + 1)
    if known is not None:
        n_samples, least = like(n_samples, X), like(least, X)
    left, right = (
        xp.clip(xp.astype(counts, X.dtype) / n_samples, least, None)
        for counts in (below, above)
    )
    return left, right


def central_sums(columns, known=None):
    """Return what the skewness of sorted columns (d, n) comes from, (5, d), float64.

    The origin and the unit of standard values, their mean, and the sums of the squares
    and of the cubes of what is left. `known` is as of `tail_probabilities`.
    """
    parts = [
        _central_sums(columns[some], None if known is None else known[some])
        for some in blocks(*columns.shape, device_of(columns))
    ]
    return namespace(columns).concat(parts, axis=1)


def _central_sums(columns, known):
    xp = namespace(columns)
    columns = to_double(columns)
    if known is None:
        spread = columns[:, -1] - columns[:, 0]
    else:
        there = columns < np.inf
        columns = xp.where(there[:, :1], columns, 0.0)
        largest = xp.max(xp.where(there, columns, columns[:, :1]), axis=1)
        spread = largest - columns[:, 0]
        columns = xp.where(there, columns, columns[:, :1])
    unit = xp.where(spread == 0, 1.0, spread)
    standard = (columns - columns[:, :1]) / unit[:, None]
    if known is None:
        mean = xp.mean(standard, axis=1)
        standard = standard - mean[:, None]
    else:
        mean = xp.sum(standard, axis=1) / one_or_more(known)
        standard = xp.where(there, standard - mean[:, None], 0.0)
    squares = standard * standard  # a power of 3 takes ten times as long
    standard *= squares
    squares, cubes = xp.sum(squares, axis=1), xp.sum(standard, axis=1)
    return xp.stack((columns[:, 0], unit, mean, squares, cubes))


def skewness(squares, cubes, n_samples):
    """Return the skewness from `central_sums`, in their shape.

    The third central moment over the 3/2 power of the variance (with `n - 1` below),
    and 0 for a column that is constant or symmetric up to rounding.
    """
    xp = namespace(squares)
    # in units of the spread those of values that differ sum to at least 1/2
    variance = xp.where(squares > 1e-10, squares, 1.0) / one_or_more(n_samples - 1)
    skew = cubes / one_or_more(n_samples) / (variance * xp.sqrt(variance))
    return xp.where(xp.abs(skew) < 1e-12, 0.0, skew)


def skewness_without(sums, n_samples, X):
    """Return the columns' skewness (b, d) without each of the training rows `X`."""
    origin, unit, mean, squares, cubes = like(sums, to_double(X[:0]))
    rows = to_double(X) - origin
    rows /= unit
    rows -= mean
    shift = rows / one_or_more(n_samples - 1)  # back to the mean of the others
    own = rows * rows
    squares = squares - own
    own *= rows
    cubes = cubes - own
    # powers by products, which take a tenth of the time
    shifted = rows * shift
    cubes += shift * (3 * squares - 2 * shifted)
    squares -= shifted
    return skewness(squares, cubes, n_samples - 1)


def skewed_tail(left, right, skew):
    """Return the tail on the long side of each feature: left where `skew` < 0."""
    return namespace(left).where(like(skew, left) < 0, left, right)


def largest_sum(left, right, skewed):
    """Return, row by row, the one of three (b, d) maps with the largest sum."""
    xp = namespace(left)
    choices = xp.stack((left, right, skewed))  # (3, b, d)
    largest = xp.argmax(xp.sum(choices, axis=2), axis=0)  # (b,)
    return xp.take_along_axis(choices, largest[None, :, None], axis=0)[0]

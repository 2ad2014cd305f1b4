"""Bins of histograms of features: where they begin and end, and what they hold."""

import numpy as np

from skad._array import is_torch, like, namespace, places_of, to_double, to_numpy
from skad._limits import at_positions
from skad.marginal._tails import count_below, few_pairs, narrower

# Beyond this share of values near edges a search is as fast as a look at each, which
# so many take anyway.
_SHARE_IN_DOUBT = 0.05
_FEW_IN_DOUBT = 200


def equal_width_bins(columns, n_bins):
    """Return the edges (d, n_bins + 1) of equal bins over each sorted column.

    Also their number (d,): 1 for a constant column, whose edges are all the same.
    """
    xp = namespace(columns)
    low, high = to_double(columns[:, :1]), to_double(columns[:, -1:])
    steps = like(np.arange(n_bins + 1) / n_bins, low)
    edges = xp.minimum(low + (high - low) * steps, high)
    edges[:, -1:] = high
    return like(edges, columns), xp.where(low < high, n_bins, 1)[:, 0]


def equal_mass_bins(columns, n_bins, weights=None):
    """Return the edges (d, m + 1) of bins with about n / n_bins values each.

    Equal values share a bin, which may so hold more, and inner edges lie halfway
    between the values that they part. Also the number of bins (d,), at most `n_bins`;
    the edges beyond it repeat the largest value. `weights` (d, n) are how often each
    value counts.
    """
    xp = namespace(columns)
    n_samples = columns.shape[1]
    total = n_samples if weights is None else weights[0].sum()
    starts = np.arange(1, n_bins) * total // n_bins
    starts = np.unique(starts[starts > 0])
    shape = columns.shape[0], starts.shape[0] + 2
    edges = xp.zeros(shape, dtype=columns.dtype, device=columns.device)
    edges += columns[:, -1:]
    numbers = []
    for j, column in enumerate(columns):
        # the values that should end a bin
        if weights is None:
            last = column[like(starts - 1, columns, dtype="keep")]
        else:
            last = like(at_positions(to_numpy(column), weights[j], starts - 1), columns)
        ends = count_below(column[None], last[:, None], inclusive=True)[:, 0]
        ends = xp.sort(xp.unique_values(ends[ends < n_samples]))
        below, above = column[ends - 1], column[ends]
        middle = below / 2 + above / 2
        edges[j, 0] = column[0]
        # between neighbours in the dtype there is no middle
        edges[j, 1 : ends.shape[0] + 1] = xp.where(middle > below, middle, above)
        numbers.append(ends.shape[0] + 1)
    return edges, like(np.asarray(numbers), columns, dtype="keep")


def bin_counts(columns, edges, n_bins, weights=None):
    """Return how many values of each sorted column (d, n) each bin holds, (d, m).

    Bins hold their lower edge and not their upper one; a column's last bin holds both.
    A value counts as often as `weights` (d, n) say.
    """
    xp = namespace(columns)
    n_samples = columns.shape[1]
    below = count_below(columns, edges[:, 1:-1].T, inclusive=False).T  # (d, m - 1)
    inner = like(np.arange(below.shape[1]), columns, dtype="keep") < n_bins[:, None] - 1
    below = xp.where(inner, below, n_samples)
    none = xp.zeros_like(n_bins)[:, None]
    below = xp.concat((none, below, none + n_samples), axis=1)
    if weights is not None:
        sums = np.cumsum(np.pad(weights, ((0, 0), (1, 0))), axis=1)  # (d, n + 1)
        below = xp.take_along_axis(like(sums, columns, dtype="keep"), below, axis=1)
    return below[:, 1:] - below[:, :-1]


def bins_of(X, edges, n_bins, *, equal_width=False):
    """Return the bins (b, d) that hold values, or are nearest to them.

    `equal_width` says that a feature's bins have one width, so that most values need no
    search.
    """
    found = None
    if equal_width and not few_pairs(X, edges):
        found = _bins_by_width(X, edges, n_bins)
    if found is None:
        found = count_below(edges[:, 1:-1], X, inclusive=True)
    most = int(n_bins[0]) - 1
    if not (n_bins - 1 == most).all():
        most = like(n_bins - 1, X, dtype="keep")
    return namespace(X).clip(found, None, most, out=found)


def _bins_by_width(X, edges, n_bins):
    """Return how many inner edges are at most each value of `X` (b, d), by division.

    What rounding leaves in doubt, at the edges, is compared with them; None where that
    is much, as of whole numbers.
    """
    edges, X = narrower(edges, X.detach() if is_torch(X) else X)
    xp = namespace(X)
    low, high = edges[:, 0], edges[:, -1]
    n_bins, spread = like(n_bins, X), high - low
    constant = spread == 0
    with np.errstate(over="ignore", invalid="ignore"):  # of what is far outside
        scale = xp.where(constant, 0.0, n_bins / xp.where(constant, 1.0, spread))
        # a bound of the rounding of the edges and of what follows here, in bins
        reach = xp.maximum(xp.abs(low), xp.abs(high)) * scale
        error = 16 * float(xp.finfo(X.dtype).eps) * float(xp.max(n_bins + reach))
        if not error < _SHARE_IN_DOUBT:
            return None
        places = X * scale
        places += xp.where(constant, 0.5, error - low * scale)
    # numbers, since rows of few features would be slow to compare with rows
    places = xp.clip(places, 0, edges.shape[1] - 1, out=places)
    whole = xp.floor(places)
    places -= whole
    bins = xp.astype(whole, xp.int64)
    rows, features = places_of(places <= 2 * error)
    if len(rows) > max(_FEW_IN_DOUBT, _SHARE_IN_DOUBT * X.shape[0] * X.shape[1]):
        return None
    if len(rows):
        # rounding can only have moved values up
        some = xp.clip(bins[rows, features], 0, edges.shape[1] - 2)
        below = X[rows, features] < edges[features, some]
        bins[rows, features] = xp.clip(some - xp.astype(below, some.dtype), 0, None)
    return bins


def at_places(table, bins):
    """Return what a table (d, m) has of each feature in its bins (b, d)."""
    first = like(np.arange(table.shape[0]) * table.shape[1], bins)
    # a third of the time: one index an element instead of two
    flat, places = table.reshape(-1), bins + first
    return flat[places] if is_torch(table) else flat.take(places)


def without_ends(columns):
    """Return sorted columns (d, m) without the first, and without the last values."""
    return columns[:, 1:], columns[:, :-1]


def outermost(X):
    """Return the two smallest and the two largest values of columns, sorted, (4, d)."""
    X = np.sort(X, axis=0)
    return X if len(X) <= 4 else np.concatenate([X[:2], X[-2:]])


def widened(row, size):
    """Return rows (d, m) with their last values repeated up to (d, size)."""
    xp = namespace(row)
    more = xp.broadcast_to(row[:, -1:], (row.shape[0], size - row.shape[1]))
    return xp.concat([row, more], axis=1)


def bin_widths(edges):
    """Return the width of each bin over its feature's range, of shape (d, m)."""
    xp = namespace(edges)
    edges = to_double(edges)
    spread = edges[:, -1:] - edges[:, :1]
    widths = (edges[:, 1:] - edges[:, :-1]) / xp.where(spread > 0, spread, 1.0)
    return xp.clip(widths, 1e-300, None)  # a constant column has no width

"""How rows walk all trees of a forest together."""

import numpy as np

from skad._array import is_torch, like, namespace


def single(X):
    """Return `X` in float32, as trees compare; what is too large becomes infinite."""
    if is_torch(X):
        return X.float()
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(X, dtype=np.float32)


def typical(X):
    """Return a middle and a unit (d,) of each feature of `X` (n, d), in float64.

    The median, and the median distance from it of the rows that have one: values that
    repeat do not make it zero, and few far values do not make the others equal. Of
    many rows some are looked at, evenly spread.
    """
    few = X[:: max(1, len(X) // 10_000)].astype(np.float64, copy=False)
    middle = np.median(few, axis=0)
    unit = np.ones_like(middle)
    for j, column in enumerate(np.abs(few - middle).T):
        moving = column[column > 0]
        if not len(moving):
            moving = np.abs(X[:, j].astype(np.float64, copy=False) - middle[j])
            moving = moving[moving > 0]
        if len(moving):
            unit[j] = np.median(moving)
    return middle, unit


def walk(nodes, X):
    """Yield where the rows of `X` (b, d) are in all trees, (b, n_trees), at each depth.

    Arrays of `nodes` are in the library and on the device of `X`, which is float32.
    """
    xp = namespace(X)
    rows = like(np.arange(X.shape[0])[:, None], X, dtype="keep")
    here = xp.broadcast_to(nodes.roots, (X.shape[0], nodes.roots.shape[0]))
    yield here
    for _ in range(nodes.depth):
        right = X[rows, nodes.features[here]] > nodes.thresholds[here]
        here = nodes.children[2 * here + xp.astype(right, here.dtype)]
        yield here


def path_lengths(nodes, X):
    """Return the expected path lengths of `X` (b, d), summed over the trees, (b,)."""
    *_, here = walk(nodes, X)
    # added up in the trees' order, as tree by tree, so that no rounding differs
    return nodes.lengths[here].cumsum(1)[:, -1]


def path_gains(nodes, X):
    """Return what splits on each feature add to the path lengths of `X`, (b, d)."""
    xp = namespace(X)
    b, d = X.shape
    firsts = like(np.arange(b)[:, None] * d, X, dtype="keep")
    total = xp.zeros_like(nodes.lengths[:1])
    here = nodes.roots[None, :]
    for there in walk(nodes, X):
        gains = xp.where(there != here, nodes.gains[there], 0.0)
        total = total + sum_at(firsts + nodes.causes[there], gains, b * d)
        here = there
    return total.reshape(b, d)


def sum_at(index, values, size):
    """Return the sums of `values` with equal `index`, of shape (size,)."""
    if is_torch(values):
        index, values = index.reshape(-1), values.reshape(-1)
        return values.new_zeros(size).index_add_(0, index, values)
    return np.bincount(index.ravel(), values.ravel(), minlength=size)

"""How rows walk all trees of a forest together."""

import hashlib

import numpy as np
from scipy.sparse import csr_array, issparse

from skad._array import blocks, is_torch, like, namespace, to_double

# Features in their units go this far in the trees, whose nodes take differences.
_LARGEST = 1e37


def single(X):
    """Return `X` in float32, as trees compare; what is too large becomes infinite."""
    if is_torch(X):
        return X.float()
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(X, dtype=np.float32)


def in_units(X, centre, scale):
    """Return ``(X - centre) / scale`` of rows (b, d), clipped, in float32.

    Sparse rows, whose centre is zero, stay sparse.
    """
    if issparse(X):
        rows = csr_array(X, dtype=np.float32)
        rows.data = single(np.clip(X.data / scale[X.indices], -_LARGEST, _LARGEST))
        rows.sort_indices()
        return rows
    if is_torch(X):
        X = to_double(X)
        X = (X - like(centre, X)) / like(scale, X)
        return single(X.clip(-_LARGEST, _LARGEST))
    rows = np.empty(X.shape, dtype=np.float32)
    # in pieces that stay in the cache, since each step passes over all of them
    for part in blocks(X.shape[0], 16 * X.shape[1]):
        piece = X[part] - centre
        piece /= scale
        rows[part] = np.clip(piece, -_LARGEST, _LARGEST, out=piece)
    return rows


def fingerprint(rows):
    """Return what tells rows (n, d) from others."""
    digest = hashlib.sha256(str(rows.shape).encode())  # which processors help with
    parts = [rows.data, rows.indices] if issparse(rows) else [rows]
    for part in parts:
        digest.update(np.ascontiguousarray(part))
    return digest.hexdigest()


def rows_of_features(rows, features):
    """Return some features of rows, as trees read them."""
    if np.array_equal(features, np.arange(rows.shape[1])):
        return rows
    rows = rows[:, features]
    return rows if issparse(rows) else np.ascontiguousarray(rows)


def typical(X):
    """Return a middle and a unit (d,) of each feature of `X` (n, d), in float64.

    The median, and the median distance from it of the rows that have one: values that
    repeat do not make it zero, and few far values do not make the others equal. Of
    many rows some are looked at, evenly spread. Missing values (NaN) do not count. The
    middle of sparse rows is zero, from which their stored values move.
    """
    some = X[:: max(1, X.shape[0] // 10_000)]
    if issparse(X):
        return np.zeros(X.shape[1]), _stored_units(some, X)
    few = some.astype(np.float64, copy=False)
    columns = np.ascontiguousarray(few.T)
    middle = np.array([median(column) for column in columns])
    for j in np.flatnonzero(np.isnan(middle)):
        known = columns[j][~np.isnan(columns[j])]
        if not len(known):
            known = X[~np.isnan(X[:, j]), j].astype(np.float64)
        middle[j] = np.median(known) if len(known) else 0.0
    unit = np.ones_like(middle)
    for j, column in enumerate(columns):
        moving = np.abs(column - middle[j])
        moving = moving[moving > 0]
        if not len(moving):
            moving = np.abs(X[:, j].astype(np.float64, copy=False) - middle[j])
            moving = moving[moving > 0]
        if len(moving):
            unit[j] = median(moving)
    return middle, unit


def median(values):
    """Return the median of values (n,), NaN where one is: a third of NumPy's time."""
    if np.isnan(values.sum()):
        return np.nan
    half = len(values) // 2
    values = np.partition(values, half)
    if len(values) % 2:
        return values[half]
    return (values[:half].max() + values[half]) / 2


def _stored_units(some, X):
    """Return the median size (d,) of what sparse rows store of each feature, or 1."""
    unit = np.zeros(X.shape[1])
    for rows in (some, X):
        columns = rows.tocsc()
        for j in np.flatnonzero(np.diff(columns.indptr) * (unit == 0)):
            sizes = np.abs(columns.data[columns.indptr[j] : columns.indptr[j + 1]])
            sizes = sizes[sizes > 0]
            unit[j] = np.median(sizes.astype(np.float64)) if len(sizes) else 0.0
        if rows.shape[0] == X.shape[0]:
            break
    return np.where(unit > 0, unit, 1.0)


def walk(nodes, X):
    """Yield where the rows of `X` (b, d) are in all trees, (b, n_trees), at each depth.

    Arrays of `nodes` are in the library and on the device of `X`, which is float32.
    """
    xp = namespace(X)
    missing = nodes.missing_left is not None and bool(xp.any(xp.isnan(X)))
    rows = like(np.arange(X.shape[0])[:, None], X, dtype="keep")
    here = xp.broadcast_to(nodes.roots, (X.shape[0], nodes.roots.shape[0]))
    yield here
    for _ in range(nodes.depth):
        values = X[rows, nodes.features[here]]
        right = values > nodes.thresholds[here]
        if missing:
            right = xp.where(xp.isnan(values), ~nodes.missing_left[here], right)
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

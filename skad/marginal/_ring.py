"""Means of products, over features, of how near values lie to each other on a ring."""

import numpy as np

from skad._array import row_sums, slices
from skad._compiled import Compiled

# The kernel of values half a ring of length 1 apart, and of those beside it.
OPPOSITE = 1.25
# Features whose product surely stays a number.
_TOGETHER = 1_600
# Rows that are next to each other feature by feature, and what stays in a cache.
_TILE, _PIECE = 1_024, 2**16


def tiles_of(rows):
    """Return rows (n, d) as tiles (t, d, w), the last one padded."""
    n, d = rows.shape
    width = min(n, _TILE)
    tiles = np.zeros((-(-n // width), width, d))
    tiles.reshape(-1, d)[:n] = rows
    return np.ascontiguousarray(tiles.transpose(0, 2, 1))


def values_of(tiles, n, feature):
    """Return the values (n,) of the rows in tiles in one feature."""
    return tiles[:, feature].ravel()[:n]


def log_means(rows, tiles, n, outside):
    """Return logarithms (b,) of the mean product of rows (b, d) with the n of tiles.

    `outside` (b, d) is true where a value lies beside the ring.
    """
    if rows.shape[1] <= _TOGETHER:
        sums = _sums(rows, tiles, n, outside, work=rows.size * n)
        beside = outside.sum(axis=1) * np.log(OPPOSITE)
        return np.log(row_sums(sums) / n) + beside
    parts = slices(len(rows), max(1, _PIECE // n))
    found = [weights(rows[part], tiles, n, outside[part])[1] for part in parts]
    return np.concatenate(found)


def weights(rows, tiles, n, outside):
    """Return the share (b, n) of products in their sums, and `log_means`."""
    b, d = rows.shape
    total, found = 0.0, None
    for features in slices(d, _TOGETHER):
        found = _products(rows[:, features], tiles[:, features], outside[:, features])
        if d > _TOGETHER:
            total = total + np.log(found)
    largest = 0.0
    if d > _TOGETHER:
        largest = total.reshape(b, -1)[:, :n].max(axis=1)
        found = np.exp(total - largest[:, None, None])
    sums = row_sums(_added(found, n))
    found = found.reshape(b, -1)[:, :n]
    beside = outside.sum(axis=1) * np.log(OPPOSITE)
    return found / sums[:, None], np.log(sums / n) + largest + beside


def _products(rows, tiles, outside):
    """Return products (b, t, w) over the features in which rows are on the ring."""
    product = np.ones((len(rows), len(tiles), tiles.shape[2]))
    kernel = np.empty_like(product)
    beside = outside.any(axis=0)
    for j in range(rows.shape[1]):
        np.subtract(rows[:, j, None, None], tiles[:, j], out=kernel)
        np.abs(kernel, out=kernel)
        kernel -= 0.5
        kernel *= kernel
        kernel += OPPOSITE
        if beside[j]:
            kernel[outside[:, j]] = 1.0
        product *= kernel
    return product


def _added(products, n):
    """Return products (b, t, w) added over the tiles (b, w), in their order."""
    products.reshape(len(products), -1)[:, n:] = 0.0
    return products.sum(axis=1)


def _sums_of_arrays(rows, tiles, n, outside):
    """Return the products with the rows of tiles, added over tiles (b, w)."""
    parts = slices(len(rows), max(1, _PIECE // n))
    found = [_added(_products(rows[s], tiles, outside[s]), n) for s in parts]
    return np.concatenate(found)


def _sums_of_elements(rows, tiles, n, outside):
    """Do the same one by one; two features at a time, since stores take the time."""
    n_tiles, _, width = tiles.shape
    sums = np.zeros((len(rows), width))
    product = np.empty(width)
    for t in range(n_tiles):
        size = min(width, n - t * width)
        for i in range(len(rows)):
            inside = np.flatnonzero(~outside[i])
            product[:] = 1.0
            if len(inside) % 2:
                own, other = rows[i, inside[0]], tiles[t, inside[0]]
                for k in range(size):
                    away = abs(own - other[k]) - 0.5
                    product[k] *= away * away + OPPOSITE
            for j in range(len(inside) % 2, len(inside), 2):
                own, other = rows[i, inside[j]], tiles[t, inside[j]]
                next_own, next_other = rows[i, inside[j + 1]], tiles[t, inside[j + 1]]
                for k in range(size):
                    away = abs(own - other[k]) - 0.5
                    next_away = abs(next_own - next_other[k]) - 0.5
                    product[k] *= away * away + OPPOSITE
                    product[k] *= next_away * next_away + OPPOSITE
            for k in range(size):
                sums[i, k] += product[k]
    return sums


_sums = Compiled(_sums_of_arrays, _sums_of_elements)

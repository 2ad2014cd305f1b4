"""Joins of z-normalised windows: which window of one series is nearest in another.

Tiles of similarities come one after the other, and of each query what is best so far is
kept, so that memory is linear in the windows. The distance to the window that was found
is computed again (`gaps`).
"""

import numpy as np

from skad._array import device_of, like, namespace
from skad.series._similarity import Correlations


def nearest(
    similarity, n_neighbors=1, *, exclusion=None, past=False, rows=None, progress=iter
):
    """Return the nearest references of every query, nearest first.

    Parameters
    ----------
    similarity : Correlations or MeanDistances
        What to maximise.
    n_neighbors : int
        Number of neighbours k.
    exclusion : int or None
        None joins two series. An int joins a series with itself: windows i and j with
        |i - j| at most `exclusion` are no neighbours.
    past : bool
        Of a series with itself, only earlier windows are neighbours.
    rows : array or tensor of shape (b,), default=None
        The queries, in ascending order; None is all of them.
    progress : callable
        Passes through the list of the blocks of queries.

    Returns
    -------
    index : array or tensor of shape (b, k), int64
        -1 where there are fewer neighbours.
    """
    n = similarity.shape[0] if rows is None else rows.shape[0]
    best = _Best(similarity, n, n_neighbors)
    _visit(similarity, rows, best.update, exclusion, past, progress)
    return best.index


def nearest_one(
    query, reference, *, exclusion=None, past=False, rows=None, progress=iter
):
    """Return the nearest reference of every query, as `nearest` does, in less time.

    Products in single precision, whose error is bounded, tell in which tile of
    references the nearest one is; double precision then finds it there. Where the best
    products of two tiles are nearer to each other than the error, double precision
    compares the query with all references.

    Parameters
    ----------
    query, reference : UnitWindows
        The two series.
    exclusion, past, rows, progress
        As for `nearest`.

    Returns
    -------
    index : array or tensor of shape (b,), int64
        -1 where there is no neighbour.
    """
    exact = Correlations(query, reference)
    if not _is_single_whole(query.mean):
        return nearest(
            exact, exclusion=exclusion, past=past, rows=rows, progress=progress
        )[:, 0]
    xp = namespace(query.mean)
    rough = Correlations(query, reference, single=True)
    n = query.n_windows if rows is None else rows.shape[0]
    winner = _Winner(rough, n)
    _visit(rough, rows, winner.update, exclusion, past, progress)
    if rows is None:
        rows = count_up(query.mean, 0, n)
    found = _Best(exact, n, 1)
    order = xp.argsort(winner.tile, stable=True)
    starts = like(np.arange(0, exact.shape[1] + rough.side, rough.side), order, "keep")
    bounds = xp.searchsorted(winner.tile[order], starts).tolist()
    for i, start in enumerate(range(0, exact.shape[1], rough.side)):
        columns = slice(start, min(start + rough.side, exact.shape[1]))
        for first in range(bounds[i], bounds[i + 1], rough.side):
            some = order[first : min(first + rough.side, bounds[i + 1])]
            tile = exact.tile(exact.rows(rows[some]), columns)
            _exclude(tile, rows[some], columns, exclusion, past)
            found.update(some, tile, start)
    rival = xp.astype(winner.rival, exact.like.dtype)
    (close,) = xp.nonzero(
        (rival > rough.lowest) & (rival + rough.error > found.value[:, 0])
    )
    if close.shape[0]:
        found.index[close] = nearest(
            exact, exclusion=exclusion, past=past, rows=rows[close]
        )
    return found.index[:, 0]


def _visit(similarity, rows, update, exclusion, past, progress):
    """Hand tiles of similarities to `update(positions in rows, tile, first column)`."""
    n_references, side = similarity.shape[1], similarity.side
    # a pair of a series with itself comes once and counts for both windows
    symmetric = rows is None and exclusion is not None and not past
    if rows is None:
        rows = count_up(similarity.like, 0, similarity.shape[0])
    for start in progress(range(0, rows.shape[0], side)):
        some = rows[start : start + side]
        left = similarity.rows(some)
        first = start if symmetric else 0
        last = int(some[-1]) if past else n_references
        for column in range(first, last, side):
            # whole tiles, so that they begin at multiples of the side
            columns = slice(column, min(column + side, n_references))
            tile = similarity.tile(left, columns)
            _exclude(tile, some, columns, exclusion, past)
            update(slice(start, start + some.shape[0]), tile, column)
            if symmetric and column > start:
                update(columns, tile.T, start)


def _exclude(tile, rows, columns, exclusion, past):
    """Put windows that are no neighbours of the queries `rows` out of reach."""
    if exclusion is None:
        return
    # rows ascend: only those near the columns are concerned, or also those before
    bounds = np.array([columns.start - exclusion, columns.stop + exclusion])
    first, last = namespace(rows).searchsorted(rows, like(bounds, rows)).tolist()
    first = 0 if past else first
    if first == last:
        return
    gap = rows[first:last, None] - count_up(rows, columns.start, columns.stop)[None, :]
    tile[first:last][(gap if past else abs(gap)) <= exclusion] = -np.inf


class _Best:
    """The k largest similarities of every query so far, largest first."""

    def __init__(self, similarity, n, k):
        xp, device = namespace(similarity.like), device_of(similarity.like)
        dtype = similarity.like.dtype
        self.value = xp.full((n, k), similarity.lowest, dtype=dtype, device=device)
        self.index = xp.full((n, k), -1, dtype=xp.int64, device=device)

    def update(self, rows, tile, offset):
        """Take in similarities (b, c) to the references from `offset` on."""
        xp = namespace(tile)
        k = self.value.shape[1]
        (better,) = xp.nonzero(xp.max(tile, axis=1) > self.value[rows][:, -1])
        if better.shape[0] == 0:
            return
        if isinstance(rows, slice):
            rows = count_up(self.index, rows.start, rows.stop)
        tile, rows = tile[better], rows[better]
        while True:
            column = xp.argmax(tile, axis=1)
            each = count_up(column, 0, column.shape[0])
            self._insert(xp, rows, tile[each, column], column + offset)
            if k == 1:
                return
            tile[each, column] = -np.inf
            (more,) = xp.nonzero(xp.max(tile, axis=1) > self.value[rows][:, -1])
            if more.shape[0] == 0:
                return
            tile, rows = tile[more], rows[more]

    def _insert(self, xp, rows, value, index):
        values = xp.concat([self.value[rows][:, :-1], value[:, None]], axis=1)
        indices = xp.concat([self.index[rows][:, :-1], index[:, None]], axis=1)
        order = xp.argsort(-values, axis=1, stable=True)
        self.value[rows] = xp.take_along_axis(values, order, axis=1)
        self.index[rows] = xp.take_along_axis(indices, order, axis=1)


class _Winner:
    """The tile with the largest similarity of every query, and the best of the rest."""

    def __init__(self, similarity, n):
        xp, device = namespace(similarity.like), device_of(similarity.like)
        self.value = xp.full(n, similarity.lowest, dtype=xp.float32, device=device)
        self.rival = xp.full(n, similarity.lowest, dtype=xp.float32, device=device)
        self.tile = xp.full(n, -1, dtype=xp.int64, device=device)

    def update(self, rows, tile, offset):
        """Take in similarities (b, c) to the tile of references from `offset` on."""
        xp = namespace(tile)
        top = xp.max(tile, axis=1)
        value, rival = self.value[rows], self.rival[rows]
        better = top > value
        self.rival[rows] = xp.where(better, value, xp.maximum(rival, top))
        self.tile[rows] = xp.where(better, offset, self.tile[rows])
        self.value[rows] = xp.where(better, top, value)


def count_up(array, start, stop):
    """Return the integers from `start` to `stop` in the library of `array`."""
    return namespace(array).arange(start, stop, device=device_of(array))


def _is_single_whole(array):
    """Tell whether products in single precision keep all of its 24 bits."""
    if str(device_of(array)) == "cpu":
        return True
    import torch

    return torch.get_float32_matmul_precision() == "highest"

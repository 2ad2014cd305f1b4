"""Count-min sketches of a stream of edges, and what detectors of bursts share.

A sketch counts keys in a table of `r` rows by `c` columns: each row has its own hash,
a key's count is the least of its cells. Edges are counted in blocks, with the counts
that each would have found had they come one by one.
"""

from abc import abstractmethod
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skad._array import is_torch, like, to_numpy
from skad._incremental import IncrementalMixin
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.base import BaseDetector

# What the key of an edge's destination is multiplied with before its source is added.
_PRIME = 104_729

# Of the fingerprints of streams: odd, so that no power loses bits.
_BASE = 6_364_136_223_846_793_005

# Edges that are counted together, and cells that hold counts for each of their ticks.
_BLOCK_EDGES, _BLOCK_CELLS = 2**16, 2**17


class EdgeCounts:
    """Sketches of the edges so far: those of the present tick, and all.

    Parameters
    ----------
    multiplier, shift : arrays of shape (s, r), int64
        Of the hashes of the rows of the sketches, below 2**31.
    n_columns : int
        Columns of the sketches.
    decay : float
        What the counts of the present tick are multiplied with when the next begins.
    """

    def __init__(self, multiplier, shift, n_columns, decay=0.0):
        self.multiplier, self.shift, self.decay = multiplier, shift, decay
        self.present = np.zeros((*multiplier.shape, n_columns))
        self.total = np.zeros((*multiplier.shape, n_columns))
        self.tick = 1.0

    def copy(self):
        """Return the same counts, to be changed on their own."""
        other = EdgeCounts(self.multiplier, self.shift, 0, self.decay)
        other.present, other.total = self.present.copy(), self.total.copy()
        other.tick = self.tick
        return other

    def blocks(self, ticks):
        """Return slices of the edges that can be counted together."""
        (new,) = np.nonzero(np.diff(ticks, prepend=self.tick))
        n_ticks = max(1, _BLOCK_CELLS // self.total.shape[-1])
        slices, start = [], 0
        while start < len(ticks):
            stop = start + _BLOCK_EDGES
            after = np.searchsorted(new, start) + n_ticks
            if after < len(new):
                stop = min(stop, int(new[after]))
            slices.append(slice(start, min(stop, len(ticks))))
            start = slices[-1].stop
        return slices

    def add(self, keys, ticks):
        """Count a block of edges.

        Parameters
        ----------
        keys : array of shape (s, b), int64
            The key of each edge in each sketch.
        ticks : array of shape (b,)
            The tick of each edge, never less than the one before.

        Returns
        -------
        present, total : arrays of shape (s, b)
            How often each key had been seen by then, itself included: in its tick, with
            the decayed counts of those before, and ever.
        """
        n_ticks = np.cumsum(np.diff(ticks, prepend=self.tick) > 0)  # new ones, (b,)
        present = np.full(keys.shape, np.inf)
        total = np.full(keys.shape, np.inf)
        for s, row in np.ndindex(self.multiplier.shape):
            product = keys[s] * self.multiplier[s, row] + self.shift[s, row]
            # the 32 bits of the authors' integers, with their sign
            cells = product.astype(np.int32) % self.total.shape[-1]
            now, ever = self._count(cells, n_ticks, s, row)
            np.minimum(present[s], now, out=present[s])
            np.minimum(total[s], ever, out=total[s])
        self.tick = ticks[-1]
        return present, total

    def _count(self, cells, n_ticks, s, row):
        """Return the counts (b,) of one row of a sketch, and change it."""
        n_columns, last = self.total.shape[-1], int(n_ticks[-1])
        # sorting 16 bits is done in linear time
        small = cells.astype(np.uint16) if n_columns <= 2**16 else cells
        order = np.argsort(small, kind="stable")
        ranked, ticks = cells[order], n_ticks[order]
        counts = np.bincount(cells, minlength=n_columns)
        at = np.arange(len(cells))
        ever, now = np.empty(len(cells)), np.empty(len(cells))
        before = self.total[s, row] - (np.cumsum(counts) - counts) + 1
        ever[order] = before[ranked] + at
        first = np.ones(len(cells), dtype=bool)  # of a key's edges in a tick
        first[1:] = (ranked[1:] != ranked[:-1]) | (ticks[1:] != ticks[:-1])
        since = np.maximum.accumulate(np.where(first, at, 0))
        carried = self._carry(cells, n_ticks, last, s, row)
        now[order] = at - since + 1 + carried[ticks, ranked]
        self.total[s, row] += counts
        return now, ever

    def _carry(self, cells, n_ticks, last, s, row):
        """Return the decayed counts (ticks, c) at the start of each tick of a block."""
        n_columns = self.total.shape[-1]
        carried = np.empty((last + 1, n_columns))
        counts = np.bincount(
            n_ticks * n_columns + cells, minlength=(last + 1) * n_columns
        ).reshape(last + 1, n_columns)
        state = self.present[s, row]
        for tick in range(last + 1):
            if tick:
                state *= self.decay
            carried[tick] = state
            state += counts[tick]
        return carried


def burst(present, total, ticks):
    """Return how much more often than before keys came in the present tick.

    Parameters
    ----------
    present, total : arrays of shape (s, b)
        Counts in the present tick `a` and ever `n`.
    ticks : array of shape (b,)
        The present tick `t`, the first is 1.

    Returns
    -------
    anomaly : array of shape (s, b)
        (a - n / t)^2 t^2 / (n (t - 1)), and 0 in the first tick.
    """
    spread = total * np.maximum(ticks - 1, 0)
    excess = (present * ticks - total) ** 2
    return np.divide(excess, spread, out=np.zeros_like(excess), where=spread > 0)


def whole(values):
    """Return numbers rounded to integers, their lowest 32 bits, as int64."""
    return np.remainder(np.rint(values), 2.0**32).astype(np.int64)


def edge_keys(nodes):
    """Return one key (b,) for the nodes (b, d) of each edge, int64."""
    keys = np.zeros(len(nodes), dtype=np.int64)
    for column in nodes.T[::-1]:
        keys = keys * _PRIME + column
    return keys


def fingerprint(rows, before=(0, 1)):
    """Return a number for rows (b, d) after those that gave `before`, and its power.

    In pieces or as a whole, equal streams have equal numbers.
    """
    number, power = np.array([before[0]]), np.array([before[1]])  # sums wrap around
    factors = 2 * np.random.default_rng(0).integers(2**62, size=rows.shape[1]) + 1
    for start in range(0, len(rows), _BLOCK_EDGES):
        bits = rows[start : start + _BLOCK_EDGES].astype(np.float64) + 0.0  # no -0
        prints = np.sum(bits.view(np.int64) * factors, axis=1)
        powers = np.cumprod(np.concatenate([power, np.full(len(bits), _BASE)]))
        number = number + np.sum(prints * powers[:-1])
        power = powers[-1:]
    return int(number[0]), int(power[0])


@with_parameters
class EdgeDetector(IncrementalMixin, BaseDetector):
    """Base of detectors of bursts of edges: one pass, sketches of constant size.

    A method writes `_keys(nodes)`: from the nodes (b, d - 1), int64, the list of the
    keys (b,) to count; and `_split(bursts)`: from their bursts (s, b), whose largest is
    the anomaly, the map (b, d).

    Parameters
    ----------
    n_rows : int, default=2
        Rows of a sketch: hashes whose smallest count is taken.
    n_columns : int, default=1024
        Columns of a sketch. Keys that share a cell in all rows count as one.
    tick : float, default=1.0
        Length of a tick in the units of the times. Ticks count from the first edge.
    random_state : int, RandomState instance or None, default=None
        Draws the hashes. Pass an int for reproducible results.
    """

    n_rows: int = 2
    n_columns: int = 1024
    tick: float = 1.0
    random_state: Seed = None

    _data = "edges"
    _honesty = "past alone"
    _looks_around = True  # at the edges before
    _parameter_constraints = {
        "n_rows": [Interval(Integral, 1, None, closed="left")],
        "n_columns": [Interval(Integral, 1, 2**31 - 1, closed="both")],
        "tick": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    # ------------------------------------------------------------- what a method writes

    @abstractmethod
    def _keys(self, nodes):
        """Return the keys to count: a list of arrays (b,)."""

    @abstractmethod
    def _split(self, bursts):
        """Return the map (b, d) of bursts (s, b)."""

    def _decay(self):
        """Return what remains of the present counts when a tick begins."""
        return 0.0

    # ----------------------------------------------------------------------- the stream

    def _fit(self, X, y):
        rows = to_numpy(X[:1])
        self.n_samples_seen_, self._print_ = 0, (0, 1)
        self._start_ = float(rows[0, -1])
        shape = len(self._keys(whole(rows[:, :-1]))), self.n_rows
        draw = generator(self.random_state).randint
        self._first_ = EdgeCounts(
            draw(1, 2**31, size=shape, dtype=np.int64),
            draw(0, 2**31, size=shape, dtype=np.int64),
            self.n_columns,
            self._decay(),
        )
        self._counts_ = self._first_
        return self._add(X, y)

    def _add(self, X, y):
        if not hasattr(self, "_counts_"):
            return self._fit(X, y)
        rows = to_numpy(X)
        counts = self._counts_.copy()  # a fit that fails keeps the old ones
        anomaly = np.empty(len(rows))
        for block, bursts in self._run(counts, rows, progress=self._steps):
            anomaly[block] = bursts.max(axis=0)
        self._counts_ = counts
        self._print_ = fingerprint(rows, self._print_)
        self.n_samples_seen_ += len(rows)
        return anomaly

    def _run(self, counts, rows, progress=lambda blocks, *_: blocks):
        """Count rows (n, d) and yield slices of them with their bursts (s, b)."""
        times = rows[:, -1].astype(np.float64)
        ticks = np.floor((times - self._start_) / self.tick) + 1
        # an edge that comes late counts in the present tick
        ticks = np.maximum.accumulate(np.maximum(ticks, counts.tick))
        blocks = counts.blocks(ticks)
        for block in progress(blocks, "edges", len(blocks)):
            keys = self._keys(whole(rows[block, :-1].astype(np.float64)))
            present, total = counts.add(np.stack(keys), ticks[block])
            yield block, burst(present, total, ticks[block])

    def _continued(self, X):
        """Yield what `_run` does after the training stream, or from its beginning."""
        rows, n = to_numpy(X), self.n_samples_seen_
        again = len(rows) >= n and fingerprint(rows[:n]) == self._print_
        return self._run((self._first_ if again else self._counts_).copy(), rows)

    def _anomaly(self, X):
        parts = [bursts.max(axis=0) for _, bursts in self._continued(X)]
        return like(np.concatenate(parts), X, dtype="keep")

    def _map(self, X):
        parts = [self._split(bursts) for _, bursts in self._continued(X)]
        return like(np.concatenate(parts), X, dtype="keep")

    def _block_rows(self, device):
        return 2**62  # rows are one stream, and `_run` has blocks of its own

    def score_stream(self, X) -> Any:
        """Return how normal the edges are that come next, and learn them.

        Parameters
        ----------
        X : array-like or tensor of shape (n_edges, n_features)
            The next edges, in order of time.

        Returns
        -------
        scores : ndarray or tensor of shape (n_edges,), float64
            Higher is more normal; below `offset_` is an anomaly. They are those of
            `score_samples`, which learns nothing.
        """
        check_is_fitted(self)
        scores = []

        def learn(X, y):
            scores.append(self._add(X, y))
            return scores[0]

        self._learn(X, None, learn, forget=False)
        return -like(scores[0], X, dtype="keep") if is_torch(X) else -scores[0]

    def _honest_anomaly(self, X, y, anomaly, **params):
        # of every edge when it came, but those of a stream that had just begun, whose
        # averages are of few ticks and whose edges could not yet be as far from them
        anomaly = self._seen_anomaly(X, anomaly)
        return anomaly[len(anomaly) // 2 :]

    def _fit_offset(self, X, y, anomaly, **params):
        """Return the threshold, from an even sample where a stream has gone before."""
        n_before = self.n_samples_seen_ - len(anomaly)
        stride, sample = getattr(self, "_sample_", (1, anomaly[:0]))
        sample = np.concatenate([sample, anomaly[-n_before % stride :: stride]])
        while len(sample) > self._SAMPLE_ROWS:
            stride, sample = 2 * stride, sample[::2].copy()
        self._sample_ = (stride, sample)
        return BaseDetector._fit_offset(
            self, X, y, sample if n_before else anomaly, **params
        )

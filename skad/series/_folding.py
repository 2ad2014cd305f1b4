"""The way back from maps of windows to maps of time steps, block by block.

Each of these gets the maps (b, l, c) of blocks of windows in their order, by
`add(maps, i, first, anomaly)` for those of piece i from its window `first` on, and has
the map of the steps (t, c) at last.
"""

import numpy as np

from skad._array import like, namespace, to_numpy
from skad.embedding._windows import Piece, coverage, reach, strongest


class MeanMaps:
    """The window's length times the mean of what the windows over a step say of it."""

    def __init__(self, x, pieces, size):
        self.pieces, self.size = pieces, size
        self.total = namespace(x).zeros_like(x)

    def add(self, maps, i, first, anomaly=None):
        """Take in the maps of a block of windows."""
        piece = self.pieces[i]
        own = Piece(maps, piece.start + first * piece.stride, piece.stride)
        for step in range(self.size):
            self.total[reach(own, step)] += maps[:, step]

    def result(self):
        """Return the map of the steps."""
        share = self.size / coverage(self.pieces, self.size, len(self.total))
        return self.total * like(share, self.total)[:, None]


class PickedMaps:
    """The window's length times a step's part in the one window that it takes."""

    def __init__(self, x, pieces, size, winners):
        self.size, self.winners = size, winners
        self.maps = namespace(x).zeros_like(x)
        self.starts = np.concatenate([piece.starts() for piece in pieces])
        self.order = np.argsort(winners, kind="stable")
        self.ranked = winners[self.order]
        self.bounds = np.cumsum([0] + [len(piece.windows) for piece in pieces])

    def add(self, maps, i, first, anomaly=None):
        """Take in the maps of a block of windows."""
        first = first + self.bounds[i]
        own = slice(*np.searchsorted(self.ranked, [first, first + len(maps)]))
        steps = self.order[own]
        window = self.winners[steps] - first
        # after the end of a causal window its last step stands for the next ones
        step = np.minimum(steps - self.starts[self.winners[steps]], self.size - 1)
        window, step, steps = (
            like(index, self.maps, dtype="keep") for index in (window, step, steps)
        )
        self.maps[steps] = self.size * maps[window, step]

    def result(self):
        """Return the map of the steps."""
        return self.maps


class StrongestMaps:
    """The window's length times a step's part in the strongest window over it."""

    def __init__(self, x, pieces, size):
        self.pieces, self.size = pieces, size
        self.maps = namespace(x).zeros_like(x)
        self.best = np.full(len(x), -np.inf)

    def add(self, maps, i, first, anomaly):
        """Take in the maps of a block of windows and their anomalies (b,)."""
        piece, anomaly = self.pieces[i], to_numpy(anomaly)
        own, span = Piece(maps, 0, piece.stride), len(maps) - 1
        span = span * piece.stride + self.size
        window = strongest(anomaly, [own], self.size, span)
        start = piece.start + first * piece.stride
        better = np.flatnonzero(anomaly[window] > self.best[start : start + span])
        window, steps = window[better], start + better
        self.best[steps] = anomaly[window]
        step = better - window * piece.stride
        window, step, steps = (
            like(index, self.maps, dtype="keep") for index in (window, step, steps)
        )
        self.maps[steps] = self.size * maps[window, step]

    def result(self):
        """Return the map of the steps."""
        return self.maps

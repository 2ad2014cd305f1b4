"""Windows of a series as views, and the way back from windows to time steps.

A series `x` has the shape (t, c). Its windows come in pieces, views of shape (n, l, c)
whose starts are evenly apart, so that nothing is copied before a block is scored.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from skad._array import is_torch, like, namespace, to_numpy
from skad._moments import deviations


def sliding(x, size, stride=1):
    """Return the windows of `x` (t, c) as a view of shape (n, l, c)."""
    if is_torch(x):
        return x.unfold(0, size, stride).permute(0, 2, 1)
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=0)  # (n, c, l)
    return windows[::stride].transpose(0, 2, 1)


def evenly(counts, most):
    """Return which windows of each series to learn from, `most` of them at most.

    They are spread evenly over all windows, of which the series have `counts`.
    """
    bounds = np.cumsum([0, *counts])
    n = min(int(bounds[-1]), most)
    picked = np.arange(n) * bounds[-1] // max(n, 1)
    cuts = pairwise(np.searchsorted(picked, bounds))
    return [picked[a:b] - bounds[i] for i, (a, b) in enumerate(cuts)]


class Piece(NamedTuple):
    """Windows (n, l, c), the step at which the first starts, steps between starts."""

    windows: object
    start: int
    stride: int

    def starts(self):
        """Return the step at which each window starts, of shape (n,)."""
        return self.start + self.stride * np.arange(self.windows.shape[0])


def cut(x, size, stride):
    """Return pieces of windows that cover every step: every `stride`, and the last."""
    pieces = [Piece(sliding(x, size, stride), 0, stride)]
    last = x.shape[0] - size
    if last % stride:
        pieces.append(Piece(sliding(x[last:], size), last, stride))
    return pieces


def cut_causal(x, size, stride, begin=0):
    """Return pieces of windows that end at, or less than `stride` before, each step.

    Windows end at the multiples of `stride`, and only what the steps from `begin` on
    need is returned. Before its first step the series is taken to have been constant.
    """
    xp = namespace(x)
    n, end = x.shape[0], begin // stride * stride
    pieces = []
    if end < size - 1:
        # windows that reach beyond the first step, on a short padded copy
        before = size - 1 - end
        stop = min(n, size - 1)
        padded = xp.concat([xp.broadcast_to(x[:1], (before, x.shape[1])), x[:stop]])
        pieces.append(Piece(sliding(padded, size, stride), -before, stride))
        end += stride * pieces[0].windows.shape[0]
    if end < n:
        start = end - size + 1
        pieces.append(Piece(sliding(x[start:], size, stride), start, stride))
    return pieces


def spread_mean(anomaly, pieces, size, n_steps):
    """Return the mean (t,) of the anomalies (n,) of the windows over each step."""
    total = namespace(anomaly).zeros_like(anomaly[:1]).repeat(n_steps)
    for piece, part in zip(pieces, split(anomaly, pieces), strict=True):
        for step in range(size):
            total[reach(piece, step)] += part
    return total / like(coverage(pieces, size, n_steps), anomaly)


def coverage(pieces, size, n_steps):
    """Return how many windows cover each step, of shape (t,)."""
    change = np.zeros(n_steps + 1)
    for piece in pieces:
        change[piece.starts()] += 1
        change[piece.starts() + size] -= 1
    return np.cumsum(change)[:-1]


def strongest(anomaly, pieces, size, n_steps):
    """Return which of the windows over a step is the most anomalous, (t,).

    Of equals it is the earliest.
    """
    best = np.full(n_steps, -np.inf)
    winner = np.zeros(n_steps, dtype=np.int64)
    first = 0
    for piece, part in zip(pieces, split(to_numpy(anomaly), pieces), strict=True):
        index = first + np.arange(len(part))
        for step in reversed(range(size)):
            rows = reach(piece, step)
            better = part > best[rows]
            best[rows] = np.where(better, part, best[rows])
            winner[rows] = np.where(better, index, winner[rows])
        first += len(part)
    return winner


def nearest(pieces, size, n_steps):
    """Return which window has its centre nearest to each step, of shape (t,).

    Of two as near it is the later, which covers the step also where the earlier does
    not.
    """
    starts = np.concatenate([piece.starts() for piece in pieces])
    wanted = np.clip(np.arange(n_steps) - size // 2, 0, n_steps - size)
    later = np.searchsorted(starts, wanted)
    earlier = np.maximum(later - 1, 0)
    closer = wanted - starts[earlier] < starts[later] - wanted
    return np.where(closer, earlier, later)


def last_ended(stride, begin, n_steps):
    """Return which window ended last at each step from `begin` on, (t - begin,)."""
    return np.arange(begin, n_steps) // stride - begin // stride


def reach(piece, step):
    """Return the slice of the series' steps that are the `step`-th of the windows."""
    first = piece.start + step
    return slice(
        first, first + (piece.windows.shape[0] - 1) * piece.stride + 1, piece.stride
    )


def split(anomaly, pieces):
    """Yield the part of `anomaly` (n, ...) that belongs to each piece."""
    first = 0
    for piece in pieces:
        yield anomaly[first : first + piece.windows.shape[0]]
        first += piece.windows.shape[0]


def standardised(windows, together=False):
    """Return windows (b, l, c) of mean 0 and deviation 1; constant ones become zero.

    Each channel of a window by itself, or all of its channels `together`. The result
    is the same to the last bit in every library and block, so that a training window
    is found again by a distance of exactly zero.
    """
    xp = namespace(windows)
    shape = windows.shape
    if together:
        windows = windows.reshape(len(windows), -1, 1)
    n = windows.shape[1]
    mean = halved_sum(windows) / n  # (b, 1, c)
    centred = windows - mean
    variance = halved_sum(centred**2) / n
    # by NumPy, since torch's root is now and then one digit off in the last place
    deviation = deviations(to_numpy(variance), to_numpy(mean), roundings=n)
    deviation = like(deviation, windows)
    scale = xp.where(deviation > 0, deviation, 1.0)
    return xp.where(deviation > 0, centred / scale, 0.0).reshape(shape)


def halved_sum(terms):
    """Return the sum (b, 1, c) of terms (b, l, c), added in an order of our own."""
    xp = namespace(terms)
    while terms.shape[1] > 1:
        half = terms.shape[1] // 2
        rest = terms[:, 2 * half :]
        terms = terms[:, :half] + terms[:, half : 2 * half]
        if rest.shape[1]:
            terms = xp.concat([terms, rest], axis=1)
    return terms

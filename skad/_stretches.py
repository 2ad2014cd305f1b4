"""Scores of rows in time by copies of a detector that were fitted without them.

What is left out is a stretch of time, or a whole series where there are many: the
neighbours of a step tell of it what a copy is not to know.
"""

from itertools import pairwise

import numpy as np

from skad._array import namespace
from skad._cross_fitting import (
    FIVE_FOLDS,
    labelled_anomalies,
    part_of,
    rows_of,
    scored_as_seen,
    unfitted,
)

# From so many series on a fold is whole series.
_MANY_SERIES = 10
# So many windows are in a stretch at least where there are several in a series, so that
# few of them reach over its ends, and so many stretches of a series are in a fold.
_WINDOWS, _STRETCHES = 8, 5
# Steps that follow one another are alike, whatever is looked at: one more counts as one
# more sample after so many at least. In simulations of five kinds of series of 3,000
# steps, windows of 1, 5 and 10 flagged .05 of new ones give or take .02 by all fifths,
# .04 by one.
_SAMPLE = 50


def time_folds(lengths, least):
    """Return the folds: lists of stretches (series, start, stop).

    Parameters
    ----------
    lengths : list of int
        Steps of each series.
    least : int
        Steps of the shortest series that can be scored.

    Returns
    -------
    folds : list of lists of tuples
        Each leaves something to learn from. Of few steps the folds together are all of
        them, where they do; of many there is one fold, a fifth of the steps. Many are
        as many windows of `least` steps, or of 50 where that is more, side by side as
        are many samples: those that overlap tell much the same.
    """
    n_steps = sum(lengths)
    folds = _parts(lengths, least, min(5, n_steps))
    if n_steps > FIVE_FOLDS * max(least, _SAMPLE):
        return [fold for fold in [_middle(folds)] if fold]
    return folds


def held_stretches(lengths, least, share):
    """Return the stretches that a training holds out, about a `share` of the steps.

    None are where nothing would be left to learn from.
    """
    return _middle(_parts(lengths, least, max(2, round(1 / share))))


def _middle(folds):
    """Return the fold with something to learn from on both sides, if there is one."""
    return folds[len(folds) // 2] if folds else []


def _parts(lengths, least, k):
    """Return those of `k` parts of the steps that leave something to learn from."""
    many = len(lengths) >= _MANY_SERIES
    folds = [[] for _ in range(k)]
    order = np.random.RandomState(0).permutation(len(lengths))
    for place, i in enumerate(order.tolist() if many else range(len(lengths))):
        length = lengths[i]
        if many:
            folds[place % k].append((i, 0, length))
            continue
        rounds = int(np.clip(length // (k * _WINDOWS * least), 1, _STRETCHES))
        bounds = np.arange(k * rounds + 1) * length // (k * rounds)
        for j, (start, stop) in enumerate(pairwise(bounds)):
            if start < stop:
                folds[j % k].append((i, int(start), int(stop)))
    return [fold for fold in folds if fold and remaining(lengths, fold, least)]


def remaining(lengths, fold, least):
    """Return the stretches outside of a fold that are long enough to learn from."""
    found = []
    for i, length in enumerate(lengths):
        start = 0
        own = [(a, b) for series, a, b in fold if series == i]
        for a, b in [*own, (length, length)]:
            if a - start >= least:
                found.append((i, start, a))
            start = b
    return found


def stretch_fitted(detector, X, y, rows, anomaly):
    """Return the anomaly (m,) of normal training steps by copies fitted without them.

    Windows that reach into a stretch are not learned from, nor is what is left between
    two stretches and shorter than a window.

    Parameters
    ----------
    detector : GroupedDetector
        Fitted to `X`; its copies are fitted with its parameters.
    X : array or tensor of shape (n, ...)
        The training data, checked.
    y : array-like of shape (n,) or None
        Steps labelled -1 are not scored where the detector uses labels.
    rows : list of slices or arrays
        Where each series lies in `X`.
    anomaly : array of shape (n,) or None
        The training anomaly, taken where too little is left to fit a copy.
    """
    places = [np.arange(X.shape[0])[own] for own in rows]
    lengths = [len(own) for own in places]
    least = detector._min_steps()[0]
    n = X.shape[0]
    known = labelled_anomalies(detector, y, n)
    found = []
    try:
        folds = time_folds(lengths, least)
        if not folds:
            raise ValueError("what any fold leaves is shorter than a window")
        for fold in folds:
            kept = remaining(lengths, fold, least)
            steps = np.concatenate([places[i][a:b] for i, a, b in kept])
            groups = np.repeat(np.arange(len(kept)), [b - a for _, a, b in kept])
            member = unfitted(detector, **detector._known_settings())
            member.fit(rows_of(X, steps), part_of(y, steps, n), groups=groups)
            for i, a, b in fold:
                normal = np.flatnonzero(~known[places[i][a:b]])
                if len(normal):
                    part = member._stretch_anomaly(X, places[i], a, b)
                    found.append(rows_of(part, normal))
    except ValueError as error:
        return scored_as_seen(detector, X, n, anomaly, error)
    return namespace(found[0]).concat(found)

"""Missing values of series: filled in between, or left out where series are parted."""

import numpy as np

from skad._array import like, namespace, to_numpy


def any_missing(X):
    """Tell whether rows (n, c) without infinite values hold NaN."""
    xp = namespace(X)
    return bool(xp.isnan(xp.sum(X)))  # a sum needs no memory


def channel_means(X):
    """Return the mean (c,) of what is there of each channel of `X` (n, c)."""
    values = to_numpy(X)
    there = ~np.isnan(values)
    count = there.sum(axis=0)
    if not count.all():
        raise ValueError(
            f"Input X contains NaN in all time steps of channel {count.argmin()}: "
            "leave the channel out."
        )
    return np.where(there, values, 0.0).sum(axis=0, dtype=np.float64) / count


def interpolated(X, series, means):
    """Return `X` (n, c) with a value wherever one is missing.

    It lies on the line between the known values of the same channel and series before
    and after it, is the nearest of them at an end, and that of `means` (c,) where the
    series has none. `series` are the rows of each.
    """
    values = np.array(to_numpy(X))
    for own in series:
        part = values[own]
        for j in np.flatnonzero(np.isnan(part).any(axis=0)):
            missing = np.isnan(part[:, j])
            known = np.flatnonzero(~missing)
            lost = np.flatnonzero(missing)
            filled = means[j]
            if len(known):
                filled = np.interp(lost, known, part[known, j])
            part[lost, j] = filled
        values[own] = part
    return like(values, X, dtype="keep")


def held(rows, last):
    """Return the rows (b, c) of a stream, where what is missing is as it was last.

    `last` (c,) are the values before the rows.
    """
    values = np.concatenate([to_numpy(last)[None], to_numpy(rows)])
    step = np.arange(len(values))[:, None]
    step = np.maximum.accumulate(np.where(np.isnan(values), 0, step), axis=0)
    return like(np.take_along_axis(values, step, axis=0)[1:], rows)


def whole_stretches(X, series, least=1):
    """Return where the stretches of at least `least` rows without NaN lie in `X`.

    Parameters
    ----------
    X : array or tensor of shape (n, c)
        The rows.
    series : list of slices or arrays of indices
        The rows of each series.
    least : int
        Rows of a stretch.

    Returns
    -------
    stretches : list of ndarray
        Indices of rows, in the order of the series and of time.
    """
    whole = ~np.isnan(to_numpy(X)).any(axis=1)
    found = []
    for own in series:
        places = np.arange(len(whole))[own]
        cuts = np.flatnonzero(np.diff(whole[places])) + 1
        runs = np.split(places, cuts)
        found += [run for run in runs if whole[run[0]] and len(run) >= least]
    return found

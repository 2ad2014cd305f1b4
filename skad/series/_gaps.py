"""Gaps in the time stamps of series, over which no window may run."""

import numpy as np

from skad._array import is_torch, to_numpy
from skad._gaps import USUAL, after_gaps
from skad._group_rows import series_rows
from skad._times import read_times


def split_at_gaps(times, groups=None, *, most=USUAL):
    """Return which series each time step is of, where a gap ends a series.

    Detectors know the order of the steps and not their times. Pass what comes out as
    their `groups`, in `fit` and wherever they score, and no window runs over a gap.

    Parameters
    ----------
    times : array-like of shape (n_timesteps,)
        When each step was: numbers, dates, durations, or text of these, ascending in
        each series.
    groups : array-like of shape (n_timesteps,), default=None
        Which series each step belongs to; None is one series.
    most : float, default=1.5
        Longest time between two steps of a series, in median times between the steps
        of all series.

    Returns
    -------
    groups : ndarray of shape (n_timesteps,), int64
        The numbers of the series, from 0.

    Examples
    --------
    >>> from skad.series import split_at_gaps
    >>> split_at_gaps(["10:00", "10:10", "10:20", "11:00", "11:10"])
    array([0, 0, 0, 1, 1])
    """
    if not most >= 1:
        raise ValueError(f"most={most} must be at least 1, a median step.")
    stamps = read_times(to_numpy(times) if is_torch(times) else times).values
    rows = series_rows(groups, len(stamps), "time step")
    late = after_gaps(stamps, rows, most)
    found, n_series = np.empty(len(stamps), dtype=np.int64), 0
    for own in rows:
        found[own] = np.cumsum(late[own]) + n_series
        n_series = int(found[own][-1]) + 1
    return found

"""Gaps in time stamps: steps that come later than steps do."""

import numpy as np

# The longest time between two steps, in median ones.
USUAL = 1.5
# Where a larger share of the steps is late there is no regular step to be late for.
IRREGULAR = 0.1


def after_gaps(stamps, rows, most=USUAL):
    """Return which steps (n,) come later than `most` median steps after the one before.

    Parameters
    ----------
    stamps : ndarray of shape (n,)
        Times: numbers, dates or durations.
    rows : list of slices or ndarrays
        Where each series lies; the median is that of all series together.
    most : float, default=1.5
        At least 1.

    Returns
    -------
    late : ndarray of shape (n,), bool
        The first step of a series never is.
    """
    if stamps.dtype.kind in "Mm":
        stamps = stamps.astype(np.int64)
    steps = [np.diff(stamps[own]) for own in rows]
    together = np.concatenate(steps)
    if (together < 0).any():
        raise ValueError("times go back within a series: sort the steps by time.")
    limit = most * np.median(together) if len(together) else 0.0
    late = np.zeros(len(stamps), dtype=bool)
    for own, between in zip(rows, steps, strict=True):
        late[own] = np.concatenate([[False], between > limit])
    return late


def is_irregular(late):
    """Tell whether so many steps (n,) are late that none of them is a gap."""
    return np.count_nonzero(late) > IRREGULAR * len(late)

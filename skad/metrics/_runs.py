"""Runs of True in a mask: the events of a labelled or judged series."""

import numpy as np


def runs(mask):
    """Return the first indices of the runs of True and the indices after their ends."""
    edges = np.diff(mask.astype(np.int8), prepend=0, append=0)
    return np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)


def run_offsets(starts, stops):
    """Return where each run begins in the array of all runs' elements."""
    return np.concatenate([[0], np.cumsum(stops - starts)[:-1]]).astype(np.intp)


def f1(precision, recall):
    """Return the harmonic mean, 0 where both are 0."""
    total = precision + recall
    return 2 * precision * recall / total if total > 0 else 0.0

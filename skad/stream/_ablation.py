"""The map of detectors whose score is of the row as a whole."""

import numpy as np


def ablated(anomaly, X, typical):
    """Return how much less anomalous rows were with a typical value in each feature.

    Parameters
    ----------
    anomaly : callable
        From rows (b, d) to their anomaly (b,).
    X : ndarray of shape (b, d)
        The rows.
    typical : ndarray of shape (d,)
        The typical values.
    """
    maps, whole = np.empty(X.shape), anomaly(X)
    for j, value in enumerate(typical):
        rows = X.copy()
        rows[:, j] = value
        maps[:, j] = whole - anomaly(rows)
    return maps

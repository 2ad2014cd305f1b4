"""What a score loses when one feature at a time is replaced."""

import numpy as np

from skad._array import to_numpy


def ablation(anomaly, X, reference):
    """Return what the anomaly loses when one feature at a time is the reference's."""
    X = to_numpy(X)
    whole = anomaly(X)
    losses = np.empty(X.shape)
    for i in range(X.shape[1]):
        changed = X.copy()
        changed[:, i] = reference[i]
        losses[:, i] = whole - anomaly(changed)
    return losses

"""What a score loses when one feature at a time is replaced."""

import numpy as np

from skad._array import is_torch


def ablation(anomaly, X, reference):
    """Return what the anomaly loses when one feature at a time is the reference's.

    For scores that are of the row as a whole, and have no gradient worth following: a
    pass for each feature.

    Parameters
    ----------
    anomaly : callable
        From rows (b, d) to their anomaly (b,).
    X : array or tensor of shape (b, d)
        The rows.
    reference : array or tensor of shape (d,)
        A typical value of each feature.
    """
    tensor, whole = is_torch(X), anomaly(X)
    losses = X.new_empty(X.shape) if tensor else np.empty(X.shape)
    for i, typical in enumerate(reference):
        changed = X.clone() if tensor else X.copy()
        changed[:, i] = typical
        losses[:, i] = whole - anomaly(changed)
    return losses

"""Slow, obvious versions of what the package computes fast."""

import numpy as np


def distance(x, y, metric, p=2):
    """Distance between two rows, written out."""
    gap = np.abs(np.asarray(x, float) - np.asarray(y, float))
    if metric == "sqeuclidean":
        return (gap**2).sum()
    if metric == "cosine":
        return 1 - (x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum())
    p = {"euclidean": 2, "manhattan": 1}.get(metric, p)
    return (gap**p).sum() ** (1 / p)


def neighbor_distances(X, Q, k, metric, p=2, own=False):
    """Ascending distances from each row of `Q` to its `k` nearest rows of `X`.

    With `own`, row i of `Q` is row i of `X` and is not its own neighbour.
    """
    found = []
    for i, query in enumerate(Q):
        distances = [
            distance(query, row, metric, p)
            for j, row in enumerate(X)
            if not (own and i == j)
        ]
        found.append(sorted(distances)[:k])
    return np.array(found)

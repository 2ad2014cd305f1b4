"""How outlying a patch is among the patches of other pictures at the same place."""

import math

import torch

from skad._array import blocks

# Keeps the density of repeated patches finite, as scikit-learn does.
_TINY = 1e-10


def outlier_factors(rows, k):
    r"""Return the local outlier factors (p, n) of rows at p places, each for itself.

    With the k nearest rows :math:`N(x)` of the same place and the distance
    :math:`d_k(y)` of a row to its k-th neighbour,

    .. math:: lrd(x) = \Big(\frac1k \sum_{y \in N(x)} \max(d_k(y), d(x, y))
        + 10^{-10}\Big)^{-1}, \qquad
        lof(x) = \frac1k \sum_{y \in N(x)} lrd(y) \; / \; lrd(x),

    scikit-learn's ``LocalOutlierFactor``. Where a row has k equals or more, the next
    row that differs counts as the k-th neighbour, as in `skad.neighbors.LOF`, so that
    factors stay of one order. A row without others has the factor 1.

    Parameters
    ----------
    rows : tensor of shape (p, n, d)
        The patches of n pictures at each of p places.
    k : int
        Number of neighbours; all of the others where there are fewer.
    """
    n_places, n = rows.shape[:2]
    k = min(k, n - 1)
    found = rows.new_ones(n_places, n)
    if not k:
        return found
    for places in blocks(n_places, 3 * n * n + n * rows.shape[2], rows.device):
        away = place_distances(rows[places])  # (q, n, n)
        reach, near = away.topk(k, dim=2, largest=False)
        last = reach[..., -1]
        others = away.masked_fill(away == 0, math.inf).amin(2)
        last = torch.where((last == 0) & others.isfinite(), others, last)
        flat = near.flatten(1)
        reach = torch.maximum(reach, last.gather(1, flat).reshape(reach.shape))
        density = 1 / (reach.mean(2) + _TINY)  # (q, n)
        around = density.gather(1, flat).reshape(reach.shape).mean(2)
        found[places] = (around / density).to(found.dtype)
    return found


def place_distances(rows):
    """Return the distances (q, n, n) between rows (q, n, d), to themselves infinite."""
    # differences of squares lose digits where rows are much alike
    rows = (rows - rows.mean(1, keepdim=True)).double()
    squares = rows.square().sum(2)
    away = squares[:, :, None] + squares[:, None] - 2 * rows @ rows.mT
    rounding = torch.finfo(away.dtype).eps * rows.shape[2] * squares.amax(1)
    away = away.masked_fill_(away <= rounding[:, None, None], 0.0).sqrt_()
    away.diagonal(dim1=1, dim2=2).fill_(math.inf)
    return away

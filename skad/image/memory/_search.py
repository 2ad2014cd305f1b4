"""The nearest rows of a memory of patches, block by block, without a picture's own.

A memory knows of each entry the picture that it came from, its owner. What a training
picture put in itself is left out where it is asked how it would score as a new one.
"""

import math

import torch

from skad._array import slices

# Elements of a block of distances between patches and the bank.
_DISTANCES = 2**22


def mask_own(distances, own, owners):
    """Set distances (q, m) to the entries that belong to a query to infinity, in place.

    Parameters
    ----------
    distances : tensor of shape (q, m)
        From queries to entries.
    own : tensor of shape (q,) or None
        The picture of each query; None, a new one, leaves everything in.
    owners : tensor of shape (m,)
        The picture of each entry.
    """
    if own is not None:
        distances.masked_fill_(own[:, None] == owners.to(own.device), math.inf)
    return distances


def nearest(queries, bank, squares, own=None, owners=None, k=1, allowed=None):
    """Return distances (q, k) to the nearest rows of `bank` (m, d), and their indices.

    Candidates come from the product of matrices; their distances are computed once
    more from the differences, so that a patch of the bank is at distance zero. With
    `own` and `owners` (see `mask_own`) a picture's own entries are left out; where no
    other is left the distance is infinite.

    Parameters
    ----------
    queries : tensor of shape (q, d)
        The patches.
    bank : tensor of shape (m, d)
        The entries.
    squares : tensor of shape (m,)
        Squared lengths of the entries.
    own, owners : tensor of shape (q,) and (m,), or None
        The pictures of patches and of entries.
    k : int, default=1
        How many entries are found, the nearest first; at most m.
    allowed : callable or None, default=None
        From a slice of the queries to a tensor (b, m) that tells which entries they may
        find.
    """
    indices = torch.empty((len(queries), k), dtype=torch.long, device=queries.device)
    found = queries.new_empty(len(queries), k)
    elements = max(len(bank), k * queries.shape[1])
    for rows in slices(len(queries), max(1, _DISTANCES // elements)):
        near = torch.addmm(squares, queries[rows], bank.T, alpha=-2)
        near = mask_own(near, None if own is None else own[rows], owners)
        if allowed is not None:
            near.masked_fill_(~allowed(rows), math.inf)
        if k == 1:
            least, place = near.min(1, keepdim=True)
        else:
            least, place = near.topk(k, dim=1, largest=False)
        away = (queries[rows, None] - bank[place]).square().sum(2).sqrt()
        away.masked_fill_(least == math.inf, math.inf)
        if k > 1:  # in the order of what was computed again
            away, order = away.sort(dim=1, stable=True)
            place = place.gather(1, order)
        found[rows], indices[rows] = away, place
    return found, indices

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


def nearest(queries, bank, squares, own=None, owners=None):
    """Return distances (q,) to the nearest rows of `bank` (m, d), and their indices.

    Candidates come from the product of matrices; their distances are computed once
    more from the differences, so that a patch of the bank is at distance zero. With
    `own` and `owners` (see `mask_own`) a picture's own entries are left out; where no
    other is left the distance is infinite.
    """
    indices = torch.empty(len(queries), dtype=torch.long, device=queries.device)
    alone = torch.zeros(len(queries), dtype=torch.bool, device=queries.device)
    for rows in slices(len(queries), max(1, _DISTANCES // len(bank))):
        distances = torch.addmm(squares, queries[rows], bank.T, alpha=-2)
        if own is None:
            indices[rows] = distances.argmin(1)
            continue
        least, indices[rows] = mask_own(distances, own[rows], owners).min(1)
        alone[rows] = least == math.inf
    found = (queries - bank[indices]).square().sum(1).sqrt()
    return found.masked_fill_(alone, math.inf), indices

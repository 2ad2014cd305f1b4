"""The nearest rows of a memory of patches, block by block."""

import torch

from skad._array import slices

# Elements of a block of distances between patches and the bank.
_DISTANCES = 2**22


def nearest(queries, bank, squares):
    """Return distances (q,) to the nearest rows of `bank` (m, d), and their indices.

    Candidates come from the product of matrices; their distances are computed once
    more from the differences, so that a patch of the bank is at distance zero.
    """
    indices = torch.empty(len(queries), dtype=torch.long, device=queries.device)
    for rows in slices(len(queries), max(1, _DISTANCES // len(bank))):
        distances = torch.addmm(squares, queries[rows], bank.T, alpha=-2)
        indices[rows] = distances.argmin(1)
    return (queries - bank[indices]).square().sum(1).sqrt(), indices

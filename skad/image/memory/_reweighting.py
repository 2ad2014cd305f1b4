"""PatchCore's score of a picture: its farthest patch, where the bank is sparse."""

import math

import torch

from skad.image.memory._search import mask_own


def reweighted(patch, largest, neighbour, bank, squares, k, own=None, owners=None):
    r"""Return the anomaly (b,) of pictures: PatchCore's equations (6) and (7).

    With the patch :math:`p^*` of a picture that is farthest from the bank, its distance
    :math:`s^*` and its neighbour :math:`m^*`,

    .. math:: \left(1 - \frac{\exp \lVert p^* - m^* \rVert}
        {\sum_{m \in N_k(m^*)} \exp \lVert p^* - m \rVert}\right) s^*.

    Parameters
    ----------
    patch : tensor of shape (b, d)
        :math:`p^*`.
    largest : tensor of shape (b,)
        :math:`s^*`.
    neighbour : tensor of shape (b,)
        Index of :math:`m^*` in the bank.
    bank : tensor of shape (m, d)
        The entries.
    squares : tensor of shape (m,)
        Squared lengths of the entries.
    k : int
        Entries nearest to :math:`m^*`, itself among them; 1 is :math:`s^*` itself.
    own, owners : tensor of shape (b,) and (m,), or None
        The pictures of patches and of entries: a picture's own entries are left out.
    """
    k = min(k, len(bank))
    if k == 1:
        return largest
    around = squares - 2 * bank[neighbour] @ bank.T
    mask_own(around, own, owners)
    rows = torch.arange(patch.shape[0], device=patch.device)
    around[rows, neighbour] = -math.inf  # the neighbour itself is the first
    away, near = around.topk(k, dim=1, largest=False)
    to_near = (patch[:, None] - bank[near]).square().sum(2).sqrt()  # (b, k)
    to_near.masked_fill_(away == math.inf, -math.inf)  # its own count for nothing
    return (1 - torch.softmax(to_near, 1)[:, 0]) * largest

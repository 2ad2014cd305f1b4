"""Attention between places whose correlations have a target, and how far from it."""

import torch
from torch import nn

# What is added to probabilities before their logarithm is taken.
_FLOOR = 1e-4


def divergence(p, q):
    """Return the Kullback-Leibler divergence (b, p) of distributions (b, k, p, m).

    The mean over `k` of that of `p` from `q`.
    """
    return (p * ((p + _FLOOR).log() - (q + _FLOOR).log())).sum(-1).mean(1)


def both_ways(p, q):
    """Return the divergences (b, p) of `p` from `q` and of `q` from `p`, added up."""
    return ((p - q) * ((p + _FLOOR).log() - (q + _FLOOR).log())).sum(-1).mean(1)


def entropy(p):
    """Return the entropy (b, p) of distributions (b, k, p, m), the mean over `k`."""
    return -(p * (p + _FLOOR).log()).sum(-1).mean(1)


class CorrelatedAttention(nn.Module):
    r"""Attention of places to places, of the same picture or of another.

    Beside the correlations, the softmax of the products of queries and keys, there is
    their target: for each place a Gaussian of the distance along rows and columns, of
    widths :math:`3^{\sigma(5 s)} - 1` between 0 and 2 that a linear layer learns, with
    a sum of 1 (Yao, Li, Qian, Luo and Zhang, "Focus the discrepancy: intra- and
    inter-correlation learning for image anomaly detection", ICCV, 2023, section 3).

    Parameters
    ----------
    size : tuple of int
        Height and width of the grid of places.
    hidden_size : int
        Length of the vectors, a multiple of `n_heads`.
    n_heads : int, default=8
        Heads.
    """

    def __init__(self, size, hidden_size, n_heads=8):
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value = (
            nn.Linear(hidden_size, hidden_size) for _ in range(3)
        )
        self.width = nn.Linear(hidden_size, 2 * n_heads)
        height, width = size
        rows = torch.arange(height).repeat_interleave(width)
        columns = torch.arange(width).repeat(height)
        self.register_buffer("places", torch.stack([rows, columns]).float())  # (2, p)

    def forward(self, x, others):
        """Return values and correlations.

        Parameters
        ----------
        x : tensor of shape (b, p, h)
            Vectors of the places that look.
        others : tensor of shape (b, p, h)
            Vectors of the places that are looked at.

        Returns
        -------
        values : tensor of shape (b, p, h)
            What is seen.
        correlations : tensor of shape (b, n_heads, p, p)
            How much of each place.
        """
        query, key, value = (
            layer(of).unflatten(2, (self.n_heads, -1)).transpose(1, 2)
            for layer, of in ((self.query, x), (self.key, others), (self.value, others))
        )
        products = query @ key.mT / query.shape[-1] ** 0.5
        correlations = products.softmax(-1)
        values = (correlations @ value).transpose(1, 2).flatten(2)
        return values, correlations

    def widths(self, x):
        """Return the widths (b, n_heads, p, 2) along rows and columns, within 0..2."""
        raised = torch.sigmoid(5 * self.width(x)) + 1e-5  # 0 is no width
        return (3**raised - 1).unflatten(2, (self.n_heads, 2)).transpose(1, 2)

    def targets(self, x):
        """Return the targets (b, n_heads, p, p) of places (b, p, h) that look."""
        squares = (self.places[:, :, None] - self.places[:, None, :]).square()
        precise = 0.5 / self.widths(x).square()
        # the softmax is what makes Gaussians add up to 1
        return (
            -(precise[..., :1] * squares[0] + precise[..., 1:] * squares[1])
        ).softmax(-1)

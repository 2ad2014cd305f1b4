"""A memory of learned items that answers with sparse mixtures of them."""

import torch
from torch import nn
from torch.nn import functional


def hard_shrink(weights, threshold):
    """Return `weights` (b, n) above `threshold`, made to sum to one.

    Rows in which nothing is above the threshold stay whole.
    """
    kept = torch.where(weights > threshold, weights, 0.0)
    total = kept.sum(1, keepdim=True)
    return torch.where(total > 0, kept / torch.where(total > 0, total, 1.0), weights)


def entropy(weights):
    """Return the entropy of each row of `weights` (b, n), of shape (b,)."""
    return torch.special.entr(weights.clamp_min(1e-12)).sum(1)


class Memory(nn.Module):
    """Items that queries address by their cosine.

    Gong et al., "Memorizing normality to detect anomaly", ICCV, 2019, section 3.3.

    Parameters
    ----------
    n_items, size : int
        Number of items and their length.
    shrink_threshold : float
        Weights at or below it count as zero.
    """

    def __init__(self, n_items, size, shrink_threshold):
        super().__init__()
        bound = size**-0.5
        self.items = nn.Parameter(torch.empty(n_items, size).uniform_(-bound, bound))
        self.shrink_threshold = shrink_threshold

    def address(self, queries):
        """Return the weights of the items, (b, n_items): sparse, with sum one."""
        cosines = functional.normalize(queries) @ functional.normalize(self.items).T
        return hard_shrink(cosines.softmax(1), self.shrink_threshold)

    def forward(self, queries):
        """Map queries (b, size) to mixtures of items (b, size)."""
        return self.address(queries) @ self.items


class RecallMemory(nn.Module):
    """Pairs of a key and a value: what looks like keys recalls a mixture of values.

    Gu et al., "Remembering normality: memory-guided knowledge distillation for
    unsupervised anomaly detection", ICCV, 2023, section 3.2.

    Parameters
    ----------
    n_items, size : int
        Number of pairs, and the length of keys and values.
    """

    def __init__(self, n_items, size):
        super().__init__()
        self.keys = nn.Parameter(torch.randn(n_items, size))
        self.values = nn.Parameter(torch.randn(n_items, size))

    def forward(self, x, by="keys"):
        """Return what the places of maps (b, c, h, w) recall, of the same shape.

        The weights of the values are the softmax of the cosines of a place with the
        keys or, with ``by="values"``, with the values themselves.
        """
        items = functional.normalize(getattr(self, by))
        places = functional.normalize(x, dim=1).movedim(1, -1)  # (b, h, w, c)
        return ((places @ items.T).softmax(-1) @ self.values).movedim(-1, 1)

    def overlap(self):
        """Return the mean squared cosine of keys and values: 0 where orthogonal."""
        keys, values = (
            functional.normalize(self.keys),
            functional.normalize(self.values),
        )
        return (keys @ values.T).square().mean()

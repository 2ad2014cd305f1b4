"""A way from the top of a hierarchy of classes down to one of them."""

import math

import torch

from skad.ood._exposed_classifier import ExposedNetwork, mean_where


class TopDownNetwork(ExposedNetwork):
    """A classifier of the children of each super-class, unsure of all other rows.

    Parameters
    ----------
    shape : tuple of int
        Of samples.
    n_classes : int
        Number c of classes.
    architecture, hidden_sizes, uniform_weight
        As for `HierarchicalNovelty`.
    branches : ndarray of shape (s, c)
        As `choices` returns them.
    """

    def __init__(
        self, shape, n_classes, architecture, hidden_sizes, uniform_weight, branches
    ):
        self.sizes = [int(row.max()) + 1 for row in branches]
        super().__init__(shape, sum(self.sizes), architecture, hidden_sizes)
        self.uniform_weight = uniform_weight
        self.register_buffer("branches", torch.as_tensor(branches))

    def judge(self, x):
        """Return log-probabilities of children (b, n_s), a list by super-classes."""
        parts = self.classifier(x).split(self.sizes, 1)
        return [torch.log_softmax(part, 1) for part in parts]

    def forward(self, x):
        """Return the log-probabilities (b, c) of classes."""
        total = 0.0
        for logs, own in zip(self.judge(x), self.branches, strict=True):
            total = total + torch.where(own >= 0, logs[:, own.clamp(min=0)], 0.0)
        return total

    def loss(self, x, y):
        """Return what the children of each super-class cost, and being sure outside."""
        total = 0.0
        for logs, children in zip(self.judge(x), self.branches, strict=True):
            own = children[y]  # (b,)
            errors = -logs.gather(1, own.clamp(min=0)[:, None])[:, 0]
            unsure = mean_where(from_uniform(logs), own < 0)
            total = total + mean_where(errors, own >= 0) + self.uniform_weight * unsure
        return total

    def way(self, x):
        """Return the classes (b,) at the end of the way down, and how sure it is.

        That is the divergence (b, s) from the uniform distribution of the children of
        super-classes on the way, infinite for the others.
        """
        parts = self.judge(x)
        chosen = torch.stack([logs.argmax(1) for logs in parts], 1)  # (b, s)
        fits = (chosen[:, :, None] == self.branches) | (self.branches < 0)
        leaves = fits.all(1).int().argmax(1)  # one of each row
        sure = torch.stack([from_uniform(logs) for logs in parts], 1)
        return leaves, sure.masked_fill((self.branches < 0).T[leaves], torch.inf)

    def anomaly(self, x):
        """Return minus the least divergence (b,) on the way down."""
        return -self.way(x)[1].amin(1)


def from_uniform(logs):
    """Return the divergence (b,) of probabilities from the uniform distribution.

    It is that of the uniform one from them, of their logarithms (b, n).
    """
    return -logs.mean(1) - math.log(logs.shape[1])

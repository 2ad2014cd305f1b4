"""A backbone that is trained on normal pictures, and a memory of its features."""

import math
from collections.abc import Callable
from numbers import Integral

import torch

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image._tuned import TunedDetector, TunedNetwork
from skad.image.memory._search import nearest


class FineTunedNetwork(TunedNetwork):
    """A backbone whose batch norms stay as they are, and a memory of its features.

    Subclasses write `loss`.
    """

    def __init__(self, shapes, encoder, norms, repeat, trained_parts, n_neighbors):
        super().__init__(shapes, encoder, norms, repeat, trained_parts)
        self.n_neighbors = n_neighbors
        with torch.no_grad():
            d = self.maps(torch.zeros(1, *self.picture)).shape[1]
        self.register_buffer("centre", torch.zeros(d))
        # as many as there are pictures, and made anew when a training goes on
        self.register_buffer("bank", torch.zeros(0, d), persistent=False)

    def scaled(self, maps):
        """Return maps by what the features, their means, are divided by."""
        return maps

    def features(self, x):
        """Return the features (b, d) of pictures (b, c, h, w): means over places."""
        return self.scaled(self.maps(x)).mean((2, 3))

    def begin(self, phase, batches):
        """Keep the mean of the features as they are before the training."""
        if not self.centre.any():  # a warm start has it
            self.centre.copy_(self.all_features(batches).mean(0))

    def finish(self, batches, held=None):
        """Keep the features of the training pictures."""
        self.bank = self.all_features(batches)

    def all_features(self, batches):
        """Return the features (n, d) of pictures without a label below 0."""
        kept = (x if y is None else x[y >= 0] for x, y in batches())
        return torch.cat([self.features(self.pictures(x)) for x in kept if len(x)])

    def inspect(self, x):
        """Return the anomaly (b,) and its parts (b, gh, gw) by places.

        The squared distance of the mean of some vectors to another is the mean of their
        products with the difference.
        """
        maps = self.scaled(self.maps(self.pictures(x)))
        features, bank = maps.mean((2, 3)), self.bank.double()
        k = min(self.n_neighbors, len(bank))
        # features of pictures that are alike hardly differ
        found = nearest(features.double(), bank, bank.square().sum(1), k=k)
        distances, near = found[0].to(features), found[1]
        away = features[:, None] - self.bank[near]  # (b, k, d)
        parts = torch.einsum("bdhw,bkd->bhw", maps, away)
        parts = parts - (self.bank[near] * away).sum((1, 2))[:, None, None]
        return distances.square().sum(1), parts / math.prod(maps.shape[2:])

    def anomaly(self, x):
        """Return the sum of squared distances to the nearest training pictures."""
        return self.inspect(x)[0]

    def map(self, x):
        """Return what the places add to it."""
        return self.inspect(x)[1]


@with_parameters
class FineTunedDetector(TunedDetector):
    """Base of detectors that train a backbone and remember what it says of pictures.

    Parameters
    ----------
    n_neighbors : int, default=2
        Number `k` of the nearest training pictures.
    random_state : int, RandomState instance or None, default=None
        Draws the batches. Pass an int for reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `centre` and `bank`.
    """

    n_neighbors: int = 2
    optimizer: str | Callable = "sgd"
    weight_decay: float = 5e-5

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

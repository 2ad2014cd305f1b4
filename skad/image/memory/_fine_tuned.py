"""A backbone that is trained on normal pictures, and a memory of its features."""

import copy
import math
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import nn

from skad._parameters import absent, with_parameters
from skad._sklearn import Interval
from skad._training import from_parameters
from skad.embedding._resnet import LAYERS, ResNet
from skad.embedding._taps import Taps
from skad.image._base import as_tensor
from skad.image._trained import TrainedImageDetector
from skad.image.memory._search import nearest
from skad.nn.network import Network, all_but

# Stages of a ResNet that are trained, the last ones.
_STAGES = 2


def stages(encoder):
    """Return the names of the parts of a backbone that are trained, None for all."""
    if not isinstance(encoder, ResNet):
        return None
    last = LAYERS.index(max(encoder.layers))
    return LAYERS[max(0, last + 1 - _STAGES) : last + 1]


class FineTunedNetwork(Network):
    """A backbone whose batch norms stay as they are, and a memory of its features.

    Subclasses write `loss`.
    """

    fixed_statistics = ("encoder",)

    def __init__(self, shapes, encoder, norms, repeat, trained_parts, n_neighbors):
        super().__init__()
        self.encoder, (self.picture,), self.repeat = encoder.eval(), shapes, repeat
        trained = stages(encoder) if trained_parts is None else tuple(trained_parts)
        given, name = encoder, "encoder"
        if isinstance(encoder, Taps):
            given, name = encoder.module, "encoder.module"
        unknown = set(trained or ()) - set(dict(given.named_modules()))
        if unknown:
            raise ValueError(
                f"trained_parts={trained_parts!r} names {', '.join(sorted(unknown))}, "
                "which the backbone does not have."
            )
        if trained is not None:
            self.frozen_parts = all_but(given, trained, name)
        self.idle = nn.Parameter(torch.zeros(()))  # a bank of filters has no weights
        self.n_neighbors = n_neighbors
        mean, std = ((0.0,), (1.0,)) if norms is None else norms
        self.register_buffer("input_mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("input_std", torch.tensor(std).view(-1, 1, 1))
        with torch.no_grad():
            d = self.maps(torch.zeros(1, *self.picture)).shape[1]
        self.register_buffer("centre", torch.zeros(d))
        # as many as there are pictures, and made anew when a training goes on
        self.register_buffer("bank", torch.zeros(0, d), persistent=False)

    def maps(self, x):
        """Return the maps (b, d, gh, gw) of pictures (b, c, h, w) in 0..1."""
        if self.repeat > 1:
            x = x.expand(-1, self.repeat, -1, -1)
        return self.encoder((x - self.input_mean) / self.input_std)[-1]

    def scaled(self, maps):
        """Return maps by what the features, their means, are divided by."""
        return maps

    def features(self, x):
        """Return the features (b, d) of pictures (b, c, h, w): means over places."""
        return self.scaled(self.maps(x)).mean((2, 3))

    def pictures(self, x):
        """Return samples (b, m) as pictures (b, c, h, w)."""
        return x.unflatten(1, self.picture)

    def begin(self, phase, batches):
        """Keep the mean of the features as they are before the training."""
        if not self.centre.any():  # a warm start has it
            found = [self.features(self.pictures(x)) for x, _ in batches()]
            self.centre.copy_(torch.cat(found).mean(0))

    def finish(self, batches, held=None):
        """Keep the features of the training pictures."""
        self.bank = torch.cat([self.features(self.pictures(x)) for x, _ in batches()])

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
class FineTunedDetector(TrainedImageDetector):
    """Base of detectors that train a backbone and remember what it says of pictures.

    Parameters
    ----------
    n_neighbors : int, default=2
        Number `k` of the nearest training pictures.
    trained_parts : tuple of str or None, default=None
        Names of the parts of the backbone that are trained; None is the last two stages
        of a ResNet, up to the last of `layers`, and all of other networks.
    layers : tuple of str or None, default=None
        Names of layers of the backbone, the last of which gives the features; None is
        the fourth of a ResNet, and all of the bank of filters.
    random_state : int, RandomState instance or None, default=None
        Draws the batches. Pass an int for reproducible results.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The backbone as it was before.
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `centre` and `bank`.
    """

    n_neighbors: int = 2
    trained_parts: Sequence[str] | None = None
    optimizer: str | Callable = "sgd"
    weight_decay: float = 5e-5
    # the score is a distance of whole pictures
    pooling: Any = absent()
    quantile: Any = absent()

    _kind = "pixels"
    _exports = False
    _resnet_layers = ("layer4",)
    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "trained_parts": [tuple, list, None],
    }

    def _network(self, shapes):
        embedding = self.embedding_
        encoder = copy.deepcopy(embedding.backbone_).float().requires_grad_(True)
        norms = None if embedding.mean_ is None else (embedding.mean_, embedding.std_)
        given = shapes, encoder, norms, embedding._repeat_
        return from_parameters(self, self._network_class, *given)

    def _sample_anomaly(self, network, x):
        return network.anomaly(x)

    def _inspect(self, network, X):
        with torch.no_grad():
            anomaly, parts = network.inspect(self._describe(as_tensor(X)))
            return anomaly, self._as_map(self._upsampled(parts))

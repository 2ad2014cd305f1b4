"""Backbones that are trained on: the network, and the base of detectors with one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from skad._copies import copied
from skad._parameters import absent, with_parameters
from skad._training import from_parameters
from skad.embedding._resnet import LAYERS, ResNet
from skad.embedding._taps import Taps
from skad.image._base import as_tensor
from skad.image._trained import TrainedImageDetector
from skad.nn.network import Network, all_but

# Stages of a ResNet that are trained, the last ones.
_STAGES = 2


def stages(encoder):
    """Return the names of the parts of a backbone that are trained, None for all."""
    if not isinstance(encoder, ResNet):
        return None
    last = LAYERS.index(max(encoder.layers))
    return LAYERS[max(0, last + 1 - _STAGES) : last + 1]


class TunedNetwork(Network):
    """A backbone that is trained, whose batch norms stay as they are."""

    fixed_statistics = ("encoder",)

    def __init__(self, shapes, encoder, norms, repeat, trained_parts):
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
        mean, std = ((0.0,), (1.0,)) if norms is None else norms
        self.register_buffer("input_mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("input_std", torch.tensor(std).view(-1, 1, 1))

    def maps(self, x):
        """Return the maps (b, d, gh, gw) of pictures (b, c, h, w) in 0..1."""
        if self.repeat > 1:
            x = x.expand(-1, self.repeat, -1, -1)
        return self.encoder((x - self.input_mean) / self.input_std)[-1]

    def pictures(self, x):
        """Return samples (b, m) as pictures (b, c, h, w)."""
        return x.unflatten(1, self.picture)


@with_parameters
class TunedDetector(TrainedImageDetector):
    """Base of detectors that train a backbone, and score pictures as a whole.

    Parameters
    ----------
    trained_parts : tuple of str or None, default=None
        Names of the parts of the backbone that are trained; None is the last two stages
        of a ResNet, up to the last of `layers`, and all of other networks.
    layers : tuple of str or None, default=None
        Names of layers of the backbone, the last of which gives the features; None is
        the fourth of a ResNet, and all of the bank of filters.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The backbone as it was before.
    """

    trained_parts: Sequence[str] | None = None
    # the score is of whole pictures
    pooling: Any = absent()
    quantile: Any = absent()

    _kind = "pixels"
    _exports = False
    _resnet_layers = ("layer4",)
    _parameter_constraints = {"trained_parts": [tuple, list, None]}

    def _network(self, shapes, **others):
        embedding = self.embedding_
        encoder = copied(embedding.backbone_).float().requires_grad_(True)
        norms = None if embedding.mean_ is None else (embedding.mean_, embedding.std_)
        given = shapes, encoder, norms, embedding._repeat_
        return from_parameters(self, self._network_class, *given, **others)

    def _sample_anomaly(self, network, x):
        return network.anomaly(x)

    def _inspect(self, network, X):
        with torch.no_grad():
            anomaly, parts = network.inspect(self._describe(as_tensor(X)))
            return anomaly, self._as_map(self._upsampled(parts))

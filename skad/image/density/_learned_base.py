"""Flows whose base is no standard normal distribution, but that of the training."""

from numbers import Integral

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.nn.network import Network
from skad.nn.statistics import ChannelScale


class BasedNetwork(Network):
    """A network with a flow for each layer, whose base may be learned.

    A method writes `latent`.

    Parameters
    ----------
    shapes : list of tuple
        (c, h, w) of each layer.
    base : {"standard", "learned"}
        Whether the base is learned.
    base_period : int
        Epochs after which it is taken anew.
    """

    def __init__(self, shapes, base, base_period):
        super().__init__()
        self.shapes = shapes
        self.base_period = base_period if base == "learned" else None
        if base == "learned":
            self.bases = nn.ModuleList(ChannelScale(shape[0]) for shape in shapes)
            self.register_buffer("n_epochs_done", torch.tensor(0))

    def latent(self, x, i):
        """Return what the flow of layer i makes of samples, maps z (b, c, h, w)."""
        raise NotImplementedError

    def on_base(self, z, logdet, i):
        """Return z (b, c, ...) of layer i as deviations, and the log-determinant.

        Of a base that is not standard z is what stands at so many deviations.
        """
        if self.base_period is None:
            return z, logdet
        base = self.bases[i]
        shape = (-1, *[1] * (z.ndim - 2))
        deviations = (z - base.mean.view(shape)) / base.std.view(shape)
        return deviations, logdet - base.std.log().sum()

    def end_epoch(self, phase, batches):
        """Let each base be what its flow makes of the training pictures."""
        if self.base_period is None:
            return
        self.n_epochs_done += 1
        if self.n_epochs_done % self.base_period == 0:
            for i, base in enumerate(self.bases):
                base.learn(self.latent(x, i) for x, _ in batches())


@with_parameters
class BaseParameters:
    """The base of a flow.

    Parameters
    ----------
    base : {"standard", "learned"}, default="standard"
        The distribution that :math:`z` is to follow. "learned" is a normal one with a
        mean and a deviation of each channel, those of the training pictures, as in
        AltUB: then :math:`z` stands for deviations from that mean.
    base_period : int, default=10
        Epochs after which a learned base is taken anew.
    """

    base: str = "standard"
    base_period: int = 10

    _parameter_constraints = {
        "base": [StrOptions({"standard", "learned"})],
        "base_period": [Interval(Integral, 1, None, closed="left")],
    }

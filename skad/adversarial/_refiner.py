"""A refiner of noisy samples that learns against a discriminator."""

from numbers import Integral, Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import IncrementalNetworkMixin
from skad.adversarial._game import GameDetector
from skad.nn.adversarial import (
    AdversarialNetwork,
    Discriminator,
    discriminator_loss,
    frozen,
    generator_loss,
)
from skad.nn.architecture import build
from skad.nn.network import over_channels


class RefinerNetwork(AdversarialNetwork):
    """A refiner of noisy samples and a discriminator."""

    makers = ("refiner",)

    def __init__(
        self,
        shape,
        latent_size,
        feature_size,
        noise,
        reconstruction_weight,
        measure,
        architecture,
        hidden_sizes,
    ):
        super().__init__()
        self.refiner = nn.Sequential(
            build(architecture, shape, (latent_size,), hidden_sizes),
            build(architecture, (latent_size,), shape, hidden_sizes),
        )
        self.discriminator = Discriminator(
            shape, architecture, hidden_sizes, n_features=feature_size
        )
        self.noise, self.measure = noise, measure
        self.weight = reconstruction_weight

    def groups(self, phase):
        """Return the weights of the discriminator and those of the refiner."""
        return {
            "discriminator": self.discriminator.parameters(),
            "refiner": self.refiner.parameters(),
        }

    def updates(self, phase, x, y):
        """Yield both sides of equation (2), the refiner's with the error of (3)."""
        noisy = x + self.noise * torch.randn_like(x)
        fake = self.discriminator(self.refiner(noisy).detach())[0]
        real = self.discriminator(x)[0]
        yield "discriminator", discriminator_loss(real, fake)
        refined = self.refiner(noisy)
        with frozen(self.discriminator):
            fooled = generator_loss(self.discriminator(refined)[0])
        error = ((x - refined) ** 2).flatten(1).sum(1).mean()
        yield "refiner", fooled + self.weight * error

    def reconstruct(self, x):
        """Return the refined samples."""
        return self.refiner(x)

    def anomaly(self, x):
        """Return the log-odds against a real sample, or the refiner's error."""
        if self.measure == "reconstruction":
            return super().anomaly(x)
        seen = self.refiner(x) if self.measure == "refined" else x
        return -self.discriminator(seen)[0]

    def map(self, x):
        """Return the squared error of the refined samples."""
        return over_channels((x - self.reconstruct(x)) ** 2)

    def inspect(self, x):
        """Return the anomaly and the errors of samples that are refined once."""
        refined = self.refiner(x)
        maps = over_channels((x - refined) ** 2)
        if self.measure == "reconstruction":
            return maps.flatten(1).sum(1), maps
        seen = refined if self.measure == "refined" else x
        return -self.discriminator(seen)[0], maps


@with_parameters
class RefinerDetector(IncrementalNetworkMixin, GameDetector):
    """Base of refiners of noisy samples, and of the opinion of their discriminator.

    Parameters
    ----------
    latent_size : int, default=32
        Length of the code in the middle of the refiner.
    feature_size : int, default=64
        Units before the discriminator's last layer.
    noise : float, default=0.2
        Standard deviation of the noise in training.
    reconstruction_weight : float, default=0.4
        The weight of the refiner's error, summed over a sample, in its loss.
    measure : {"reconstruction", "refined", "direct"}, default="reconstruction"
        What counts: the squared error of the refined sample, the discriminator's
        opinion of it, or that of the sample.
    """

    _network_class = RefinerNetwork
    _optimizer_options = {"betas": (0.5, 0.999)}
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "feature_size": [Interval(Integral, 1, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "reconstruction_weight": [Interval(Real, 0, None, closed="left")],
        "measure": [StrOptions({"reconstruction", "refined", "direct"})],
    }

    latent_size: int = 32
    feature_size: int = 64
    noise: float = 0.2
    reconstruction_weight: float = 0.4
    measure: str = "reconstruction"

    @property
    def _map_sums_to_score(self):
        return self.measure == "reconstruction"

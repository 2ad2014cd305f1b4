"""Encoders that are trained to map normal samples close to fixed centres."""

import torch

from skad.nn.architecture import build
from skad.nn.attribution import integrated_gradients
from skad.nn.losses import element_errors, mean_error
from skad.nn.network import Network, over_channels
from skad.nn.statistics import quantile

# Coordinates of the centre nearer to zero could be reached by zero weights.
_AWAY_FROM_ZERO = 0.1
# Linear layers where no sizes are given: wide, as a narrow encoder without training to
# rebuild leaves features out.
_UNITS = (128,)


def away_from_zero(centre):
    """Return a centre with coordinates at least 0.1 away from zero."""
    near = centre.abs() < _AWAY_FROM_ZERO
    away = torch.where(centre < 0, -_AWAY_FROM_ZERO, _AWAY_FROM_ZERO)
    return torch.where(near, away, centre)


class HypersphereNetwork(Network):
    """An encoder without bias terms, pretrained as an autoencoder, and a centre.

    Subclasses write `loss`. The centre is the mean code of the training samples after
    the pretraining, with coordinates at least 0.1 away from zero.
    """

    phases = ("pretrain", "fit")
    warm_phases = ("fit",)
    optional_phases = ("fit",)

    def __init__(self, shape, latent_size, architecture, hidden_sizes):
        super().__init__()
        sizes, others = (shape, (latent_size,)), {"bias": False, "units": _UNITS}
        self.encoder = build(architecture, *sizes, hidden_sizes, **others)
        self.decoder = build(architecture, *sizes[::-1], hidden_sizes, **others)
        self.register_buffer("centre", torch.zeros(latent_size))
        self.register_buffer("baseline", torch.zeros(shape))

    def groups(self, phase):
        """Return the encoder's parameters, and the decoder's for the pretraining."""
        parts = [self.encoder, *([self.decoder] if phase == "pretrain" else [])]
        return {"all": [weight for part in parts for weight in part.parameters()]}

    def updates(self, phase, x, y):
        """Yield the error of the autoencoder, then the method's loss."""
        if phase == "pretrain":
            yield "all", mean_error(x, self.decoder(self.encoder(x)), "mse")
        else:
            yield "all", self.loss(x, y)

    def begin(self, phase, batches):
        """Fix the centre before the first epoch of the method's own loss."""
        if phase == "pretrain" or self.centre.any():
            return
        codes = torch.cat([self.codes(x) for x, _ in batches()])  # (n, latent_size)
        self.centre.copy_(away_from_zero(codes.mean(0)))
        total = sum(x.sum(0) for x, _ in batches())
        self.baseline.copy_(total / len(codes))

    def codes(self, x):
        """Return what has the centre, of shape (b, latent_size)."""
        return self.encoder(x)

    def squared_distance(self, x):
        """Return the squared distance of the codes to the centre, of shape (b,)."""
        codes = self.codes(x)
        return element_errors(codes, self.centre.expand_as(codes), "mse").sum(1)

    def anomaly(self, x):
        """Return the squared distance to the centre."""
        return self.squared_distance(x)

    def map(self, x):
        """Return the integrated gradients of the distance from the mean sample."""
        baseline = self.baseline.expand_as(x)
        return over_channels(integrated_gradients(self.anomaly, x, baseline))


class BoundaryNetwork(HypersphereNetwork):
    """Distances to centres, of all samples or beyond radii.

    `squared_distance` is of shape (b,), or (b, k) where there are k centres, whose
    losses are added; `radius` is () or (k,).
    """

    def __init__(
        self,
        shape,
        latent_size,
        architecture,
        hidden_sizes,
        objective,
        nu,
        n_warm_up_epochs,
    ):
        super().__init__(shape, latent_size, architecture, hidden_sizes)
        self.objective, self.nu = objective, nu
        self.n_warm_up_epochs = n_warm_up_epochs
        self.register_buffer("radius", torch.zeros(()))
        self.register_buffer("n_epochs", torch.zeros((), dtype=torch.int64))

    def loss(self, x, y):
        """Return the one-class or the soft-boundary objective on a batch."""
        distance = self.squared_distance(x)
        if self.objective == "one-class":
            return distance.mean(0).sum()
        beyond = (distance - self.radius**2).relu().mean(0)
        return (self.radius**2 + beyond / self.nu).sum()

    def end_epoch(self, phase, batches):
        """Solve for the radius, once the encoder has settled."""
        if phase == "fit" and self.objective == "soft-boundary":
            self.n_epochs += 1
            if self.n_epochs >= self.n_warm_up_epochs:
                self.finish(batches)

    def finish(self, batches, held=None):
        """Set the radius to the 1 - nu quantile of the training distances."""
        distance = torch.cat([self.squared_distance(x) for x, _ in batches()])
        self.radius.copy_(quantile(distance.sqrt(), 1 - self.nu))

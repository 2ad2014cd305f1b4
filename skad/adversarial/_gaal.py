"""Generative adversarial active learning: a judge of rows and of made outliers."""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import ShapedDetector
from skad._training._arguments import from_parameters
from skad.nn.adversarial import discriminator_loss, frozen, without_batch_norm
from skad.nn.architecture import build
from skad.nn.network import FromMeanNetwork


class Maker(nn.Module):
    """Two layers as wide as samples, which leave noise as it is before they learn."""

    def __init__(self, size):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU()
        )
        for layer in self.layers[::2]:
            nn.init.eye_(layer.weight)

    def forward(self, noise):
        """Make samples (b, *shape) of noise (b, *shape)."""
        return self.layers(noise.flatten(1)).reshape(noise.shape)


def shares(n, k):
    """Return how many of n samples k generators make, which fall with their number."""
    ends = torch.arange(k, 0, -1).cumsum(0).double() / (k * (k + 1) / 2) * n
    return ends.round().long().diff(prepend=torch.zeros(1, dtype=torch.int64)).tolist()


class GAALNetwork(FromMeanNetwork):
    """A judge of samples in 0..1, and makers of outliers that go for its scores.

    With one maker that is to be taken for real, else each goes for a quantile of the
    probabilities of samples.
    """

    phases = ("play", "fit")
    warm_phases = ("fit",)

    def __init__(self, shape, n_hidden, n_generators, architecture, hidden_sizes):
        super().__init__(shape)
        self.register_buffer("low", torch.full(shape, torch.inf))
        self.register_buffer("high", torch.full(shape, -torch.inf))
        self.discriminator = without_batch_norm(
            build(architecture, shape, (1,), hidden_sizes, units=(n_hidden,))
        )
        makers = [Maker(math.prod(shape)) for _ in range(n_generators)]
        self.generators = nn.ModuleList(makers)

    def groups(self, phase):
        """Return the weights of the judge, and of the makers while they learn."""
        judge = {"discriminator": self.discriminator.parameters()}
        if phase == "fit":
            return judge
        return {**judge, "generators": self.generators.parameters()}

    def begin(self, phase, batches):
        """Take the range of the training data."""
        if not self.low.isfinite().all():
            for x, _ in batches():
                low, high = x.aminmax(dim=0)
                self.low.copy_(torch.minimum(self.low, low))
                self.high.copy_(torch.maximum(self.high, high))

    def inside(self, x):
        """Return samples with the range of the training data brought to 0..1."""
        size = self.high - self.low
        return (x - self.low) / torch.where(size > 0, size, 1.0)

    def judged(self, x):
        """Return the logits (b,) that samples in 0..1 are real."""
        return self.discriminator(x).squeeze(1)

    def targets(self, x):
        """Return the probability that each maker goes for."""
        k = len(self.generators)
        if k == 1:
            return torch.ones(1, device=x.device)
        with torch.no_grad():
            found = self.judged(x).sigmoid().float()
        return found.quantile(torch.arange(k, device=x.device) / k)

    def updates(self, phase, x, y):
        """Yield the judge's cross entropy, and while they learn that of the makers."""
        x = self.inside(x)
        noise = torch.rand_like(x).split(shares(len(x), len(self.generators)))
        made = [make(one) for make, one in zip(self.generators, noise, strict=True)]
        fake = self.judged(torch.cat(made).detach())
        yield "discriminator", discriminator_loss(self.judged(x), fake)
        if phase == "play":
            total = 0.0
            with frozen(self.discriminator):
                for own, target in zip(made, self.targets(x), strict=True):
                    if len(own):
                        logits = self.judged(own)
                        total = total + functional.binary_cross_entropy_with_logits(
                            logits, target.expand_as(logits)
                        )
            yield "generators", total

    def watched(self, phase, x, y):
        """Return what the judge of held-out samples loses: the others oppose it."""
        return next(self.updates(phase, x, y))[1]

    def anomaly(self, x):
        """Return the log-odds against a real sample."""
        return -self.judged(self.inside(x))


@with_parameters
class GAALDetector(ShapedDetector):
    """Base of judges that learn from outliers which generators make.

    Parameters
    ----------
    play_epochs : int, default=20
        Epochs in which the generators learn too, before `max_epochs` of the
        discriminator alone.
    generator_lr : float, default=0.0001
        Learning rate of the generators.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the discriminator's layers between; None is one of the root
        of the number of training samples for linear layers.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `discriminator` and `generators`.
    """

    play_epochs: int = 20
    generator_lr: float = 1e-4
    hidden_sizes: Sequence[int] | None = None
    max_epochs: int | str = 40
    batch_size: int = 500
    lr: float = 0.01
    optimizer: str = "sgd"

    _network_class = GAALNetwork
    _optimizer_options = {"momentum": 0.9}
    _epoch_parameters = ("max_epochs", "play_epochs")
    _exports = False  # its map takes gradients
    _parameter_constraints = {
        "play_epochs": [Interval(Integral, 0, None, closed="left")],
        "generator_lr": [Interval(Real, 0, None, closed="neither")],
    }

    def _fit(self, X, y):
        if not hasattr(self, "_n_hidden_"):  # else warm_start goes on with it
            self._n_hidden_ = math.ceil(math.sqrt(X.shape[0]))
        super()._fit(X, y)

    def _n_makers(self):
        """Return how many generators there are."""
        raise NotImplementedError

    def _network(self, shape):
        made = {"n_hidden": self._n_hidden_, "n_generators": self._n_makers()}
        return from_parameters(self, self._network_class, shape, **made)

    def _epochs(self, phase):
        return self.play_epochs if phase == "play" else self.max_epochs

    def _optimizer_of(self, phase, group):
        return {"lr": self.generator_lr} if group == "generators" else {}

"""IGD: an autoencoder whose codes are one Gaussian, and what lies between decodes."""

from numbers import Integral, Real

import torch

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import ShapedDetector, polynomial
from skad.nn.architecture import build
from skad.nn.hypersphere import away_from_zero
from skad.nn.losses import ms_ssim
from skad.nn.network import FromMeanNetwork

# Of the error of pictures that of their structure; the rest is the absolute one.
_STRUCTURE = 0.85
# How far critics look from a reconstruction to the sample.
_TOWARDS = 0.2


def reconstruction_error(x, y):
    """Return the error (b,) of samples: absolute, of pictures in structure too."""
    error = (x - y).abs().flatten(1).mean(1)
    if x.ndim == 2:
        return error
    return _STRUCTURE * (1 - ms_ssim(x, y)) + (1 - _STRUCTURE) * error


class IGDNetwork(FromMeanNetwork):
    """An encoder, a decoder, a critic of what is decoded, and a Gaussian of codes."""

    def __init__(
        self,
        shape,
        latent_size,
        architecture,
        hidden_sizes,
        critic_weight,
        n_epochs_between,
    ):
        super().__init__(shape)
        self.encoder = build(architecture, shape, (latent_size,), hidden_sizes)
        self.decoder = build(architecture, (latent_size,), shape, hidden_sizes)
        self.critic = build(architecture, shape, (1,), hidden_sizes)
        self.critic_weight, self.n_epochs_between = critic_weight, n_epochs_between
        self.register_buffer("centre", torch.zeros(latent_size))
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("n_epochs", torch.zeros((), dtype=torch.int64))

    def groups(self, phase):
        """Return the parameters of the autoencoder and of the critic."""
        parts = [self.encoder, self.decoder]
        made = [weight for part in parts for weight in part.parameters()]
        return {"autoencoder": made, "critic": list(self.critic.parameters())}

    def estimate(self, batches):
        """Take the centre of the codes, and their mean squared distance, 1 or more."""
        codes = torch.cat([self.encoder(x) for x, _ in batches()])
        self.centre.copy_(away_from_zero(codes.mean(0)))
        distance = (codes - self.centre).square().sum(1).mean()
        self.scale.copy_(distance.clamp_min(1))

    def begin(self, phase, batches):
        """Take the Gaussian of the codes as the encoder is drawn."""
        self.estimate(batches)

    def end_epoch(self, phase, batches):
        """Take it again after some epochs."""
        self.n_epochs += 1
        if self.n_epochs % self.n_epochs_between == 0:
            self.estimate(batches)

    def spread(self, codes):
        """Return how far codes are from the centre, (b,), from 0 to 1."""
        distance = (codes - self.centre).square().sum(1)
        return -torch.expm1(-distance / self.scale)

    def reconstruct(self, x):
        """Return samples from their codes."""
        return self.decoder(self.encoder(x))

    def watched(self, phase, x, y):
        """Return the mean anomaly: the critic opposes it."""
        return self.anomaly(x).mean()

    def updates(self, phase, x, y):
        """Yield the loss of the autoencoder, then that of the critic."""
        codes = self.encoder(x)
        rebuilt = self.decoder(codes)
        share = torch.rand(len(x), 1, dtype=x.dtype, device=x.device) / 2
        between = self.decoder(share * codes + (1 - share) * codes.flip(0))
        loss = reconstruction_error(x, rebuilt).mean() + self.spread(codes).mean()
        fooled = self.critic(between).square().mean()
        yield "autoencoder", loss + self.critic_weight * fooled
        rebuilt, between = rebuilt.detach(), between.detach()
        told = (self.critic(between) - share).square().mean()
        real = self.critic(rebuilt + _TOWARDS * (x - rebuilt)).square().mean()
        yield "critic", told + real

    def anomaly(self, x):
        """Return half the error and half the spread, (b,)."""
        codes = self.encoder(x)
        error = reconstruction_error(x, self.decoder(codes))
        return (error + self.spread(codes)) / 2


@with_parameters
class IGD(ShapedDetector):
    r"""Samples that are not rebuilt from a code in one Gaussian, without gaps.

    The codes :math:`z = e(x)` of an autoencoder are drawn to a centre :math:`c`, whose
    distance counts by a scale :math:`\sigma`, and what is decoded from between two
    codes, :math:`\hat z = \alpha z + (1 - \alpha) z'` with :math:`z'` that of another
    sample and :math:`\alpha` from 0 to 1/2, has to look to a critic :math:`D` like no
    mixture. Encoder and decoder :math:`d` are trained to make the mean of

    .. math:: \rho(x, d(z)) + \Big(1 - e^{-\|z - c\|^2 / \sigma}\Big)
        + \lambda \, D(d(\hat z))^2

    small, the critic to make small that of
    :math:`(D(d(\hat z)) - \alpha)^2 + D(d(z) + 0.2 (x - d(z)))^2`. The error
    :math:`\rho` is the mean absolute one; of pictures in 0..1 it is 0.15 of that and
    0.85 of one less the multi-scale structural similarity. The anomaly is

    .. math:: a(x) = \frac12 \rho(x, d(z))
        + \frac12 \Big(1 - e^{-\|z - c\|^2 / \sigma}\Big).

    The map is its integrated gradients on the way from the mean training sample: their
    sum is the anomaly less that of the mean, up to the error of the quadrature.

    Read more in the :ref:`User Guide <one_class>`.

    Parameters
    ----------
    latent_size : int, default=128
        Length of the code.
    critic_weight : float, default=0.1
        The weight :math:`\lambda` of the critic.
    n_epochs_between : int, default=10
        Epochs after which :math:`c` and :math:`\sigma` are taken anew, from all
        training samples: their mean code, kept away from zero, and the mean squared
        distance to it, at least 1.
    max_epochs : int or "auto", default="auto"
        Passes over the training samples. "auto" is 256, or as many as see about 128,000
        samples where that is less, at least one.
    lr : float, default=0.0001
        Learning rate, which falls to zero as the rest of the epochs to the power 0.9.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `decoder`, `critic`, `centre` and
        `scale`.

    See Also
    --------
    DeepSVDD : Distances of codes alone.
    skad.reconstruction.AutoEncoder : Errors alone.

    Notes
    -----
    Features should be on one scale (StandardScaler). The authors begin with an encoder
    that was trained on ImageNet or by contrast, and add the largest anomaly of a second
    model for patches of 32 pixels; neither is built, nor the map of their similarity's
    scales. They report the best epoch on the test set. Rows are no data of theirs. Far
    out the part of the code is 1 for all, and the error alone tells samples apart.

    With 250 rows of each of ten tables, ``max_epochs=20, batch_size=64, lr=1e-3`` get a
    ROC AUC of .85 in the mean, a network at random and the norm of the standardized row
    .83; the defaults were no better on four of them, and take far longer. Pictures
    want a GPU: 20 epochs of 200 of a class of Fashion-MNIST took two minutes and told
    others with .92, the nearest neighbours of 500 with .88.

    References
    ----------
    .. [1] Y. Chen, Y. Tian, G. Pang and G. Carneiro, "Deep one-class classification via
       interpolated Gaussian descriptor", AAAI, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.one_class import IGD
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = IGD(max_epochs=20, lr=0.01, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [3.0, -3.0] * 3])
    array([ 1, -1])
    """

    latent_size: int = 128
    critic_weight: float = 0.1
    n_epochs_between: int = 10
    max_epochs: int | str = "auto"
    batch_size: int = 16
    lr: float = 1e-4
    weight_decay: float = 1e-6

    _network_class = IGDNetwork
    _optimizer_options = {"betas": (0.0, 0.9)}
    _exports = False  # its map takes gradients
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "critic_weight": [Interval(Real, 0, None, closed="left")],
        "n_epochs_between": [Interval(Integral, 1, None, closed="left")],
    }

    def _most_epochs(self):
        return 256

    def _own_callbacks(self, phase, n_epochs):
        return polynomial(n_epochs, 0.9)

"""HADGAN: spectra whose residual behind an adversarial autoencoder is far out."""

from numbers import Integral, Real

import torch
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import IncrementalNetworkMixin
from skad.adversarial._aae import AAENetwork
from skad.adversarial._game import GameDetector
from skad.nn.adversarial import (
    Discriminator,
    discriminator_loss,
    frozen,
    generator_loss,
    judged_together,
)
from skad.nn.network import over_channels

# Eigenvalues of a correlation matrix below this times the largest are raised to it.
_SMALLEST = 1e-8


class HADGANNetwork(AAENetwork):
    """Adversarial autoencoder with a critic of samples and a Gaussian of residuals."""

    def __init__(
        self,
        shape,
        latent_size,
        feature_size,
        code_weight,
        architecture,
        hidden_sizes,
    ):
        super().__init__(
            shape,
            latent_size,
            feature_size,
            "reconstruction",
            architecture,
            hidden_sizes,
        )
        self.critic = Discriminator(
            shape, architecture, hidden_sizes, n_features=feature_size
        )
        self.code_weight = code_weight
        self.register_buffer("location", torch.zeros(shape))
        size = self.location.numel()
        self.register_buffer("whitening", torch.eye(size))

    def groups(self, phase):
        """Return the weights of both critics and those of the autoencoder."""
        return {
            "discriminator": self.discriminator.parameters(),
            "critic": self.critic.parameters(),
            "autoencoder": [*self.encoder.parameters(), *self.decoder.parameters()],
        }

    def updates(self, phase, x, y):
        """Yield the losses of both critics, then the autoencoder's."""
        code = self.encoder(x)
        rebuilt = self.decoder(code)
        prior = torch.randn_like(code)
        logits = judged_together(self.discriminator, (prior,), (code.detach(),))
        yield "discriminator", discriminator_loss(*logits)
        logits = judged_together(self.critic, (x,), (rebuilt.detach(),))
        yield "critic", discriminator_loss(*logits)
        with frozen(self.discriminator, self.critic):
            fooled = generator_loss(self.discriminator(code)[0])
            fooled = fooled + generator_loss(self.critic(rebuilt)[0])
        loss = functional.mse_loss(rebuilt, x)
        loss = loss + functional.mse_loss(self.encoder(rebuilt), code)
        yield "autoencoder", loss + self.code_weight * code.square().mean() + fooled

    def residual(self, x):
        """Return what the decoder leaves of samples."""
        return x - self.decoder(self.encoder(x))

    def finish(self, batches, held=None):
        """Take the mean and the covariance of residuals from the training data."""
        n, total, products = 0, 0.0, 0.0
        for x, _ in batches():
            left = self.residual(x).flatten(1).double()
            n, total = n + len(left), total + left.sum(0)
            products = products + left.T @ left
        mean = total / n
        covariance = products / n - mean[:, None] * mean
        scale = covariance.diagonal().clamp(min=0).sqrt()
        scale = torch.where(scale > 1e-7 * scale.max(), scale, 1e-7 * scale.max())
        scale = torch.where(scale > 0, scale, 1.0)
        values, vectors = torch.linalg.eigh(covariance / scale / scale[:, None])
        values = values.clamp(min=_SMALLEST * values[-1].clamp(min=_SMALLEST))
        root = vectors * values.rsqrt() @ vectors.T
        self.location.copy_(mean.view_as(self.location))
        self.whitening.copy_(root / scale)

    def map(self, x):
        """Return the parts of the squared distance of the residual to their mean."""
        away = (self.residual(x) - self.location).flatten(1)
        white = away @ self.whitening.T
        return over_channels(white.square().view_as(x))

    def anomaly(self, x):
        return self.map(x).flatten(1).sum(1)

    def inspect(self, x):
        maps = self.map(x)
        return maps.flatten(1).sum(1), maps


@with_parameters
class HADGAN(IncrementalNetworkMixin, GameDetector):
    r"""Rows, such as spectra, whose residual lies far from the others' residuals.

    An encoder :math:`e` and a decoder :math:`d` rebuild the spectra of a hyperspectral
    scene, most of which are background, against a discriminator of codes as in `AAE`
    and a critic of rebuilt samples [1]_. Beside both parts of the game the autoencoder
    minimises

    .. math:: E\|x - \hat x\|^2 / m + E\|z - e(\hat x)\|^2 / k + \lambda E\|z\|^2 / k,
        \qquad z = e(x), \; \hat x = d(z),

    for :math:`m` elements and codes of :math:`k`. The anomaly is the squared
    Mahalanobis distance of the residual :math:`r = x - \hat x` to those of the training
    data (the RX detector),

    .. math:: a(x) = (r - \mu)^T \Sigma^{-1} (r - \mu),

    with their mean and covariance. The map has the parts of it that
    `skad.density.Mahalanobis` has, summed over channels, and sums to the score.

    Read more in the :ref:`User Guide <adversarial>`.

    Parameters
    ----------
    latent_size : int, default=8
        Length of the code.
    feature_size : int, default=64
        Units before the last layer of both critics, and of the hidden layer of that of
        codes.
    code_weight : float, default=0.1
        The weight :math:`\lambda` of the codes' squares.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `decoder`, `discriminator` of codes and
        `critic` of samples.

    See Also
    --------
    AAE : The error of the reconstruction, or the code's likelihood.

    Notes
    -----
    This is the part that looks at single spectra. The paper averages it with a filter
    of the scene, after both are scaled by the smallest and the largest value in it, so
    that a score depends on what else is scored. Its code is as long as the square root
    of the number of bands, plus one, and encoder and the others have optimizers of
    their own; weights of the parts of the loss are those of a repetition by others.
    On ten small tables, trained on 250 rows of each, the ROC AUC is .92 in the mean,
    where the norm of the standardized row gets .83. Three classes of Fashion-MNIST
    against the others get .87, by 1,500 pictures in 20 epochs of linear layers, and the
    distance to the mean .86; two of them .88 by convolutions, 600 pictures in 12
    epochs, and the distance .85.

    Eigenvalues of the residuals' correlation matrix below 1e-8 times the largest are
    raised to that. Fitting costs O(n m^2 + m^3) beside the training. Features should be
    on one scale (StandardScaler). Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] T. Jiang, Y. Li, W. Xie and Q. Du, "Discriminative reconstruction constrained
       generative adversarial network for hyperspectral anomaly detection", IEEE
       Transactions on Geoscience and Remote Sensing, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.adversarial import HADGAN
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 1)) + 0.1 * rng.normal(size=(200, 6))
    >>> detector = HADGAN(latent_size=1, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-1.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-1.0]]).argmax())
    5
    """

    _network_class = HADGANNetwork
    _map_sums_to_score = True
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "feature_size": [Interval(Integral, 1, None, closed="left")],
        "code_weight": [Interval(Real, 0, None, closed="left")],
    }

    latent_size: int = 8
    feature_size: int = 64
    code_weight: float = 0.1

"""FeaWAD: a score learned from what an autoencoder makes of a sample."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral, Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.nn.architecture import build
from skad.nn.losses import deviation_loss, mean_error
from skad.supervised._base import Scorer, SupervisedDetector

# Keeps the direction of a residual finite where a sample is rebuilt exactly.
_TINY = 1e-6


class NormedLayers(nn.Module):
    """Linear layers that are each told the length of the residual once more."""

    def __init__(self, size, hidden_sizes):
        super().__init__()
        sizes = [size, *hidden_sizes, 1]
        self.layers = nn.ModuleList(
            nn.Linear(wide + 1, narrow) for wide, narrow in pairwise(sizes)
        )

    def forward(self, x, length):
        """Map samples (b, size) and lengths (b, 1) to numbers (b,)."""
        for i, layer in enumerate(self.layers):
            x = layer(torch.cat([x.relu() if i else x, length], 1))
        return x.squeeze(1)


class FeaWADNetwork(Scorer):
    """An autoencoder, and layers that score code, residual and its length."""

    phases = ("pretrain", "fit")
    warm_phases = ("fit",)

    def __init__(
        self, shape, latent_size, architecture, hidden_sizes, scorer_sizes, margin
    ):
        super().__init__(shape)
        sizes = {"units": (128,)}
        self.encoder = build(architecture, shape, (latent_size,), hidden_sizes, **sizes)
        self.decoder = build(architecture, (latent_size,), shape, hidden_sizes, **sizes)
        size = self.baseline.numel() + latent_size
        self.scorer = NormedLayers(size, scorer_sizes)
        self.margin = margin

    def groups(self, phase):
        """Return the autoencoder's weights, then all."""
        parts = [self.encoder, self.decoder]
        parts += [self.scorer] if phase == "fit" else []
        return {"all": [weight for part in parts for weight in part.parameters()]}

    def updates(self, phase, x, y):
        """Yield the error of the samples that are no known anomalies, then the loss."""
        if phase == "fit":
            yield "all", self.loss(x, y)
        else:
            others = x[y != -1]
            yield "all", mean_error(others, self.reconstruct(others), "mse")

    def reconstruct(self, x):
        """Return the samples as the autoencoder rebuilds them."""
        return self.decoder(self.encoder(x))

    def described(self, x):
        """Return the scores (b,) and the lengths of the residuals (b,)."""
        code = self.encoder(x)
        residual = (x - self.decoder(code)).flatten(1)
        length = (residual.square().sum(1, keepdim=True) + _TINY**2).sqrt()
        features = torch.cat([residual / length, code], 1)
        return self.scorer(features, length), length.squeeze(1)

    def loss(self, x, y):
        """Return the deviation losses of the scores and of the residuals' lengths."""
        score, length = self.described(x)
        return deviation_loss(score, y == -1, self.margin) + deviation_loss(
            length, y == -1, self.margin
        )

    def anomaly(self, x):
        """Return the score."""
        return self.described(x)[0]


@with_parameters
class FeaWAD(SupervisedDetector):
    r"""Samples whose code and residual under an autoencoder look like known anomalies'.

    An autoencoder of code :math:`e(x)` and residual :math:`r(x) = x - \hat x` is
    trained on the samples that are no known anomalies. Then it is trained further with
    layers that give a number :math:`\phi(x)` to :math:`(r / \|r\|, e, \|r\|)`, each of
    which is told the length :math:`\|r\|` once more, to make the mean of

    .. math:: |\phi| + \|r\| \;\text{ for others, }\quad
        \max(0, a - \phi) + \max(0, a - \|r\|) \;\text{ for known anomalies}

    small, the deviation loss of :class:`DevNet`. The anomaly is :math:`\phi(x)`. The
    map is its integrated gradients on the way from the mean sample that is no known
    anomaly: their sum is the anomaly less that of the mean, up to the error of the
    quadrature.

    Read more in the :ref:`User Guide <supervised>`.

    Parameters
    ----------
    latent_size : int, default=64
        Length of the code.
    scorer_sizes : tuple of int, default=(256, 32)
        Units of the layers that score.
    margin : float, default=5.0
        The margin :math:`a` of known anomalies.
    pretrain_epochs : int or "auto", default="auto"
        Epochs of the autoencoder alone; "auto" as for `max_epochs`.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the autoencoder's layers between; None is (128,) for linear
        layers.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `decoder` and `scorer`.

    See Also
    --------
    DevNet : The same loss, on the samples themselves.

    Notes
    -----
    Features should be on one scale (StandardScaler). In the authors' code the residual
    is divided by its length before this is taken, so that :math:`\|r\|` is 1 in the
    loss and neither term has a gradient; here both have, as the paper says. Their
    autoencoder ends in a ReLU, which asks for features in 0..1; this does not. They
    train it for 2,000 steps and all for 600, at a rate of 1e-4.

    References
    ----------
    .. [1] Y. Zhou, X. Song, Y. Zhang, F. Liu, C. Zhu and L. Liu, "Feature encoding with
       autoencoders for weakly supervised anomaly detection", IEEE Transactions on
       Neural Networks and Learning Systems, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.supervised import FeaWAD
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(200, 4)), rng.normal(3, 1, size=(10, 4))])
    >>> y = np.repeat([0, -1], [200, 10])
    >>> detector = FeaWAD(random_state=0).fit(X, y)
    >>> detector.predict([[3.0] * 4, [0.0] * 4])
    array([-1,  1])
    """

    latent_size: int = 64
    scorer_sizes: Sequence[int] = (256, 32)
    margin: float = 5.0
    pretrain_epochs: int | str = "auto"
    hidden_sizes: Sequence[int] | None = None
    max_epochs: int | str = "auto"
    lr: float = 1e-4

    _network_class = FeaWADNetwork
    _epoch_parameters = ("max_epochs", "pretrain_epochs")
    _largest_norm = None
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "scorer_sizes": [tuple, list],
        "margin": [Interval(Real, 0, None, closed="neither")],
        "pretrain_epochs": [
            Interval(Integral, 0, None, closed="left"),
            StrOptions({"auto"}),
        ],
    }

    def _epochs(self, phase):
        return self.pretrain_epochs if phase == "pretrain" else self.max_epochs

"""DASVDD: an autoencoder whose codes gather around a centre that follows them."""

import math
from numbers import Integral, Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import ShapedDetector
from skad.nn.architecture import build
from skad.nn.attribution import integrated_gradients
from skad.nn.network import Network, over_channels

# Networks at random that weigh the two errors, and the units of linear layers where no
# sizes are given.
_DRAWN, _UNITS = 10, (128,)


def squared_norm(x):
    """Return the sums of squares (b,) of samples."""
    return x.square().flatten(1).sum(1)


class DASVDDNetwork(Network):
    """An encoder, a decoder and a centre of codes, with an optimizer of its own."""

    def __init__(
        self, shape, latent_size, architecture, hidden_sizes, gamma, network_share
    ):
        super().__init__()
        self.sizes = architecture, tuple(shape), (latent_size,), hidden_sizes
        self.encoder, self.decoder = self.drawn()
        self.centre = nn.Parameter(torch.randn(latent_size))
        self.network_share, self.weigh = network_share, gamma == "auto"
        weight = math.nan if self.weigh else float(gamma)
        self.register_buffer("gamma", torch.tensor(weight))
        self.register_buffer("baseline", torch.zeros(shape))

    def drawn(self):
        """Return an encoder and a decoder at random."""
        architecture, shape, code, hidden_sizes = self.sizes
        sizes = hidden_sizes, True, _UNITS
        return (
            build(architecture, shape, code, *sizes),
            build(architecture, code, shape, *sizes),
        )

    def groups(self, phase):
        """Return the parameters of the autoencoder, and the centre."""
        parts = [*self.encoder.parameters(), *self.decoder.parameters()]
        return {"autoencoder": parts, "centre": [self.centre]}

    # ------------------------------------------------------------------------- training

    def begin(self, phase, batches):
        """Weigh the distance by what both errors are of networks at random."""
        n, total = 0, 0.0
        for x, _ in batches():
            n, total = n + len(x), total + x.sum(0)
        self.baseline.copy_(total / n)
        if self.weigh and self.gamma.isnan():
            ratios = [self.ratio(batches) for _ in range(_DRAWN)]
            self.gamma.copy_(torch.stack(ratios).mean())

    def ratio(self, batches):
        """Return the error of a network at random over the squares of its codes."""
        error = squares = 0.0
        encoder, decoder = (part.to(self.baseline).eval() for part in self.drawn())
        for x, _ in batches():
            codes = encoder(x)
            error = error + squared_norm(x - decoder(codes)).sum()
            squares = squares + squared_norm(codes).sum()
        return error / squares.clamp_min(torch.finfo(squares.dtype).tiny)

    def updates(self, phase, x, y):
        """Yield the loss of the autoencoder, then of the centre, of different samples.

        At least one of a batch of several is the centre's.
        """
        n = min(math.ceil(self.network_share * len(x)), len(x) - 1)
        first, others = (slice(n), slice(n, None)) if n else (slice(1), slice(1))
        # all of them pass: norms need more than one
        yield "autoencoder", self.errors(x, self.centre.detach())[first].mean()
        with torch.no_grad():
            mean = self.encoder(x)[others].mean(0)
        yield "centre", (self.centre - mean).square().mean()

    def watched(self, phase, x, y):
        """Return the mean anomaly."""
        return self.anomaly(x).mean()

    # -------------------------------------------------------------------------- scoring

    def errors(self, x, centre):
        """Return the error and the weighed distance of samples, added up, (b,)."""
        codes = self.encoder(x)
        away = squared_norm(codes - centre)
        return squared_norm(x - self.decoder(codes)) + self.gamma * away

    def reconstruct(self, x):
        """Return samples from their codes."""
        return self.decoder(self.encoder(x))

    def distance(self, x):
        """Return the weighed distance (b,) of the codes to the centre."""
        return self.gamma * squared_norm(self.encoder(x) - self.centre)

    def anomaly(self, x):
        """Return the error and the weighed distance of samples, added up, (b,)."""
        return self.errors(x, self.centre)

    def map(self, x):
        """Return squared errors, and the distance's gradients from the mean sample."""
        way = integrated_gradients(self.distance, x, self.baseline.expand_as(x))
        return over_channels((x - self.reconstruct(x)).square() + way)


@with_parameters
class DASVDD(ShapedDetector):
    r"""Samples that an autoencoder rebuilds badly, or codes far from the centre.

    An encoder :math:`e` and a decoder :math:`d` are trained together with a centre
    :math:`c` of the codes :math:`z = e(x)`. The anomaly is what they make small,

    .. math:: a(x) = \|x - d(z)\|^2 + \gamma \, \|z - c\|^2,

    so that codes cannot all fall into one point, as nothing could be rebuilt from it.
    Steps alternate: with nine tenths of a batch the networks take one while the centre
    stays, then the centre takes one towards the mean code of the others. The weight
    :math:`\gamma` is the error over :math:`\|z\|^2` of networks at random, by which
    both parts count the same at first, the mean of ten [1]_.

    The map has the squared errors, and beside them the integrated gradients of the
    second part on the way from the mean training sample: the sum is the anomaly less
    the second part of that mean, up to the error of the quadrature.

    Read more in the :ref:`User Guide <one_class>`.

    Parameters
    ----------
    latent_size : int, default=16
        Length of the code.
    gamma : float or "auto", default="auto"
        The weight :math:`\gamma`; 0 is an autoencoder.
    network_share : float, default=0.9
        Share of a batch that the networks learn from, in (0, 1); the rest, at least one
        sample, moves the centre.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the layers between, from the sample's side; None is (128,)
        for linear layers and (32, 64, 128) for convolutions.
    lr : float, default=0.001
        Learning rate of the networks. The centre's is 1, by AdaGrad, and decays.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `decoder`, `centre` and `gamma`.

    See Also
    --------
    DeepSVDD : The second part alone, and a centre that stays.
    IGD : The centre is taken anew now and then, and a critic fills gaps between codes.
    skad.reconstruction.AutoEncoder : The first part alone.

    Notes
    -----
    Features should be on one scale (StandardScaler). In the authors' code the distance
    is that of the first sample of a batch alone, in training and for :math:`\gamma`;
    the centre's gradients add up over all steps, those of the networks' loss among
    them; and a batch of nine or less has no code for the centre. Here it is the mean of
    the batch, gradients begin anew, and one sample at least is the centre's. Their
    error is the mean over features; here it is the sum, and :math:`\gamma` grows with
    it. Their networks have two layers more, leaky, also behind the code.

    With up to 1,000 normal rows of each of ten tables the defaults get a mean ROC AUC
    of .90, the network without training .81, the norm of the standardized row .83,
    `AutoEncoder` .89 and `DeepSVDD` .92; 200 epochs, toward the authors' 300, get .92.

    Of 300 pictures of a class of Fashion-MNIST they get .90 against other classes, mean
    of two, the network without training .57, `AutoEncoder` .89.

    DSPSVDD (Zhang and Deng, 2021) trains an autoencoder and a ball together as well; of
    its weights and its score too little is known to build it.

    References
    ----------
    .. [1] H. Hojjati and N. Armanfard, "DASVDD: deep autoencoding support vector data
       descriptor for anomaly detection", IEEE Transactions on Knowledge and Data
       Engineering, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.one_class import DASVDD
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = DASVDD(max_epochs=20, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [3.0, -3.0] * 3])
    array([ 1, -1])
    """

    _network_class = DASVDDNetwork
    _exports = False  # its map takes gradients
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "gamma": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "network_share": [Interval(Real, 0, 1, closed="neither")],
    }

    latent_size: int = 16
    gamma: float | str = "auto"
    network_share: float = 0.9
    max_epochs: int | str = "auto"
    batch_size: int = 128
    lr: float = 1e-3

    def _optimizer_of(self, phase, group):
        if group == "autoencoder":
            return {}
        adagrad = torch.optim.Adagrad
        return {"optimizer": adagrad, "lr": 1.0, "lr_decay": 0.01, "weight_decay": 0.0}

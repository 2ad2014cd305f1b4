"""OCNN: the hyperplane of a one-class SVM on a layer that is learned with it."""

import math
from numbers import Integral, Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import ShapedDetector
from skad.nn.architecture import build
from skad.nn.losses import mean_error
from skad.nn.network import FromMeanNetwork


class Cosine(nn.Module):
    """The cosine of h inputs, over the square root of h."""

    def forward(self, x):
        """Return values of the shape (b, h) of `x`, of norm one at most."""
        return x.cos() / math.sqrt(x.shape[1])


ACTIVATIONS = {"cosine": Cosine, "sigmoid": nn.Sigmoid, "linear": nn.Identity}


def lower_quantile(values, nu):
    """Return the least number that a share `nu` of values (n,) is not above."""
    place = max(1, math.ceil(nu * len(values) - 1e-9))
    return values.sort().values[place - 1]


class OCNNNetwork(FromMeanNetwork):
    """A hidden layer without shift, on samples or their codes, and a direction."""

    phases = ("pretrain", "fit")
    warm_phases = ("fit",)

    def __init__(
        self,
        shape,
        nu,
        n_hidden,
        activation,
        hidden_penalty,
        pretrain_epochs,
        latent_size,
        architecture,
        hidden_sizes,
    ):
        super().__init__(shape)
        self.nu, self.hidden_penalty = nu, hidden_penalty
        self.encoder, size = nn.Flatten(), math.prod(shape)
        if pretrain_epochs:
            self.encoder = build(architecture, shape, (latent_size,), hidden_sizes)
            self.decoder = build(architecture, (latent_size,), shape, hidden_sizes)
            size = latent_size
        self.hidden = nn.Linear(size, n_hidden, bias=False)
        self.direction = nn.Linear(n_hidden, 1, bias=False)
        self.activation = ACTIVATIONS[activation]()
        if activation == "cosine":  # waves of a Gaussian kernel of gamma = 1 / size
            nn.init.normal_(self.hidden.weight, std=math.sqrt(2 / size))
        self.register_buffer("distance", torch.zeros(()))
        # the mean variance of what the layer sees, as its waves were made for it
        self.register_buffer("variance", torch.zeros(()))

    def projection(self, x):
        """Return where samples lie along the direction, of shape (b,)."""
        return self.direction(self.activation(self.hidden(self.encoder(x)))).squeeze(1)

    def objective(self, projection):
        """Return what is minimised, of projections (b,)."""
        size = self.direction.weight.square().sum()
        size = size + self.hidden_penalty * self.hidden.weight.square().sum()
        short = (self.distance - projection).relu().mean()
        return size / 2 + short / self.nu - self.distance

    def updates(self, phase, x, y):
        """Yield the error of the autoencoder, then the objective at this distance."""
        if phase == "fit":
            yield "all", self.objective(self.projection(x))
        else:
            yield "all", mean_error(x, self.decoder(self.encoder(x)), "mse")

    def begin(self, phase, batches):
        """Begin with the best distance for the weights as they are drawn."""
        if phase == "fit" and isinstance(self.activation, Cosine) and not self.variance:
            seen = torch.cat([self.encoder(x) for x, _ in batches()])
            self.variance.copy_(seen.var(0, correction=0).mean().clamp_min(1e-12))
            self.hidden.weight.div_(self.variance.sqrt())
        self.end_epoch(phase, batches)

    def end_epoch(self, phase, batches):
        """Solve for the distance: the quantile of all projections."""
        if phase == "fit":
            found = torch.cat([self.projection(x) for x, _ in batches()])
            self.distance.copy_(lower_quantile(found, self.nu))

    def finish(self, batches, held=None):
        """Keep the mean sample, and the distance of the weights that are kept."""
        super().finish(batches, held)
        self.end_epoch("fit", batches)

    def anomaly(self, x):
        """Return how far below the hyperplane samples lie."""
        return self.distance - self.projection(x)


@with_parameters
class OCNN(ShapedDetector):
    r"""Samples on the near side of a hyperplane, beyond a layer learned with it.

    A layer :math:`V` without shift and a direction :math:`w` project samples to
    :math:`s(x) = \langle w, g(V x) \rangle`. They are trained as in a one-class SVM to
    bring all but a share :math:`\nu` of the normal samples beyond a distance
    :math:`r`,

    .. math:: \min_{w, V, r} \; \frac12 \|w\|^2 + \frac{\lambda}{2} \|V\|_F^2
        + \frac{1}{\nu n} \sum_i \max(0, r - s(x_i)) - r,

    by steps for :math:`w` and :math:`V`, and after each epoch by the best :math:`r`,
    the quantile of share :math:`\nu` of all :math:`s(x_i)`. The anomaly is
    :math:`a(x) = r - s(x)`. The map is its integrated gradients on the way from the
    mean training sample: their sum is the anomaly less that of the mean, up to the
    error of the quadrature.

    Read more in the :ref:`User Guide <one_class>`.

    Parameters
    ----------
    nu : float, default=0.1
        The share :math:`\nu`, in (0, 1).
    n_hidden : int, default=128
        Units of the layer `V`.
    activation : {"cosine", "sigmoid", "linear"}, default="cosine"
        The function :math:`g`. "cosine", over the root of `n_hidden`, is that of the
        authors' network; the other two are those of the paper, see Notes.
    hidden_penalty : float, default=0.0
        The weight :math:`\lambda` of the size of `V`; the paper's is 1, see Notes.
    pretrain_epochs : int, default=0
        Epochs of an autoencoder before, whose code is what `V` sees, and whose encoder
        is trained along; with 0 `V` sees the samples.
    latent_size : int, default=32
        Length of that code.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `hidden` (:math:`V`), `direction`
        (:math:`w`) and `distance` (:math:`r`).

    See Also
    --------
    OneClassSVM : The hyperplane alone, in a kernel's feature space.
    DeepSVDD : A ball instead of a hyperplane.

    Notes
    -----
    Features should be on one scale (StandardScaler).

    With "cosine" the columns of `V` are drawn from a Gaussian, over the root of the
    mean variance of what `V` sees, so that the units are random waves of a Gaussian
    kernel, as wide as the data are. The authors' network has cosines of narrower
    waves, hardly trains them, at a learning rate of 1e-8, and takes the larger of two
    outputs. The penalty on `V` that the paper has is left out, since with it the least
    objective has :math:`V = 0`, where all scores are the same and `fit` warns: training
    only has to be long enough, as on 2,000 pictures; without it that takes far longer.
    For half of the normal rows of 25
    tables, 2,000 pictures of three classes of Fashion-MNIST and some 1,600 rows of four
    large tables the ROC AUC is .72, .90 and .52 in the mean, with ``hidden_penalty=1``
    .70, .43 and .42, with weights that are not trained .54, .54 and .55, and that of
    the distance to the mean .67, .87 and .42. Of all test pictures of the ten classes
    it gets .91. A pretrained code does worse on tables (.68).

    With "linear" the objective, penalty included, is proportional to the size of
    :math:`V^T w`, so that its least value is zero or minus infinity, and with "sigmoid"
    and centred features the projections of all samples become equal: either gets .41 to
    .52 on those tables, with the penalty or without it.

    References
    ----------
    .. [1] R. Chalapathy, A. K. Menon and S. Chawla, "Anomaly detection using one-class
       neural networks", arXiv:1802.06360, 2018, equations (3) to (5), algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.one_class import OCNN
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> detector = OCNN(random_state=0).fit(X)
    >>> detector.predict([[0.0] * 4, [4.0] * 4])
    array([ 1, -1])
    """

    nu: float = 0.1
    n_hidden: int = 128
    activation: str = "cosine"
    hidden_penalty: float = 0.0
    pretrain_epochs: int = 0
    latent_size: int = 32
    max_epochs: int | str = "auto"

    _network_class = OCNNNetwork
    _epoch_parameters = ("max_epochs", "pretrain_epochs")
    _exports = False  # its map takes gradients
    _parameter_constraints = {
        "nu": [Interval(Real, 0, 1, closed="neither")],
        "n_hidden": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "hidden_penalty": [Interval(Real, 0, None, closed="left")],
        "pretrain_epochs": [Interval(Integral, 0, None, closed="left")],
        "latent_size": [Interval(Integral, 1, None, closed="left")],
    }

    def _epochs(self, phase):
        return self.pretrain_epochs if phase == "pretrain" else self.max_epochs

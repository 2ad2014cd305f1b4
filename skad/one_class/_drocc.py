"""DROCC: a boundary against points that are sought near the normal samples."""

from collections.abc import Sequence
from math import prod
from numbers import Integral, Real

import torch
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import ShapedDetector
from skad.nn.architecture import build
from skad.nn.attribution import input_gradients
from skad.nn.network import FromMeanNetwork

# Steps of the search after which points go back to the shell.
_PROJECT_EVERY = 10


def lengths(x):
    """Return the lengths of samples (b, ...), of shape (b, 1, ...)."""
    return x.flatten(1).norm(dim=1).reshape(-1, *[1] * (x.ndim - 1))


def onto_shell(away, radius, gamma):
    """Return differences (b, ...) with lengths brought into radius..gamma * radius."""
    length = lengths(away).clamp_min(1e-12)
    return away / length * length.clamp(radius, gamma * radius)


class DROCCNetwork(FromMeanNetwork):
    """A network of one number, high for what is not normal."""

    phases = ("pretrain", "fit")
    warm_phases = ("fit",)

    def __init__(
        self,
        shape,
        architecture,
        hidden_sizes,
        radius,
        gamma,
        adversarial_weight,
        n_steps,
        step_size,
    ):
        super().__init__(shape)
        self.scorer = build(architecture, shape, (1,), hidden_sizes, units=(128,))
        self.given = radius
        self.gamma, self.weight = gamma, adversarial_weight
        self.n_steps, self.step_size = n_steps, step_size
        self.register_buffer("deviation", torch.zeros(()))
        self.register_buffer("radius", torch.zeros(()))

    def begin(self, phase, batches):
        """Take the deviation of the training data, and the radius."""
        if self.deviation:  # it goes on with what it has begun with
            return
        x = torch.cat([x for x, _ in batches()])
        deviation = x.var(0, correction=0).mean().sqrt().clamp_min(1e-6)
        self.deviation.copy_(deviation)
        half = prod(x.shape[1:]) ** 0.5 / 2
        self.radius.copy_(half * deviation if self.given is None else self.given)

    def negatives(self, x):
        """Return points on the shell around samples that look most like normal ones."""
        away = self.deviation * torch.randn_like(x)
        for i in range(self.n_steps):
            # the loss of a point that is no normal one grows as the number falls
            uphill = -input_gradients(self.anomaly, x + away)
            uphill = uphill / lengths(uphill).clamp_min(1e-12)
            away = away + self.step_size * self.deviation * uphill
            if (i + 1) % _PROJECT_EVERY == 0:
                away = onto_shell(away, self.radius, self.gamma)
        return x + onto_shell(away, self.radius, self.gamma)

    def updates(self, phase, x, y):
        """Yield the cross-entropy of normal samples, in "fit" of negatives too."""
        loss = functional.softplus(self.anomaly(x)).mean()
        if phase == "fit":
            negatives = self.negatives(x).detach()
            others = functional.softplus(-self.anomaly(negatives)).mean()
            loss = loss + self.weight * others
        yield "all", loss

    def anomaly(self, x):
        """Return the network's number, minus the logit of being normal."""
        return self.scorer(x).squeeze(1)


@with_parameters
class DROCC(ShapedDetector):
    r"""Samples like points at some distance from all normal ones.

    Normal samples are taken to lie on a smooth surface, and points at a distance
    :math:`r` to :math:`\gamma r` of them not to. A network :math:`f` is trained by the
    cross-entropy to be low on normal samples and high on such points, which in each
    step are sought where :math:`f` is lowest, from noise by some steps along the
    gradient:

    .. math:: \min_f \; \frac1n \sum_i \Big[\log(1 + e^{f(x_i)}) + \mu
        \max_{r \le \|h\| \le \gamma r} \log(1 + e^{-f(x_i + h)})\Big].

    The anomaly is :math:`a(x) = f(x)`. The map is its integrated gradients on the way
    from the mean training sample: their sum is the anomaly less that of the mean, up to
    the error of the quadrature.

    Read more in the :ref:`User Guide <one_class>`.

    Parameters
    ----------
    radius : float or None, default=None
        The distance :math:`r`; None is half the square root of the number of features
        times their deviation, the root of their mean variance in the training data.
    gamma : float, default=2.0
        The factor :math:`\gamma`, at least 1.
    adversarial_weight : float, default=1.0
        The weight :math:`\mu`.
    n_steps : int, default=10
        Steps of the search.
    step_size : float, default=0.1
        Length of a step, in units of that deviation, as is the noise at the start.
    pretrain_epochs : int, default=0
        Epochs before, on normal samples alone.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the layers between; None is (128,) for linear layers.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `scorer`.

    See Also
    --------
    DeepSVDD : Draws normal samples to a centre, against nothing.

    Notes
    -----
    Features should be on one scale (StandardScaler), whatever it is: radius, noise and
    steps follow it. Each batch costs `n_steps` more passes and gradients.

    The authors train the first half of the epochs without the search, and take 50 steps
    of length 0.001, which leave the noise about where it is: with 250 rows of each of
    ten tables that gets a ROC AUC of .84 in the mean, the defaults .90, no training
    .55, and the norm of the standardised row .83; on half of the normal rows of 13
    other tables the defaults get .70, no training .47 and the norm .66. Of 2,000
    pictures of three classes of Fashion-MNIST, with linear layers and 10 epochs, it
    learns to tell others with .87, with the radius and noise of standardised features
    with .82, without training .34, and the distance to the mean picture with .87.
    Longer training does not help, but ``lr=1e-4`` does (.89). With that all ten classes
    have .88, below the distance to the mean, which has .89. They keep the weights that
    do best on labelled test data; here the last ones are kept. The score is the logit,
    whose sigmoid would make clear cases equal.

    References
    ----------
    .. [1] S. Goyal, A. Raghunathan, M. Jain, H. V. Simhadri and P. Jain, "DROCC: deep
       robust one-class classification", ICML, 2020, section 3, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.one_class import DROCC
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> detector = DROCC(random_state=0).fit(X)
    >>> detector.predict([[0.0] * 4, [4.0] * 4])
    array([ 1, -1])
    """

    radius: float | None = None
    gamma: float = 2.0
    adversarial_weight: float = 1.0
    n_steps: int = 10
    step_size: float = 0.1
    pretrain_epochs: int = 0
    hidden_sizes: Sequence[int] | None = None
    max_epochs: int | str = "auto"

    _network_class = DROCCNetwork
    _epoch_parameters = ("max_epochs", "pretrain_epochs")
    _costly = ("n_steps",)
    _exports = False  # its map takes gradients
    _parameter_constraints = {
        "radius": [Interval(Real, 0, None, closed="neither"), None],
        "gamma": [Interval(Real, 1, None, closed="left")],
        "adversarial_weight": [Interval(Real, 0, None, closed="neither")],
        "n_steps": [Interval(Integral, 0, None, closed="left")],
        "step_size": [Interval(Real, 0, None, closed="neither")],
        "pretrain_epochs": [Interval(Integral, 0, None, closed="left")],
    }

    def _epochs(self, phase):
        return self.pretrain_epochs if phase == "pretrain" else self.max_epochs

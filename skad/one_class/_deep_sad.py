"""Deep semi-supervised anomaly detection."""

from numbers import Integral, Real

import torch

from skad._fit_parameters import OutliersMixin
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import ShapedDetector
from skad.nn.hypersphere import HypersphereNetwork

# Keeps the inverse distance of a known anomaly at the centre finite, as the authors do.
_TINY = 1e-6


class DeepSADNetwork(HypersphereNetwork):
    """Pulls normal and unlabelled samples to the centre, pushes anomalies away."""

    def __init__(self, shape, latent_size, architecture, hidden_sizes, eta):
        super().__init__(shape, latent_size, architecture, hidden_sizes)
        self.eta = eta

    def loss(self, x, y):
        """Return the mean of distances, inverse for anomalies, weighted where known."""
        distance = self.squared_distance(x)
        if y is None:
            return distance.mean()
        known = self.eta * torch.where(y < 0, 1 / (distance + _TINY), distance)
        return torch.where(y == 0, distance, known).mean()


@with_parameters
class DeepSAD(OutliersMixin, ShapedDetector):
    r"""Samples that a trained encoder maps away from normal ones, to known anomalies.

    As :class:`DeepSVDD` pulls the codes :math:`\phi(x)` of unlabelled samples to a
    centre :math:`c`, so does this; samples that are known to be normal
    (:math:`y = 1`) or anomalous (:math:`y = -1`) count :math:`\eta` times, and the
    anomalous ones are pushed away by the inverse of their distance:

    .. math:: \min_\phi \; \frac{1}{n + m} \sum_{y_i = 0} \|\phi(x_i) - c\|^2
        + \frac{\eta}{n + m} \sum_{y_j \ne 0} \big(\|\phi(x_j) - c\|^2\big)^{y_j}.

    The anomaly is :math:`a(x) = \|\phi(x) - c\|^2`. The map is its integrated
    gradients on the way from the mean training sample: their sum is the anomaly less
    that of the mean, up to the error of the quadrature.

    Read more in the :ref:`User Guide <one_class>`.

    Parameters
    ----------
    eta : float, default=1.0
        Weight :math:`\eta` of the labelled samples.
    latent_size : int, default=64
        Length of the code.
    pretrain_epochs : int, default=0
        Epochs of an autoencoder that is trained before; 0 leaves the encoder at random.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the layers between, from the sample's side; None is (128,)
        for linear layers and (32, 64, 128) for convolutions.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `decoder` and `centre`.

    See Also
    --------
    DeepSVDD : Without labels.
    SVDD : The smallest ball in a kernel's feature space, with known anomalies.

    Notes
    -----
    Features should be on one scale (StandardScaler). Labels are those of scikit-learn:
    1 normal, -1 anomalous, and 0 for samples without one; any other counts as
    unlabelled, with a warning. Samples in `X_outliers` count as -1. Without labels the
    loss is that of DeepSVDD. The centre comes from all samples that are trained on,
    known anomalies too, as in the authors' code; the threshold never from known
    anomalies unless `contamination` is a number. The defaults are those of
    :class:`DeepSVDD`: the paper's pretraining and many steps are worse on tables.

    References
    ----------
    .. [1] L. Ruff et al., "Deep semi-supervised anomaly detection", ICLR, 2020,
       equation (8).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.one_class import DeepSAD
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(200, 4)), rng.normal(2, 1, size=(20, 4))])
    >>> y = np.repeat([0, -1], [200, 20])
    >>> detector = DeepSAD(random_state=0).fit(X, y)
    >>> detector.score_samples([[2.0] * 4, [-1.0] * 4]).argmin()
    np.int64(0)
    """

    _network_class = DeepSADNetwork
    _epoch_parameters = ("max_epochs", "pretrain_epochs")
    _uses_labels = True
    _exports = False  # its map takes gradients
    _parameter_constraints = {
        "eta": [Interval(Real, 0, None, closed="neither")],
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "pretrain_epochs": [Interval(Integral, 0, None, closed="left")],
    }

    eta: float = 1.0
    latent_size: int = 64
    pretrain_epochs: int = 0
    max_epochs: int | str = "auto"
    lr: float = 1e-4
    weight_decay: float = 1e-6

    def _epochs(self, phase):
        return self.pretrain_epochs if phase == "pretrain" else self.max_epochs

"""LogitNorm: a classifier whose loss does not see how large its logits are."""

from numbers import Real

import torch
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.ood._exposed_classifier import ExposedNetwork
from skad.ood._trained import TrainedClassifier

# Added to lengths that are divided by, as the authors do.
_TINY = 1e-7


class LogitNormNetwork(ExposedNetwork):
    """A classifier with the cross entropy of logits of one length."""

    def __init__(self, shape, n_classes, architecture, hidden_sizes, temperature):
        super().__init__(shape, n_classes, architecture, hidden_sizes)
        self.temperature = temperature

    def inside(self, z, y):
        """Return the cross entropy of the logits brought to length 1 / temperature."""
        length = torch.linalg.vector_norm(z, dim=1, keepdim=True) + _TINY
        unit = z / (length * self.temperature)
        return functional.cross_entropy(unit, y, reduction="none")


@with_parameters
class LogitNorm(TrainedClassifier):
    r"""Inputs of which a classifier is unsure whose logits could not grow to be sure.

    Once all rows are classified correctly, the cross entropy falls further as the
    logits grow, and with them the confidence in any input. So a network is trained with
    the cross entropy of logits :math:`z` of one length [1]_,

    .. math:: \min \; E_{(x, y)} \left[-\log
        \mathrm{softmax}_y\Big(\frac{z(x)}{\tau \, \|z(x)\|}\Big)\right].

    The anomaly is that of the logits as they are, :math:`a(x) = -\max_c
    \mathrm{softmax}(z(x))_c`. The map attributes it to the input by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    temperature : float, default=0.04
        Temperature :math:`\tau`, above 0.

    See Also
    --------
    MaxSoftmax : The same anomaly of any classifier.
    MahalanobisOOD : With ``normalize=True`` the best score of such a network on digits.

    Notes
    -----
    Training and score belong together: the sizes of the logits are not learned, so that
    `Energy` and `MaxLogit` of `net_` may fail. The authors train deep networks for long
    by gradient descent with momentum; here the optimizer is a parameter. Known outliers
    are left out. Features should be on one scale (StandardScaler).

    References
    ----------
    .. [1] H. Wei et al., "Mitigating neural network overconfidence with logit
       normalization", ICML, 2022, equation (5).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import LogitNorm
    >>> rng = np.random.default_rng(0)
    >>> X = np.repeat([[-3, 0], [3, 0]], 100, axis=0) + rng.normal(size=(200, 2))
    >>> y = np.repeat(["left", "right"], 100)
    >>> detector = LogitNorm(random_state=0).fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _network_class = LogitNormNetwork
    _parameter_constraints = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    temperature: float = 0.04

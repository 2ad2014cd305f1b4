"""GEN: generalised entropy of the largest class probabilities."""

from numbers import Integral, Real

from skad._array import namespace
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.ood._base import ClassifierDetector


def generalized_entropy(log_probabilities, gamma=0.1, n_top=100):
    """Return sum p^gamma (1 - p)^gamma over the largest `n_top` of each row (b, c)."""
    xp = namespace(log_probabilities)
    c = log_probabilities.shape[1]
    if n_top < c:
        log_probabilities = xp.sort(log_probabilities, axis=1)[:, c - n_top :]
    # 1 - p without cancellation; exactly 1 has no entropy
    rest = -xp.expm1(log_probabilities)
    return xp.sum(xp.exp(gamma * log_probabilities) * rest**gamma, axis=1)


@with_parameters
class GEN(ClassifierDetector):
    r"""Inputs with much generalised entropy in the largest class probabilities.

    With the class probabilities in descending order, :math:`p_1 \ge p_2 \ge \dots`, the
    anomaly is

    .. math:: a(x) = \sum_{c=1}^{M} p_c^\gamma (1 - p_c)^\gamma,

    which for a small :math:`\gamma` magnifies deviations from a one-hot prediction,
    while :math:`M` leaves the noise of many small probabilities out [1]_.
    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    gamma : float, default=0.1
        Exponent :math:`\gamma` in (0, 1).
    n_top : int, default=100
        Number :math:`M` of the largest probabilities; all where there are fewer.

    See Also
    --------
    Entropy : Shannon's.

    Notes
    -----
    Computed from the logarithms of the probabilities: a probability near one keeps its
    distance from one. The cost is the classifier's.

    `fit` without `y` needs a fitted classifier. A linear classifier grows surer the
    farther a sample is from its boundary, on either side and without end, so that far
    samples look normal to it; classifiers that level out do not have this fault.

    References
    ----------
    .. [1] X. Liu, Y. Lochman, C. Zach, "GEN: pushing the limits of softmax-based
       out-of-distribution detection", CVPR, 2023, equation (5).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import GEN
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = GEN().fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _needs = ("probabilities",)
    _parameter_constraints = {
        "gamma": [Interval(Real, 0, 1, closed="neither")],
        "n_top": [Interval(Integral, 1, None, closed="left")],
    }

    gamma: float = 0.1
    n_top: int = 100

    def _score(self, outputs):
        return generalized_entropy(outputs.log_probabilities(), self.gamma, self.n_top)

"""Energy: the classifier's logits as an unnormalised density."""

from numbers import Real

from skad._array import namespace
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.ood._base import ClassifierDetector


def energy(logits, temperature=1.0):
    """Return -T log sum exp(z / T) of each row of logits (b, c)."""
    xp = namespace(logits)
    largest = xp.max(logits, axis=1)
    rest = xp.exp((logits - largest[:, None]) / temperature)
    return -largest - temperature * xp.log(xp.sum(rest, axis=1))


@with_parameters
class Energy(ClassifierDetector):
    r"""Inputs of high energy: the classifier's logits are all low.

    Logits :math:`z(x)` at temperature :math:`T` define an energy, the anomaly

    .. math:: a(x) = -T \log \sum_c \exp(z_c(x) / T),

    which is lower the more training data there were about :math:`x` [1]_.
    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    temperature : float, default=1.0
        Temperature `T`, above 0: near 0 the energy is the largest
        logit.

    See Also
    --------
    MaxLogit : The limit of low temperature.
    ReAct : The energy after clipping the features.

    Notes
    -----
    Only true logits have an energy. Where the softmax of the decision values is not
    what `predict_proba` returns, as for a support vector machine, and where there are
    probabilities alone, `fit` raises an error. The margin `m` of a binary classifier is
    the logits -m/2 and m/2. The cost is the classifier's.

    `fit` without `y` needs a fitted classifier. A linear classifier grows surer the
    farther a sample is from its boundary, on either side and without end, so that far
    samples look normal to it; classifiers that level out do not have this fault.

    References
    ----------
    .. [1] W. Liu et al., "Energy-based out-of-distribution detection", NeurIPS, 2020,
       equation (4).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import Energy
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = Energy().fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _needs = ("logits",)
    _parameter_constraints = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    temperature: float = 1.0

    def _score(self, outputs):
        return energy(outputs.logits, self.temperature)

"""Maximum softmax probability: an unsure classifier is outside of its data."""

from numbers import Real

from skad._array import namespace
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.embedding._logits import softmax
from skad.ood._base import ClassifierDetector


def max_softmax(logits, temperature=1.0):
    """Return minus the largest probability of each row of logits (b, c)."""
    return -namespace(logits).max(softmax(logits, temperature), axis=1)


@with_parameters
class MaxSoftmax(ClassifierDetector):
    r"""Inputs for which the classifier's largest class probability is low.

    With logits :math:`z(x)` and temperature :math:`T`, the anomaly is

    .. math:: a(x) = -\max_c \, \mathrm{softmax}(z(x) / T)_c,

    the baseline of all methods around a classifier [1]_. ``score_samples`` is
    :math:`-a`. The map attributes the anomaly to the input by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    temperature : float, default=1.0
        Temperature `T`, above 0: above 1 softens the probabilities.

    See Also
    --------
    MaxLogit : Does not lose the size of the logits.
    ODIN : Moves the input a little towards its class first.
    TemperatureScaling : Learns the temperature.

    Notes
    -----
    A classifier that has probabilities and no logits is taken as it is; with another
    temperature than 1 the logarithms of its probabilities stand in for logits, which
    gives the same. The cost is the classifier's.

    `fit` without `y` needs a fitted classifier. A linear classifier grows surer the
    farther a sample is from its boundary, on either side and without end, so that far
    samples look normal to it; classifiers that level out do not have this fault.

    References
    ----------
    .. [1] D. Hendrycks and K. Gimpel, "A baseline for detecting misclassified and
       out-of-distribution examples in neural networks", ICLR, 2017, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import MaxSoftmax
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = MaxSoftmax().fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _needs = ("probabilities",)
    _parameter_constraints = {
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    temperature: float = 1.0

    def _score(self, outputs):
        probabilities = outputs.probabilities(self.temperature)
        return -namespace(probabilities).max(probabilities, axis=1)

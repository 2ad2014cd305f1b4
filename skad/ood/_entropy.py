"""Entropy of the predicted class."""

from skad._array import namespace
from skad._parameters import with_parameters
from skad.embedding._logits import log_softmax
from skad.ood._base import ClassifierDetector


def entropy(log_probabilities):
    """Return the entropy of each row of logarithms of probabilities (b, c)."""
    xp = namespace(log_probabilities)
    return -xp.sum(xp.exp(log_probabilities) * log_probabilities, axis=1)


def entropy_of_logits(logits):
    """Return the entropy of the softmax of each row of logits (b, c)."""
    return entropy(log_softmax(logits))


@with_parameters
class Entropy(ClassifierDetector):
    r"""Inputs whose class probabilities are spread out.

    With class probabilities :math:`p(x)`, the anomaly is

    .. math:: a(x) = -\sum_c p_c(x) \log p_c(x).

    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    See Also
    --------
    GEN : An entropy that looks at small probabilities more closely.
    MaxSoftmax : Looks at the largest probability alone.

    Notes
    -----
    Logarithms of probabilities are computed from logits where there are any, so that no
    probability is rounded to zero. The cost is the classifier's.

    `fit` without `y` needs a fitted classifier. A linear classifier grows surer the
    farther a sample is from its boundary, on either side and without end, so that far
    samples look normal to it; classifiers that level out do not have this fault.

    References
    ----------
    .. [1] J. Ren et al., "Likelihood ratios for out-of-distribution detection",
       NeurIPS, 2019, section 4 (the entropy as a baseline).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import Entropy
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = Entropy().fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _needs = ("probabilities",)

    def _score(self, outputs):
        return entropy(outputs.log_probabilities())

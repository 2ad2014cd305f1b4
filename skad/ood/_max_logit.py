"""Maximum logit: no class answers strongly outside of the training data."""

from skad._array import namespace
from skad._parameters import with_parameters
from skad.ood._base import ClassifierDetector


def max_logit(logits):
    """Return minus the largest logit of each row (b, c)."""
    return -namespace(logits).max(logits, axis=1)


@with_parameters
class MaxLogit(ClassifierDetector):
    r"""Inputs that no class answers to strongly.

    With logits :math:`z(x)`, the anomaly is

    .. math:: a(x) = -\max_c z_c(x).

    Unlike a probability it does not fall where several classes answer at once [1]_.
    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    See Also
    --------
    Energy : The smooth maximum of the logits.

    Notes
    -----
    Any classifier with one decision value per class will do, also those whose values
    are no logits, as of a support vector machine. The margin `m` of a binary classifier
    counts as the logits -m/2 and m/2. The cost is the classifier's.

    `fit` without `y` needs a fitted classifier. A linear classifier grows surer the
    farther a sample is from its boundary, on either side and without end, so that far
    samples look normal to it; classifiers that level out do not have this fault.

    References
    ----------
    .. [1] D. Hendrycks et al., "Scaling out-of-distribution detection for real-world
       settings", ICML, 2022, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import MaxLogit
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = MaxLogit().fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _needs = ("decision",)

    def _score(self, outputs):
        return max_logit(outputs.decision)

"""KL matching: predictions unlike the typical ones."""

import numpy as np

from skad._array import like, namespace, to_double, to_numpy
from skad._parameters import with_parameters
from skad.ood._base import ClassifierDetector


def typical_probabilities(probabilities):
    """Return the mean row (k, c) of the rows (n, c) that predict each class.

    Classes that are never predicted have none.
    """
    xp = namespace(probabilities)
    predicted = to_numpy(xp.argmax(probabilities, axis=1))
    rows = to_double(probabilities)
    means = [
        xp.mean(rows[like(np.flatnonzero(predicted == k), rows, dtype="keep")], axis=0)
        for k in np.unique(predicted)
    ]
    return xp.stack(means)


def kl_matching(log_probabilities, typical):
    """Return the smallest divergence of each row (b, c) from typical ones (k, c)."""
    xp = namespace(log_probabilities)
    p = xp.exp(log_probabilities)
    floor = float(xp.finfo(typical.dtype).tiny)
    log_typical = xp.log(xp.clip(typical, floor, None))
    own = xp.sum(p * log_probabilities, axis=1)
    return own - xp.max(p @ log_typical.T, axis=1)


@with_parameters
class KLMatching(ClassifierDetector):
    r"""Inputs whose class probabilities resemble those of no class.

    For each class :math:`k` the typical prediction :math:`d_k` is the mean of the class
    probabilities :math:`p` over the training rows that are predicted as :math:`k`. The
    anomaly is the divergence from the most similar one,

    .. math:: a(x) = \min_k \sum_c p_c(x) \log \frac{p_c(x)}{d_{kc}}.

    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Attributes
    ----------
    typical_ : ndarray of shape (n_predicted_classes, n_classes)
        The typical predictions :math:`d_k`, in float64.

    See Also
    --------
    MaxSoftmax : Has one typical prediction for each class, the sure one.

    Notes
    -----
    The typical predictions should come from rows that the classifier was not trained
    on: fit the detector on such rows with a fitted classifier. Class labels are not
    used then. Classes that no row is predicted as have no typical prediction. Scoring
    costs O(k c) a row beside the classifier.

    References
    ----------
    .. [1] D. Hendrycks et al., "Scaling out-of-distribution detection for real-world
       settings", ICML, 2022, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import KLMatching
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = KLMatching().fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _needs = ("probabilities",)

    def _learn_from(self, outputs, codes, known):
        self.typical_ = typical_probabilities(outputs.probabilities())

    def _score(self, outputs):
        rows = outputs.log_probabilities()
        return kl_matching(rows, like(self.typical_, rows))

"""SHE: features unlike the stored pattern of their class."""

import numpy as np

from skad._array import like, namespace, to_numpy
from skad._moments import mean_row
from skad._parameters import with_parameters
from skad._sklearn import StrOptions
from skad.ood._base import ClassifierDetector


def stored_patterns(features, codes, predicted, n_classes):
    """Return the mean features (c, f) of the rows that are classified correctly.

    A class without such rows has the mean of all its rows, one without rows zeros.
    """
    patterns = np.zeros((n_classes, features.shape[1]))
    for k in range(n_classes):
        for rows in ((codes == k) & (predicted == k), codes == k):
            if rows.any():
                own = like(np.flatnonzero(rows), features, dtype="keep")
                patterns[k] = to_numpy(mean_row(features[own]))
                break
    return patterns


def hopfield_energy(features, patterns, metric):
    """Return how unlike features and patterns (b, f) are, row by row."""
    xp = namespace(features)
    if metric == "euclidean":
        return xp.sqrt(xp.sum((features - patterns) ** 2, axis=1))
    products = xp.sum(features * patterns, axis=1)
    if metric == "inner":
        return -products
    sizes = xp.sum(features**2, axis=1) * xp.sum(patterns**2, axis=1)
    return -products / xp.sqrt(xp.where(sizes > 0, sizes, 1.0))


@with_parameters
class SHE(ClassifierDetector):
    r"""Inputs whose features are unlike the stored pattern of the predicted class.

    The stored pattern :math:`S_c` of a class is the mean of the features :math:`f` of
    its correctly classified training rows. With the predicted class :math:`\hat y`, the
    anomaly is the simplified Hopfield energy

    .. math:: a(x) = -f(x)^T S_{\hat y(x)}

    [1]_. ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input
    by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    layer : str, default="penultimate"
        Where the features are taken: "penultimate", what enters the last linear layer;
        "decision", the values per class; "input"; a module's name of a layer; the name
        of a pipeline's step; "hidden_0" and so on of ``MLPClassifier``. Maps and tokens
        are averaged over place.
    metric : {"inner", "cosine", "euclidean"}, default="inner"
        The inner product, the paper's; the cosine; or the distance.

    Attributes
    ----------
    patterns_ : ndarray of shape (n_classes, n_features_of_layer)
        The stored patterns :math:`S_c`.

    See Also
    --------
    MahalanobisOOD : Measures in the covariance of the features.

    Notes
    -----
    Without class labels, which only a fitted classifier allows, all rows count as
    correctly classified. Scoring costs O(f) a row beside the classifier.

    References
    ----------
    .. [1] J. Zhang et al., "Out-of-distribution detection based on in-distribution data
       patterns memorization with modern Hopfield energy", ICLR, 2023, equation (9).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import SHE
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = SHE().fit(X, y)
    >>> detector.predict([[-3.0, -3.0], [3.0, 3.0], [4.0, -4.0]])
    array([ 1,  1, -1])
    """

    _needs = ("features", "class")
    _parameter_constraints = {
        "layer": [str],
        "metric": [StrOptions({"inner", "cosine", "euclidean"})],
    }

    layer: str = "penultimate"
    metric: str = "inner"

    def _learn_from(self, outputs, codes, known):
        predicted = self._codes(outputs, np.full(len(codes), -1))
        codes = predicted if codes[0] < 0 else codes
        self.patterns_ = stored_patterns(
            outputs[self.layer], codes, predicted, outputs.view.n_outputs
        )

    def _score(self, outputs):
        features = outputs[self.layer]
        own = like(self.patterns_, features)[outputs.predicted()]
        return hopfield_energy(features, own, self.metric)

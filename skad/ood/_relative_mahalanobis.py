"""Distance to the nearest class, less the distance to all training data."""

from numbers import Real

import numpy as np

from skad._array import like, namespace, to_double
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.neighbors._search import unit_rows
from skad.ood._base import ClassifierDetector
from skad.ood._gaussian import TiedGaussian


def discriminants(gaussian, shares):
    r"""Return what tells classes apart, and how much of each is in the background.

    Where the residuals are whitened, the background's covariance is the identity plus
    the weighted scatter of the means, :math:`I + V diag(s^2) V^T`. Off its few
    directions `V` both distances are one, and cancel.

    Parameters
    ----------
    gaussian : TiedGaussian
        The classes.
    shares : ndarray of shape (k,)
        Share of each class in the training rows.

    Returns
    -------
    directions : ndarray of shape (f, r)
        From features less the mean of all data to the coordinates in which to compare.
    centres : ndarray of shape (k, r)
        The classes' means in them.
    precision : ndarray of shape (r,)
        Inverse variances of the background.
    origin : ndarray of shape (f,)
        The mean of all data.
    exact : ndarray of shape (f, q)
        To the coordinates in which neither the classes nor the background ever varied.
    """
    origin = shares @ gaussian.means
    away = (gaussian.means - origin) @ gaussian.whitening.T  # (k, f)
    # the exact directions in which the means do not differ by their deviation either
    weights = np.sqrt(shares)[:, None]
    _, spread, turn = np.linalg.svd(weights * (away @ gaussian.exact))
    still = gaussian.exact @ turn[np.sum(spread > 1) :].T  # (f, q)
    away -= away @ still @ still.T
    _, spread, V = np.linalg.svd(weights * away, full_matrices=False)
    V = V[spread > 1e-12 * max(spread.max(), 1e-300)]  # (r, f), r < k
    precision = 1 / (1 + spread[: len(V)] ** 2)
    exact = (still.T @ gaussian.whitening).T
    return (V @ gaussian.whitening).T, away @ V.T, precision, origin, exact


def relative_distance(features, directions, centres, precision, origin, exact=None):
    """Return the squared distance (b,) to the nearest class less that to all data.

    In exact directions both are without bound: there the distance itself counts.
    """
    if exact is not None and exact.shape[1]:
        features = to_double(features)
    xp = namespace(features)
    directions, centres = like(directions, features), like(centres, features)
    place = (features - like(origin, features)) @ directions  # (b, r)
    nearest = xp.min(
        xp.stack([xp.sum((place - centre) ** 2, axis=1) for centre in centres]), axis=0
    )
    relative = nearest - place**2 @ like(precision, features)
    if exact is None:  # a file of 0.1
        return relative
    broken = (features - like(origin, features)) @ like(exact, features)  # (b, q)
    return relative + xp.sum(broken**2, axis=1)


@with_parameters
class RelativeMahalanobis(ClassifierDetector):
    r"""Inputs whose features are far from every class, as far as training data go.

    The features :math:`f` of a class are a Gaussian around its mean :math:`\mu_c`, all
    with one covariance :math:`\Sigma`, and those of all training data a Gaussian with
    mean :math:`\mu_0` and covariance :math:`\Sigma_0`. The anomaly is

    .. math:: a(x) = \min_c \, (f - \mu_c)^T \Sigma^{-1} (f - \mu_c)
        - (f - \mu_0)^T \Sigma_0^{-1} (f - \mu_0),

    in which directions that do not tell classes apart cancel [1]_. ``score_samples`` is
    :math:`-a`. The map attributes the anomaly to the input by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    classifier : classifier, torch.nn.Module or None, default=None
        Whose inputs are judged: a scikit-learn classifier or a skorch net, which is
        cloned and fitted unless it comes in a ``FrozenEstimator``, or a trained module.
        None takes the input itself for features.
    layer : str, default="penultimate"
        Where the features are taken: "penultimate", what enters the last linear layer;
        "decision", the values per class; "input"; a module's name of a layer; the name
        of a pipeline's step; "hidden_0" and so on of ``MLPClassifier``. Maps and tokens
        are averaged over place.
    normalize : bool, default=False
        Whether features are brought to length one first [2]_.
    tol : float, default=1e-12
        Eigenvalues of the correlation matrix below `tol` times the largest are raised
        to that, and a constant feature gets the deviation ``tol ** 0.5`` times its own
        size, or, where it is zero, .01 of the least deviation of another. Without more
        rows than dimensions, relations between features are left out instead.

    Attributes
    ----------
    means_ : ndarray of shape (n_classes, n_features_of_layer)
        The means :math:`\mu_c`.

    See Also
    --------
    MahalanobisOOD : Without the background.

    Notes
    -----
    Labels are needed unless a classifier is fitted already, whose predictions then take
    their place. The covariance :math:`\Sigma_0` is :math:`\Sigma` plus the scatter of
    the means, so that both distances are compared in the at most `n_classes - 1`
    directions in which the means differ, where nothing cancels, and far inputs are
    flagged by what tells classes apart alone. Where no training row ever varied
    both distances are without bound; what a row has there is added, so that a feature
    that was constant and moves is far out. Covariances are estimated in double
    precision. `fit` costs O(n f^2 + f^3), scoring O(f c) a row
    beside the classifier.

    References
    ----------
    .. [1] J. Ren et al., "A simple fix to Mahalanobis distance for improving near-OOD
       detection", arXiv:2106.09022, 2021, equations (2) and (3).
    .. [2] M. Mueller and M. Hein, "Mahalanobis++: improving OOD detection via feature
       normalization", ICML, 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import RelativeMahalanobis
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = RelativeMahalanobis().fit(X, y)
    >>> detector.predict([[-3.0, -3.0], [3.0, 3.0], [4.0, -4.0]])
    array([ 1,  1, -1])
    """

    _needs = ("features",)
    _default_classifier = None
    _parameter_constraints = {
        "layer": [str],
        "normalize": ["boolean"],
        "tol": [Interval(Real, 0, 1, closed="left")],
    }

    layer: str = "penultimate"
    normalize: bool = False
    tol: float = 1e-12

    _needs_classes = True

    def _score_elements(self):
        return 2 * self.means_.shape[1] + 4 * len(self.means_)

    def _learn_from(self, outputs, codes, known):
        features, codes = self._features(outputs), self._codes(outputs, codes)
        gaussian = TiedGaussian(features, codes, self.tol)
        counts = np.unique(codes, return_counts=True)[1]
        self._discriminants_ = discriminants(gaussian, counts / counts.sum())
        self.means_ = gaussian.means

    def _features(self, outputs):
        features = outputs[self.layer]
        return unit_rows(features) if self.normalize else features

    def _score(self, outputs):
        return relative_distance(self._features(outputs), *self._discriminants_)

"""NECO: the share of the features that lies in their principal space."""

from numbers import Integral

import numpy as np

from skad._array import like, namespace, to_numpy
from skad._moments import deviations, moments
from skad._parameters import with_parameters
from skad._sklearn import Interval, RealNotInt
from skad.ood._base import ClassifierDetector
from skad.ood._gaussian import for_products


def principal_space(correlation, n_components):
    """Return leading eigenvectors (f, k), as many as were asked for or hold a share."""
    values, vectors = np.linalg.eigh(correlation)
    values, vectors = values[::-1].clip(0), vectors[:, ::-1]
    if not isinstance(n_components, Integral):
        shares = np.cumsum(values) / max(values.sum(), np.finfo(float).tiny)
        # of 1.0 rounding may keep the last sum below
        n_components = 1 + int(np.sum(shares < n_components - 1e-12))
    return np.ascontiguousarray(vectors[:, : min(n_components, len(values))])


def principal_share(features, mean, scale, space):
    """Return the length within the space over the whole length, (b,), 1 at the mean."""
    xp = namespace(features)
    unit = (features - like(mean, features)) / like(scale, features)
    inside = unit @ like(space, features)
    whole = xp.vecdot(unit, unit)
    share = xp.vecdot(inside, inside) / xp.where(whole > 0, whole, 1.0)
    share = xp.minimum(share, xp.ones_like(share))  # rounding may go beyond
    return xp.sqrt(xp.where(whole > 0, share, 1.0))


@with_parameters
class NECO(ClassifierDetector):
    r"""Inputs whose features lie across the few directions of training features.

    The features, standardised to :math:`\tilde f`, of training data fill few principal
    directions :math:`P`, and those of other inputs, for a network that is trained for
    long, lie across them. With the logits :math:`z` the anomaly is [1]_

    .. math:: a(x) = -\frac{|P^T \tilde f(x)|}{|\tilde f(x)|} \max_c z_c(x).

    ``score_samples`` is :math:`-a`. The map attributes the anomaly to the input by
    `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    n_components : int or float, default=0.9
        Number of principal directions, or a number in (0, 1] that is the share of the
        variance which they hold at least.
    weighted : bool, default=True
        Whether the share is multiplied by the largest logit, which the authors leave
        out for one kind of network. It alone is in 0..1.

    Attributes
    ----------
    mean_ : ndarray of shape (n_last_features,)
        The mean of the features.
    scale_ : ndarray of shape (n_last_features,)
        Their standard deviations, 1 for constant ones.
    components_ : ndarray of shape (n_last_features, n_components)
        The principal directions :math:`P`.

    See Also
    --------
    ViM : The length across the principal space, added to the logits.
    MaxLogit : What is left with all directions.

    Notes
    -----
    The name is that of the authors, neural collapse. Labels serve the classifier alone.
    Where the largest logit is below 0 a lesser share counts as more normal, as in the
    authors' code. Variances are summed in double precision. `fit` costs O(n f^2 + f^3)
    and scoring O(f k) a row, beside the classifier. The authors choose the number of
    directions for each data set. On small networks it is `MaxLogit` and no more: on
    scikit-learn's digits (0 to 4 known) ROC AUC is .950 in the mean of three networks,
    of the logit alone .953, of the share alone .880.

    References
    ----------
    .. [1] M. B. Ammar et al., "NECO: NEural Collapse based Out-of-distribution
       detection", ICLR, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import NECO
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = NECO(n_components=1).fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _needs = ("logits", "head")
    _parameter_constraints = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
        ],
        "weighted": ["boolean"],
    }

    n_components: int | float = 0.9
    weighted: bool = True

    def _learn_from(self, outputs, codes, known):
        n, mean, scatter = moments(for_products(outputs["penultimate"]))
        self.mean_, covariance = to_numpy(mean), to_numpy(scatter) / n
        scale = deviations(np.diagonal(covariance), self.mean_)
        self.scale_ = np.where(scale > 0, scale, 1.0)
        correlation = covariance / np.outer(self.scale_, self.scale_)
        self.components_ = principal_space(correlation, self.n_components)

    def _score_elements(self):
        return super()._score_elements() + 3 * len(self.mean_)

    def _score(self, outputs):
        share = principal_share(
            outputs["penultimate"], self.mean_, self.scale_, self.components_
        )
        if not self.weighted:
            return -share
        return -share * namespace(share).max(outputs.logits, axis=1)

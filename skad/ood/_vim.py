"""ViM: the part of the features that the classes do not use, as a logit."""

from numbers import Integral

import numpy as np

from skad._array import blocks, like, namespace, to_double, to_numpy
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.ood._base import ClassifierDetector
from skad.ood._energy import energy
from skad.ood._gaussian import for_products


def default_dimension(n_features):
    """Return the size of the principal space that the authors take."""
    if n_features >= 2048:
        return 1000
    return 512 if n_features >= 768 else n_features // 2


def null_space(features, origin, n_components):
    """Return the directions (f, f - n_components) in which the rows reach least far.

    Second moments are taken about `origin`, not about the mean.
    """
    scatter, features = 0, for_products(features)
    origin = like(origin, to_double(features[:1]))
    for rows in blocks(*features.shape):
        centred = features[rows] - origin  # in double precision, as the origin is
        scatter = scatter + centred.T @ centred
    _, vectors = np.linalg.eigh(to_numpy(scatter) / features.shape[0])
    # in one piece, as it is after a pickle: products then round the same way
    return np.ascontiguousarray(vectors[:, : features.shape[1] - n_components])


def residual(features, origin, null):
    """Return the length (b,) of the features' part in the null space."""
    features = for_products(features)
    xp = namespace(features)
    null = like(null, features)
    part = features @ null
    part -= like(origin, features) @ null
    # in one pass over what is large, where a norm takes absolute values first
    return xp.sqrt(xp.vecdot(part, part))


@with_parameters
class ViM(ClassifierDetector):
    r"""Inputs whose features have a part in directions that training data lack.

    The features :math:`f` are seen from the origin :math:`u = -W^+ b` at which all
    logits vanish. Their principal space is spanned by the leading eigenvectors of
    :math:`E[(f - u)(f - u)^T]`, and :math:`N` by the others. The residual is scaled to
    the size of a logit, a virtual one for what is in no class [1]_:

    .. math:: a(x) = \alpha \, |N^T (f(x) - u)| - \log \sum_c e^{z_c(x)}, \qquad
        \alpha = \frac{E[\max_c z_c]}{E[|N^T (f - u)|]},

    with means over the training data. The virtual logit's probability is a function of
    :math:`a` that grows with it. ``score_samples`` is :math:`-a`. The map attributes
    the anomaly to the input by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    n_components : int or None, default=None
        Size of the principal space, less than the features of the last layer. None is
        the authors': 1000 of 2048 features and more, 512 of 768 and more, else half.

    Attributes
    ----------
    origin_ : ndarray of shape (n_last_features,)
        The origin :math:`u`.
    null_space_ : ndarray of shape (n_last_features, n_last_features - n_components)
        The directions :math:`N`.
    alpha_ : float
        The scale :math:`\alpha`.

    See Also
    --------
    Energy : Without the residual.
    skad.subspace.PCAReconstruction : The residual alone, about the mean.

    Notes
    -----
    The classifier needs a last linear layer: that of a module, of ``MLPClassifier``, or
    the whole of a linear classifier, whose features are its input. `fit` costs O(n f^2
    + f^3) and scoring O(f^2) a row, beside the classifier. Second moments are summed in
    double precision. Where eigenvalues at the cut are all but equal, the space is not
    determined, and single and double precision may choose differently. :math:`\alpha`
    takes the size of the mean of the logits, so that a mean below zero does not turn
    the residual round.

    References
    ----------
    .. [1] H. Wang et al., "ViM: out-of-distribution with virtual-logit matching", CVPR,
       2022, equations (4) to (7).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import ViM
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = ViM().fit(X, y)
    >>> detector.predict([[-3.0, -3.0], [3.0, 3.0], [4.0, -4.0]])
    array([ 1,  1, -1])
    """

    _needs = ("logits", "head")
    _parameter_constraints = {
        "n_components": [Interval(Integral, 0, None, closed="left"), None],
    }

    n_components: int | None = None

    def _learn_from(self, outputs, codes, known):
        features = outputs["penultimate"]
        n_features = features.shape[1]
        n_components = self.n_components
        if n_components is None:
            n_components = default_dimension(n_features)
        if n_components >= n_features:
            raise ValueError(
                f"n_components={n_components} must be less than the features of the "
                f"last layer, n_features={n_features}: nothing would be left of them."
            )
        weight, bias = (to_double(to_numpy(part)) for part in outputs.view.head)
        # weights come in single precision, in which rows that sum to zero have a rank
        cut = float(np.finfo(np.float32).eps) * max(weight.shape)
        with np.errstate(over="ignore", invalid="ignore"):
            self.origin_ = -np.linalg.pinv(weight, rcond=cut) @ bias
        if not np.isfinite(self.origin_).all():
            raise ValueError(
                "The classifier's last layer has weights too small to be inverted: "
                "scale the features first."
            )
        self.null_space_ = null_space(features, self.origin_, n_components)
        xp = namespace(outputs.logits)
        sizes = to_double(to_numpy(residual(features, self.origin_, self.null_space_)))
        largest = to_double(to_numpy(xp.max(outputs.logits, axis=1)))
        # of rows within the principal space only rounding is left: no divisor
        floor = np.finfo(float).eps * np.abs(to_numpy(features)).mean()
        self.alpha_ = float(abs(largest.mean()) / max(sizes.mean(), floor, 1e-300))

    def _score(self, outputs):
        sizes = residual(outputs["penultimate"], self.origin_, self.null_space_)
        logits = outputs.logits
        return self.alpha_ * like(sizes, logits) + energy(logits)

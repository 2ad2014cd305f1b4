"""OpenMax: the probability of an unknown class."""

from numbers import Integral

import numpy as np

from skad._array import device_of, like, namespace, to_double, to_numpy
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.ood._base import ClassifierDetector

# Distances are moved this far before a Weibull distribution is fitted to their tail, as
# in the library that the authors use; its shape is then that of a Gumbel distribution.
_SHIFT = 10_000.0


def fit_weibull(values):
    """Return (shape, log of the scale) of the likeliest Weibull distribution.

    Newton's method on the logarithm of the shape; `values` (t,) are positive.
    """
    logs = np.log(values)
    top = logs.max()
    logs = logs - top
    if logs.std() <= 1e-12:  # one distance: a step
        return 1e12, top
    mean, log_shape = logs.mean(), -np.log(logs.std())
    for _ in range(100):
        shape = np.exp(log_shape)
        weights = np.exp(shape * logs)
        weights /= weights.sum()
        first = weights @ logs
        slope = first - 1 / shape - mean  # zero at the maximum, and increasing
        curve = weights @ logs**2 - first**2 + 1 / shape**2
        step = np.clip(slope / (curve * shape), -1, 1)
        log_shape -= step
        if abs(step) < 1e-13:
            break
    shape = np.exp(log_shape)
    return shape, top + np.log(np.exp(shape * logs).mean()) / shape


def class_distances(logits, means):
    """Return the distances (b, c) of logits (b, c) to the classes' mean logits."""
    xp = namespace(logits)
    return xp.stack(
        [xp.linalg.vector_norm(logits - mean, axis=1) for mean in means], axis=1
    )


def open_max(logits, outlying, alpha):
    """Return the probability (b,) of the unknown class.

    `outlying` (b, c) is how far out the logits are in the tail of each class. The
    `alpha` largest logits give a part of themselves to the unknown class, the largest
    one the most.
    """
    xp = namespace(logits)
    order = xp.argsort(-logits, axis=1, stable=True)
    logits = xp.take_along_axis(logits, order, axis=1)  # the largest one first
    rank = xp.arange(logits.shape[1], dtype=logits.dtype, device=device_of(logits))
    part = xp.where(rank < alpha, 1 - rank / alpha, 0.0)
    given = logits * part * xp.take_along_axis(outlying, order, axis=1)
    unknown = xp.sum(given, axis=1, keepdims=True)
    revised = xp.concat([unknown, logits - given], axis=1)
    revised = revised - xp.max(revised, axis=1, keepdims=True)
    return xp.exp(revised[:, 0]) / xp.sum(xp.exp(revised), axis=1)


@with_parameters
class OpenMax(ClassifierDetector):
    r"""Inputs that are probably of a class which is not among the known ones.

    For each class, a Weibull distribution :math:`F_c` is fitted to the largest
    distances between the logits :math:`z` of its correctly classified training rows and
    their mean :math:`\mu_c`. With :math:`r_c` the rank of a logit, from 0 for the
    largest, a part of the :math:`\alpha` largest goes to a class "unknown" [1]_:

    .. math:: \omega_c = \Big(1 - \frac{r_c}{\alpha}\Big)_+ F_c(|z - \mu_c|), \qquad
        z_0 = \sum_c z_c \omega_c, \qquad z'_c = z_c (1 - \omega_c).

    The anomaly is the softmax probability of the unknown class among :math:`z_0, z'_1,
    \dots`. ``score_samples`` is minus the anomaly. The map attributes the anomaly to
    the input by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    Parameters
    ----------
    tail_size : int, default=20
        Number of largest distances that a distribution is fitted to; all where a class
        has fewer rows.
    alpha : int, default=10
        Number :math:`\alpha` of logits that are revised; all where there are fewer.

    Attributes
    ----------
    means_ : ndarray of shape (n_classes, n_classes)
        The mean logits :math:`\mu_c`.
    shapes_ : ndarray of shape (n_classes,)
        Shapes of the Weibull distributions.
    log_scales_ : ndarray of shape (n_classes,)
        Logarithms of their scales, for distances less the tail's smallest plus 10,000.

    See Also
    --------
    MahalanobisOOD : Distances of features, in their covariance.

    Notes
    -----
    Without class labels, which only a fitted classifier allows, all rows count as
    correctly classified; so do those of a class with none. A class without rows is
    always unknown. The distributions are fitted by maximum likelihood, exactly. Scoring
    costs O(c^2) a row beside the classifier.

    Detectors that are fitted without some rows, for the threshold, take tails shorter
    by as much.

    References
    ----------
    .. [1] A. Bendale and T. E. Boult, "Towards open set deep networks", CVPR, 2016,
       algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import OpenMax
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = OpenMax().fit(X, y)
    >>> detector.predict([[-3.0, -3.0], [3.0, 3.0], [9.0, 9.0]])
    array([ 1,  1, -1])
    """

    _needs = ("logits",)
    _parameter_constraints = {
        "tail_size": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Integral, 1, None, closed="left")],
    }

    tail_size: int = 20
    alpha: int = 10

    def _score_elements(self):
        return 8 * self._view_.n_outputs

    def _learn_from(self, outputs, codes, known):
        logits = to_double(to_numpy(outputs.logits))
        predicted = logits.argmax(axis=1)
        codes = predicted if codes[0] < 0 else codes
        c = logits.shape[1]
        self.means_, self._floors_ = np.zeros((c, c)), np.zeros(c)
        # a class without rows: everything is beyond its tail
        self.shapes_, self.log_scales_ = np.ones(c), np.full(c, -50.0)
        right = codes == predicted
        for k in range(c):
            own = np.flatnonzero(codes == k)
            own = own[right[own]] if right[own].any() else own
            if not len(own):
                continue
            self.means_[k] = logits[own].mean(axis=0)
            distances = np.sqrt(((logits[own] - self.means_[k]) ** 2).sum(axis=1))
            tail = np.sort(distances)[-self._in_proportion(self.tail_size) :]
            self._floors_[k] = tail[0]
            self.shapes_[k], self.log_scales_[k] = fit_weibull(tail - tail[0] + _SHIFT)

    def _score(self, outputs):
        logits = outputs.logits
        xp = namespace(logits)
        # a tail is one part in ten thousand wide, which needs double precision
        wide = to_double(logits)
        distances = class_distances(wide, like(self.means_, wide))
        shifted = distances - like(self._floors_, wide) + _SHIFT
        shifted = xp.where(shifted > 1e-300, shifted, 1e-300)
        exponent = xp.log(shifted) - like(self.log_scales_, wide)
        # beyond 700 the tail is long over
        exponent = like(self.shapes_, wide) * exponent
        exponent = xp.where(exponent < 700.0, exponent, 700.0)
        return open_max(
            wide, -xp.expm1(-xp.exp(exponent)), min(self.alpha, wide.shape[1])
        )

"""PNML: how much a prediction could gain from knowing its label."""

import math

import numpy as np

from skad._array import blocks, like, namespace, to_double, to_numpy
from skad._parameters import with_parameters
from skad.embedding._logits import log_softmax
from skad.neighbors._search import unit_rows
from skad.ood._base import ClassifierDetector
from skad.ood._gaussian import for_products

# Eigenvalues below this much of the largest count as directions without any row.
_TOL = 1e-12


def with_constant(features):
    """Return the features (b, f) at length one, and a one for the shift: (b, f + 1)."""
    xp = namespace(features)
    return xp.concat([xp.ones_like(features[:, :1]), unit_rows(features)], axis=1)


def spanned(rows):
    """Return how the rows (n, f) fill their space.

    Returns
    -------
    root : ndarray of shape (f, r)
        `R` with :math:`R R^T` the pseudo-inverse of the rows' second moments.
    outside : ndarray of shape (f, f - r)
        Orthonormal directions in which no row reaches.
    """
    moments, rows = 0, for_products(rows)
    for part in blocks(*rows.shape):
        block = to_double(rows[part])
        moments = moments + block.T @ block
    values, vectors = np.linalg.eigh(to_numpy(moments))
    inside = values > _TOL * values[-1]
    root = vectors[:, inside] / np.sqrt(values[inside])
    return root, np.ascontiguousarray(vectors[:, ~inside])


def pull(rows, root, outside):
    """Return how far (b,) one more row would move its own prediction, in 0..1."""
    xp = namespace(rows)
    inner = xp.sum((rows @ like(root, rows)) ** 2, axis=1)
    moved = inner / (1 + inner)
    if outside.shape[1]:
        beyond = xp.sum((rows @ like(outside, rows)) ** 2, axis=1)
        moved = xp.where(beyond > moved, beyond, moved)
    return xp.where(moved < 1.0, moved, xp.ones_like(moved))


def regret(logits, moved):
    """Return the regret (b,) of predictions by logits (b, c), as a share of log c.

    The sum over classes is 1 plus positive terms, so that nothing cancels where a
    prediction is sure.
    """
    xp = namespace(logits)
    logs = log_softmax(logits)
    moved = moved[:, None]
    other = -xp.expm1(logs)  # 1 - p
    known = xp.exp((1 - moved) * logs)
    gain = known * other * -xp.expm1(moved * logs) / (known + other)
    return xp.log1p(xp.sum(gain, axis=1)) / math.log(max(2, logits.shape[1]))


@with_parameters
class PNML(ClassifierDetector):
    r"""Inputs whose label, were it known, would change the prediction much.

    The features :math:`f` of the penultimate layer are brought to length one, and a one
    is put beside them for the shift of the last layer, :math:`v = (1, f / |f|)`. If the
    last layer learned one more row, :math:`v` with class :math:`c`, by least squares of
    the logarithms of probabilities, its prediction would go a way :math:`k` towards
    that class. With :math:`P` the pseudo-inverse of the second moments :math:`V^T V` of
    training rows, and :math:`v_\bot` the part of :math:`v` that no training row has,

    .. math:: k = \max\Big(\frac{v^T P v}{1 + v^T P v}, |v_\bot|^2\Big).

    The anomaly is the regret of the predictive normalized maximum likelihood [1]_, by
    how much the best hindsight beats any prediction, with the probabilities :math:`p`
    that the last layer gives to :math:`v` and the number :math:`C` of classes:

    .. math:: a(x) = \frac{1}{\log C} \log \sum_c
        \frac{p_c}{p_c + p_c^{k} (1 - p_c)}.

    It is 0 where nothing is left to learn, and at most 1. ``score_samples`` is
    :math:`-a`. The map attributes the anomaly to the input by `attribution`.

    Read more in the :ref:`User Guide <ood>`.

    See Also
    --------
    MahalanobisOOD : The distance to classes, whatever the prediction.
    MaxSoftmax : The prediction, whatever the features.

    Notes
    -----
    The classifier needs a last linear layer: that of a module, of ``MLPClassifier``, or
    the whole of a linear classifier, whose features are its input. There is nothing to
    choose. Labels serve the classifier alone. Second moments are summed in double
    precision, and eigenvalues below 1e-12 of the largest count as zero. As in the
    authors' code the part that no training row has counts by its square, where the
    theorem takes any such part for :math:`k = 1`, which rounding would decide;
    :math:`k` is at most 1, as in the theorem. `fit` costs O(n f^2 + f^3) and scoring
    O(f^2) a row, beside the classifier.

    References
    ----------
    .. [1] K. Bibas, M. Feder, T. Hassner, "Single layer predictive normalized maximum
       likelihood for out-of-distribution detection", NeurIPS, 2021, theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ood import PNML
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(-3, 1, (50, 2)), rng.normal(3, 1, (50, 2))])
    >>> y = np.repeat(["left", "right"], 50)
    >>> detector = PNML().fit(X, y)
    >>> detector.predict_with_rejection([[-3.0, -3.0], [3.0, 3.0], [3.0, -3.0]])
    array(['left', 'right', -1], dtype=object)
    """

    _needs = ("logits", "head")

    def _learn_from(self, outputs, codes, known):
        rows = with_constant(outputs["penultimate"])
        root, self._outside_ = spanned(rows)
        # a copy's rows stand for all: more rows are less moved by one
        self._root_ = root * math.sqrt(self._row_share)

    def _score_elements(self):
        return super()._score_elements() + 3 * len(self._root_)

    def _score(self, outputs):
        rows = with_constant(outputs["penultimate"])
        moved = pull(rows, self._root_, self._outside_)
        return regret(self._logits(outputs, rows[:, 1:]), moved)

"""Stochastic outlier selection: rows that no row would choose as a neighbour."""

from numbers import Real

import numpy as np
from scipy.spatial.distance import cdist

from skad._array import blocks, n_blocks, row_sums, to_double, to_numpy
from skad._left_out import LeftOutMixin
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval
from skad.base import BaseDetector
from skad.neighbors._search import NeighborSearch

# Nearest rows whose affinities count for a bandwidth: the others' have vanished. As
# many at least, and so many times the perplexity.
_NEAREST, _TIMES = 300, 10
_STEPS = 60
# The largest probability of a choice, whose complement is not zero.
_MOST = 1 - 1e-15
# What is added to the weight of a choice, whose logarithm is finite.
_QUIET = 1e-300
# From here on log(1 + exp(x)) is x.
_LARGE = 50.0
_TOO_LARGE = (
    "X has values too large for SOS: their distances overflow. Scale the features "
    "(StandardScaler)."
)


def usual_size(above, perplexity):
    """Return the size (n,) of ascending values (n, k) that decide, as a unit.

    That at the place of the perplexity, or the first after it that is above 0: the mean
    may be that of one row far away.
    """
    place = min(int(perplexity), above.shape[1] - 1)
    after = np.where(above[:, place:] > 0, above[:, place:], np.inf)
    unit = after[np.arange(len(after)), (above[:, place:] > 0).argmax(axis=1)]
    return np.where(np.isfinite(unit), unit, 1.0)


def bandwidths(squares, perplexity):
    """Return bandwidths (n,) for which affinities have a perplexity.

    Parameters
    ----------
    squares : ndarray of shape (n, k)
        Ascending squared distances to other rows.
    perplexity : float
        Of the distribution exp(-bandwidth * squares), normalised.

    Returns
    -------
    bandwidth : ndarray of shape (n,)
        By bisection of its logarithm.
    total : ndarray of shape (n,)
        Sums of the affinities less that of the nearest: logarithms of
        ``sum(exp(-bandwidth * squares))``.
    """
    above = squares - squares[:, :1]
    unit = usual_size(above, perplexity)
    above = above / unit[:, None]
    wanted = np.log(perplexity)
    low, high = np.full(len(squares), -30.0), np.full(len(squares), 30.0)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        beta = np.exp(middle)[:, None]
        weight = np.exp(-beta * above)
        total = weight.sum(axis=1)
        entropy = np.log(total) + (beta * above * weight).sum(axis=1) / total
        wide = entropy > wanted
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    beta = np.exp((low + high) / 2)
    total = np.exp(-beta[:, None] * above).sum(axis=1)
    beta = beta / unit
    return beta, np.log(total) - beta * squares[:, 0]


@with_parameters(kw_only=False)
class SOS(LeftOutMixin, BaseDetector):
    r"""Rows that no other row would choose as its neighbour.

    Each training row has an affinity with others,
    :math:`a_i(y) = \exp(-\beta_i \lVert x_i - y \rVert^2)`, with the bandwidth
    :math:`\beta_i` for which the row has about `perplexity` neighbours among the other
    training rows: the exponential of the affinities' entropy. It chooses a neighbour
    with probabilities in proportion. A row is an outlier when no training row chooses
    it, whose probability is

    .. math:: p(x) = \prod_i (1 - b_i(x)), \qquad
        b_i(x) = \frac{a_i(x)}{A_i + a_i(x)},

    with the affinities :math:`A_i` of the others. The anomaly is :math:`\log p`, which
    tells rows apart that all have a probability of about 1. ``score_samples`` is
    :math:`-\log p`. The map splits the probability :math:`p` by the squared
    differences of the features from the training rows, weighted by :math:`b_i`; it sums
    to :math:`p`.

    Read more in the :ref:`User Guide <neighbors>`.

    Parameters
    ----------
    perplexity : float, default=4.5
        The effective number of neighbours of a row, at least 1; with fewer training
        rows all others alike.
    outliers_choose : bool, default=True
        Whether the choice of every training row counts alike, as in [1]_. Otherwise
        that of row `i` counts by the probability :math:`1 - p(x_i)` that others choose
        it, :math:`p(x) = \prod_i (1 - (1 - p(x_i)) \, b_i(x))`, and rows beside stray
        ones are outliers, too.

    Attributes
    ----------
    bandwidths_ : ndarray of shape (n_samples,)
        The bandwidths :math:`\beta_i`.

    See Also
    --------
    KNN : Whom a row would choose, not who chooses it.

    Notes
    -----
    `fit` costs O(n^2 d), scoring O(n d) a row. A training row is chosen by the others
    alone, so that its probability is the paper's; bandwidths of the others are those
    that were found with it. A new row is added to the affinities :math:`A_i`, while
    bandwidths stay. They come from the 300 nearest rows, or ten times the perplexity,
    beyond which affinities vanish. Scores do not change when rows are shifted or
    rotated, or all features are scaled together.

    A stray training row chooses the rows that are nearest to it, which hides outliers
    on its side. Over ten tables of ADBench, half of the normal rows learned from,
    standardised, the mean ROC AUC is 0.82, and 0.60 after three training rows were made
    stray; with ``outliers_choose=False`` 0.87 and 0.84.

    PyOD's `SOS` takes distances that are not squared, and scores a batch by itself.

    References
    ----------
    .. [1] J. Janssens, F. Huszar, E. Postma and J. van den Herik, "Stochastic outlier
       selection", Tilburg centre for Creative Computing, technical report 2012-001,
       2012.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.neighbors import SOS
    >>> X = np.random.default_rng(0).normal(size=(100, 2))
    >>> detector = SOS().fit(X)
    >>> detector.predict([[0.0, 0.0], [5.0, 5.0]])
    array([ 1, -1])
    >>> square = [[0.0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0]]
    >>> np.exp(-SOS(perplexity=3).fit(square).score_samples(square[:1])).round(4)
    array([0.2963])
    """

    perplexity: float = 4.5
    _: KW_ONLY
    outliers_choose: bool = True

    _map_sums_to_score = False
    _voices_ = None  # how much the choice of each training row counts, (n,); all alike
    _hiding_times = 100.0
    _parameter_constraints = {
        "perplexity": [Interval(Real, 1, None, closed="left")],
        "outliers_choose": ["boolean"],
    }

    def _row_elements(self):
        return 4 * len(self._rows_)

    def _fit(self, X, y):
        self._rows_ = to_double(to_numpy(X))
        n = len(self._rows_)
        k = min(n - 1, max(_NEAREST, int(_TIMES * self.perplexity)))
        search = NeighborSearch(self._rows_, "sqeuclidean", 2, "auto", None, None, k)
        self.bandwidths_, self._totals_ = np.empty((2, n))
        size = n, 4 * k
        for part in self._steps(blocks(*size), "bandwidths", n_blocks(*size)):
            squares = search.neighbors(self._rows_[part], k)[0]
            if not np.isfinite(squares).all():
                raise ValueError(_TOO_LARGE)
            found = bandwidths(squares, min(self.perplexity, k))
            self.bandwidths_[part], self._totals_[part] = found
        self._voices_ = None
        if not self.outliers_choose:
            size = n, self._row_elements()
            self._voices_ = np.concatenate(
                [-np.expm1(self._anomaly(self._rows_[part])) for part in blocks(*size)]
            )

    def _odds(self, X):
        """Return log(a / A) (b, n), where rows are training rows, and squares."""
        squares = cdist(X, self._rows_, "sqeuclidean")
        if not np.isfinite(squares).all():
            raise ValueError(_TOO_LARGE)
        odds = squares * -self.bandwidths_
        odds -= self._totals_
        rows, own = np.nonzero(squares == 0)
        known, first = np.unique(rows, return_index=True)
        # the first of equal rows is the row itself, which does not choose itself
        odds[known, own[first]] = -np.inf
        return odds, known, squares

    def _anomaly(self, X):
        odds, known, _ = self._odds(to_double(to_numpy(X)))
        return row_sums(self._heard(self._refused(odds, known)))

    def _refused(self, odds, known):
        """Return log(1 - b) (b, n): of a training row A holds the affinity already."""
        ratio = np.exp(np.minimum(odds, _LARGE))
        refused = -np.log1p(ratio)
        refused -= np.maximum(odds - _LARGE, 0)
        refused[known] = np.log1p(-np.minimum(ratio[known], _MOST))
        return refused

    def _heard(self, refused):
        """Return log(1 - b) (b, n) with each b as much as its row's choice counts."""
        if self._voices_ is None:
            return refused
        return np.log1p(np.maximum(self._voices_ * np.expm1(refused), -_MOST))

    def _left_out(self, X):
        return self._anomaly(X)

    def _map(self, X):
        rows = to_double(to_numpy(X))
        odds, known, squares = self._odds(rows)
        refused = self._refused(odds, known)
        probability = np.exp(row_sums(self._heard(refused)))
        chosen = odds + refused  # log(b), where A does not hold the affinity yet
        chosen[known] = odds[known]
        if self._voices_ is not None:
            chosen += np.log(self._voices_ + _QUIET)
        weight = np.exp(chosen - chosen.max(axis=1, keepdims=True))
        weight /= np.where(squares > 0, squares, 1.0)
        weight[squares == 0] = 0.0
        # sum of w (x - y)^2 / |x - y|^2 without differences from all rows
        ones = weight.sum(axis=1, keepdims=True)
        centre = weight @ self._rows_ / np.where(ones > 0, ones, 1.0)
        parts = (rows - centre) ** 2 * ones
        parts += np.maximum(weight @ self._rows_**2 - ones * centre**2, 0)
        whole = parts.sum(axis=1, keepdims=True)
        share = np.where(
            whole > 0, parts / np.where(whole > 0, whole, 1.0), 1 / rows.shape[1]
        )
        return probability[:, None] * share

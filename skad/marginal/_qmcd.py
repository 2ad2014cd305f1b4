"""Quasi-Monte Carlo discrepancy: rows that are unlike the rows of a uniform table."""

import numpy as np

from skad._array import block_rows, row_sums, slices, to_double, to_numpy
from skad._left_out import LeftOutMixin
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import StrOptions
from skad.base import BaseDetector
from skad.marginal._ring import OPPOSITE, log_means, tiles_of, values_of, weights


@with_parameters(kw_only=False)
class QMCD(LeftOutMixin, BaseDetector):
    r"""Rows that add little to the wrap-around discrepancy of the training rows.

    With the features scaled to 0..1 by the training range, the wrap-around
    :math:`L_2` discrepancy, which tells how far rows are from filling the cube evenly,
    is a mean over pairs of rows; a row's part in it is

    .. math:: c(x) = \frac1n \sum_{i=1}^n \prod_{j=1}^d k(x_j - x_{ij}), \qquad
        k(u) = \tfrac32 - |u| + u^2,

    where the kernel is largest where values are equal. The anomaly is
    :math:`a(x) = -\log c(x)`: rows are anomalous where few others are. The range is
    closed to a ring, so that its ends are near each other; a value outside of it is
    taken for opposite to all, :math:`k = 5/4`. ``score_samples`` is :math:`-a`. The map
    has, for each feature, the mean of :math:`4 (3/2 - k)` over the training rows,
    weighted by their products: 0 where a value is that of all rows that count, 1 where
    it is opposite to them. It does not sum to the anomaly.

    Read more in the :ref:`User Guide <marginal>`.

    Parameters
    ----------
    rare : {"low", "high", "skewness"}, default="low"
        Which parts are anomalous. "high" turns scores and map over, for rows that lie
        too close together. "skewness" is PyOD's choice between the two: "high" where
        the parts of the training rows have neither a negative skewness nor a negative
        excess kurtosis.

    Attributes
    ----------
    rare_ : {"low", "high"}
        What was chosen.

    See Also
    --------
    skad.density.KDE : A kernel whose width is chosen.

    Notes
    -----
    Scoring costs O(n d) a row. Nothing is left to be tuned, and little to be gained: on
    tables with many features all products are alike. Scores do not change when single
    features are scaled or shifted.

    Where numba is installed (``pip install 'skad[compiled]'``) it compiles the sum once
    some seconds of work were done: a fifth of the time from then on, and the same
    scores to the last bit.

    ``contamination="auto"`` takes each training row out of the sum, and its values out
    of the range where they are its only ends.

    PyOD takes the parts as they are instead of their logarithm, and the kernel outside
    of the range, where it grows, so that far rows seem to lie amid all others.

    References
    ----------
    .. [1] K.-T. Fang and C.-X. Ma, "Wrap-around L2-discrepancy of random sampling,
       Latin hypercube and uniform designs", Journal of Complexity, 2001, equation (7).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.marginal import QMCD
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> QMCD().fit(X).predict([[0.0, 0.0], [6.0, 6.0]])
    array([ 1, -1])
    """

    rare: str = "low"
    _: KW_ONLY

    _ignores_units = True
    _parameter_constraints = {"rare": [StrOptions({"low", "high", "skewness"})]}

    def _row_elements(self):
        return self._n_rows_

    def _fit(self, X, y):
        X = to_double(to_numpy(X))
        self._lowest_, self._highest_ = X.min(axis=0), X.max(axis=0)
        with np.errstate(over="ignore"):
            spread = self._highest_ - self._lowest_
        if not np.isfinite(spread).all():
            raise ValueError(
                "X has values too large for QMCD: their range overflows. Scale the "
                "features (StandardScaler)."
            )
        self._range_ = np.where(spread > 0, spread, 1.0)
        self._tiles_ = tiles_of((X - self._lowest_) / self._range_)
        self._n_rows_ = len(X)
        # whether a single row holds an end
        ends = (self._lowest_ == X), (self._highest_ == X)
        self._single_ = [end.sum(axis=0) == 1 for end in ends]
        self.rare_, self._sign_ = "low", 1.0
        if self.rare == "high" or (self.rare == "skewness" and self._are_high(X)):
            self.rare_, self._sign_ = "high", -1.0

    def _are_high(self, X):
        parts = np.exp(-self._in_blocks(self._anomaly, X))
        away = parts - parts.mean()
        spread = (away**2).mean()
        if spread == 0:
            return False
        skewness = (away**3).mean() / spread**1.5
        return bool(skewness >= 0 and (away**4).mean() / spread**2 >= 3)

    def _outside(self, X):
        return (self._lowest_ > X) | (self._highest_ < X)

    def _log_means(self, X, outside):
        rows = (X - self._lowest_) / self._range_
        return log_means(rows, self._tiles_, self._n_rows_, outside)

    def _anomaly(self, X):
        X = to_double(to_numpy(X))
        self._check_size(X)
        return -self._sign_ * self._log_means(X, self._outside(X))

    def _check_size(self, X):
        with np.errstate(over="ignore"):
            away = np.abs(X - self._lowest_) / self._range_
            large = ~np.isfinite(away**2)
        if large.any():
            raise ValueError(
                "X has values too large for QMCD: their distance from the range "
                "overflows. Scale the features (StandardScaler)."
            )

    def _left_out(self, X):
        X = to_double(to_numpy(X))
        ends = (self._lowest_ == X) & self._single_[0]
        ends |= (self._highest_ == X) & self._single_[1]
        mean, n = self._log_means(X, ends), self._n_rows_
        # with itself: 3/2 in each feature, or 5/4 where it is taken for outside
        own = np.where(ends, np.log(OPPOSITE), np.log(1.5)).sum(axis=1)
        share = np.minimum(np.exp(own - mean) / n, 1 - 1e-12)
        left = mean + np.log1p(-share) + np.log(n / (n - 1))
        return -self._sign_ * left

    def _inspect(self, X):
        X = to_double(to_numpy(X))
        self._check_size(X)
        outside = self._outside(X)
        rows, n = (X - self._lowest_) / self._range_, self._n_rows_
        mean, maps = np.empty(len(X)), np.empty_like(X)
        for part in slices(len(X), block_rows(4 * n)):
            weight, mean[part] = weights(rows[part], self._tiles_, n, outside[part])
            for j in range(X.shape[1]):
                away = np.abs(rows[part, j, None] - values_of(self._tiles_, n, j))
                maps[part, j] = row_sums(weight * away * (1 - away)) * 4
        maps = np.where(outside, 1.0, maps)
        return -self._sign_ * mean, self._sign_ * maps

    def _map(self, X):
        return self._inspect(X)[1]

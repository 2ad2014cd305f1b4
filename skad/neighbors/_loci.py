"""Local correlation integral: fewer rows around than around those nearby."""

import math
from itertools import pairwise
from numbers import Integral, Real

import numpy as np
from scipy.spatial.distance import cdist

from skad._array import blocks, to_double, to_numpy
from skad._left_out import LeftOutMixin
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval
from skad.base import BaseDetector

# Rows whose distances to all others choose the radii.
_PROBES = 50
# Radii at most that fill the gap between two.
_MOST_BETWEEN = 200


def without_gaps(radii, alpha):
    """Return ascending radii, with others between those that are far apart.

    Without them a row that is alone within the one radius, and among all within
    `alpha` times the next, would seem as usual as can be.
    """
    radii = np.unique(radii[radii > 0])
    parts = [radii[:1]]
    for low, high in pairwise(radii):
        n = min(_MOST_BETWEEN, math.ceil(math.log(high / low) / -math.log(alpha)))
        # from below where that is too few
        parts.append(np.append(low * alpha ** -np.arange(1.0, n), high))
    return np.concatenate(parts)


def chosen_radii(X, n_radii, n_min, alpha):
    """Return ascending radii: quantiles of distances, on to where all rows are near.

    The largest is the diameter over `alpha`, beyond which no count changes.
    """
    n = len(X)
    probes = X[np.unique(np.linspace(0, n - 1, min(n, _PROBES)).astype(int))]
    distance = np.sort(cdist(probes, X), axis=1)
    places = np.geomspace(min(n_min, n - 1), n - 1, n_radii - 1)
    radii = without_gaps(np.median(distance, axis=0)[places.astype(int)], alpha)
    # every row is within the largest distance from a probe, and two within twice that
    reach = 2 * distance[:, -1].min() / alpha
    return np.unique(np.append(radii, reach))


@with_parameters(kw_only=False)
class LOCI(LeftOutMixin, BaseDetector):
    r"""Rows with fewer others around than the rows nearby have.

    With :math:`n(y, \alpha r)` training rows within :math:`\alpha r` of a row
    :math:`y`, itself counted, and their mean :math:`\hat n` and standard deviation
    :math:`\hat\sigma` over the rows within :math:`r` of :math:`x`, itself among them,
    the multi-granularity deviation factor and the anomaly are

    .. math:: \mathrm{MDEF}(x, r) = 1 - \frac{n(x, \alpha r)}{\hat n}, \qquad
        a(x) = \max_r \frac{\mathrm{MDEF}(x, r)}{\hat\sigma / \hat n},

    over radii within which at least `n_min` rows lie: how many standard deviations a
    row's count is below what is usual around it. The paper flags three and more.
    ``score_samples`` is :math:`-a`. The map splits the anomaly by the squared
    differences of the features from the mean of the rows within the radius that
    counted; it sums to the anomaly.

    Read more in the :ref:`User Guide <neighbors>`.

    Parameters
    ----------
    alpha : float, default=0.5
        The share :math:`\alpha` of the radius in which rows are counted, below 1.
    n_min : int, default=20
        The least number of rows within a radius, as in the paper; all where there are
        fewer.
    n_radii : int, default=32
        How many radii are compared, at least 2, from that within which half of the rows
        have `n_min` to that beyond which nothing changes.

    Attributes
    ----------
    radii_ : ndarray of shape (n_radii,)
        The radii :math:`r`, ascending; fewer where some would be equal.

    See Also
    --------
    LOF : Compares densities at one scale, that of `k` neighbours.

    Notes
    -----
    `fit` costs O(n^2 (d + m)) for `m` radii, scoring O(n (d + m)) a row. A new row
    counts as if it were added to the training rows, and a training row as one of them,
    so that at the same radii its score is the same whether it is learned from or
    scored: leaving it out changes nothing else. From a distance on, beyond all radii,
    rows have the same anomaly, about the root of the number of training rows, which is
    the largest there can be. Scores do not change when rows are shifted or rotated, or
    all features are scaled together.

    The paper tries as radii the distances from each row to the others; here they are
    the same for all rows, so that counts are made once.

    References
    ----------
    .. [1] S. Papadimitriou, H. Kitagawa, P. B. Gibbons and C. Faloutsos, "LOCI: fast
       outlier detection using the local correlation integral", International
       Conference on Data Engineering, 2003, definitions 1 to 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.neighbors import LOCI
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = LOCI().fit(X)
    >>> detector.predict([[0.0, 0.0], [5.0, 5.0]])
    array([ 1, -1])
    """

    alpha: float = 0.5
    _: KW_ONLY
    n_min: int = 20
    n_radii: int = 32

    _map_sums_to_score = True
    _parameter_constraints = {
        "alpha": [Interval(Real, 0, 1, closed="neither")],
        "n_min": [Interval(Integral, 2, None, closed="left")],
        "n_radii": [Interval(Integral, 2, None, closed="left")],
    }

    def _row_elements(self):
        return 4 * len(self._rows_)

    def _fit(self, X, y):
        self._rows_ = to_double(to_numpy(X))
        n = len(self._rows_)
        self._n_min_ = min(self.n_min, n)
        self.radii_ = chosen_radii(self._rows_, self.n_radii, self.n_min, self.alpha)
        if not np.isfinite(self.radii_).all():
            raise ValueError(
                "X has values too large for LOCI: their distances overflow. Scale the "
                "features (StandardScaler)."
            )
        counts = np.empty((n, len(self.radii_)))
        for part in blocks(n, 2 * n):
            near = np.sort(cdist(self._rows_[part], self._rows_), axis=1)
            for row, own in zip(counts[part], near, strict=True):
                row[:] = np.searchsorted(own, self.alpha * self.radii_, side="right")
        self._counts_ = counts

    def _factors(self, X):
        """Return the anomaly (b,), the radius (b,) and the distances (b, n)."""
        distance = cdist(X, self._rows_)
        new = distance.min(axis=1) > 0  # else it is the row that it equals
        best, at = np.zeros(len(X)), np.full(len(X), self.radii_[-1])
        # one more, each row's own, where it is farther than all radii from some
        farthest = distance.max(axis=1)
        outside = farthest > self.radii_[-1]
        for i, radius in enumerate(self.radii_):
            found = self._at(distance, new, radius, self._counts_[:, i])
            better = found > best
            best[better], at[better] = found[better], radius
        if outside.any():
            whole = np.full(len(self._rows_), float(len(self._rows_)))
            radius = farthest[outside, None]
            found = self._at(distance[outside], new[outside], radius, whole)
            better = np.flatnonzero(outside)[found > best[outside]]
            best[better], at[better] = found[found > best[outside]], farthest[better]
        return best, at, distance

    def _at(self, distance, new, radius, counts):
        """Return MDEF in standard deviations (b,) at one radius, 0 with few rows."""
        within = (distance <= radius).astype(np.float64)
        close = distance <= self.alpha * radius
        own = close.sum(axis=1) + new
        n = within.sum(axis=1) + new
        # a new row adds one to the counts of those that it is close to
        added = close & new[:, None]
        n_added = added.sum(axis=1)
        first = within @ counts + n_added + own * new
        second = within @ counts**2 + 2 * (added @ counts) + n_added + own**2 * new
        mean = first / n
        variance = second / n - mean**2
        spread = np.sqrt(np.maximum(variance, 0))
        known = (n >= self._n_min_) & (variance > 1e-12 * mean**2)
        return np.where(known, (mean - own) / np.where(known, spread, 1.0), 0.0)

    def _inspect(self, X):
        rows = to_double(to_numpy(X))
        if not np.isfinite(np.vecdot(rows, rows)).all():
            raise ValueError(
                "X has values too large for LOCI: their distances overflow. Scale the "
                "features (StandardScaler)."
            )
        best, at, distance = self._factors(rows)
        within = (distance <= at[:, None]).astype(np.float64)
        number = np.maximum(within.sum(axis=1, keepdims=True), 1)
        parts = (rows - within @ self._rows_ / number) ** 2
        whole = parts.sum(axis=1, keepdims=True)
        share = np.where(
            whole > 0, parts / np.where(whole > 0, whole, 1.0), 1 / rows.shape[1]
        )
        return best, best[:, None] * share

    def _anomaly(self, X):
        return self._factors(to_double(to_numpy(X)))[0]

    def _left_out(self, X):
        return self._anomaly(X)

    def _map(self, X):
        return self._inspect(X)[1]

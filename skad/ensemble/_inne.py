"""Isolation by nearest neighbours: balls around few random rows."""

from numbers import Integral

import numpy as np
from scipy.spatial.distance import cdist

from skad._array import row_sums, to_double, to_numpy
from skad._parameters import KW_ONLY, with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.base import BaseDetector


def squared_radii(centres):
    """Return the squared radii (t, m) of balls around sets of centres (t, m, d).

    And the places (t, m) of the nearest other centres in their sets.
    """
    distance = np.stack([cdist(own, own, "sqeuclidean") for own in centres])
    m = distance.shape[1]
    distance[:, range(m), range(m)] = np.inf
    nearest = distance.argmin(axis=2)
    return np.take_along_axis(distance, nearest[..., None], axis=2)[..., 0], nearest


@with_parameters(kw_only=False)
class INNE(BaseDetector):
    r"""Rows that lie in large balls around random rows, or in none.

    Each of `t` sets has `m` random training rows. Around each, :math:`c`, lies a ball
    up to the nearest other row of the set, of radius :math:`r(c)`. With the smallest
    ball of the set that holds a row, around :math:`c`, and the nearest other row
    :math:`c'` of the set, the row's isolation is

    .. math:: I(x) = 1 - \frac{r(c')}{r(c)},

    and 1 if no ball holds it. The anomaly is the mean over the sets, from 0 to 1: a
    ball that is large beside its neighbour's lies at the edge of a cluster, so that
    clusters of all densities are normal. ``score_samples`` is :math:`-a`. The map books
    the isolation in each set on the features by their share in the squared distance to
    :math:`c`, or to the nearest row of the set where no ball holds the row; it sums to
    the anomaly.

    Read more in the :ref:`User Guide <ensemble>`.

    Parameters
    ----------
    n_estimators : int, default=200
        Number of sets `t`.
    max_samples : int, default=8
        Rows `m` of each set, at least 2; fewer where there are not as many.
    random_state : int, RandomState instance or None, default=None
        Draws the sets. Pass an int for reproducible results.

    Attributes
    ----------
    centres_ : ndarray of shape (n_estimators, max_samples, n_features)
        The rows of the sets.
    radii_ : ndarray of shape (n_estimators, max_samples)
        The radii :math:`r(c)`.
    ratios_ : ndarray of shape (n_estimators, max_samples)
        The isolation :math:`1 - r(c') / r(c)` in each ball.

    See Also
    --------
    IsolationForest : Boxes instead of balls, in any units.
    skad.neighbors.LOF : Densities compared with neighbours', of all rows.

    Notes
    -----
    `fit` costs O(t m^2 d), scoring O(t m d) a row, whatever the number of training rows
    is. Scores do not change when rows are shifted or rotated, or all features are
    scaled together. A ball of radius zero, around one of two equal rows, holds its
    equals alone, whose isolation is 0.

    ``contamination="auto"`` scores each training row by the sets that it is not in;
    where it is in all, its anomaly is 1.

    PyOD's `INNE` takes the ratio of squared radii.

    References
    ----------
    .. [1] T. R. Bandaragoda, K. M. Ting, D. Albrecht, F. T. Liu, Y. Zhu and J. R.
       Wells, "Isolation-based anomaly detection using nearest-neighbor ensembles",
       Computational Intelligence, 2018, definitions 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ensemble import INNE
    >>> rng = np.random.default_rng(0)
    >>> X = np.concatenate([rng.normal(size=(99, 2)), 0.1 * rng.normal(size=(99, 2))])
    >>> INNE(random_state=0).fit(X).predict([[0.0, 0.0], [1.0, 0.5], [6.0, 6.0]])
    array([ 1,  1, -1])
    """

    n_estimators: int = 200
    _: KW_ONLY
    max_samples: int = 8
    random_state: Seed = None

    _map_sums_to_score = True
    _honesty = "leave one out"
    _parameter_constraints = {
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "max_samples": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _row_elements(self):
        return 3 * self.ratios_.size

    def _fit(self, X, y):
        rows, random = to_double(to_numpy(X)), generator(self.random_state)
        n, m = len(rows), min(self.max_samples, len(rows))
        self._drawn_ = np.stack(
            [random.choice(n, m, replace=False) for _ in range(self.n_estimators)]
        )
        self.centres_ = rows[self._drawn_]
        self._squares_, nearest = squared_radii(self.centres_)
        self.radii_ = np.sqrt(self._squares_)
        inner = np.take_along_axis(self.radii_, nearest, axis=1)
        filled = self.radii_ > 0
        self.ratios_ = 1 - inner / np.where(filled, self.radii_, 1.0)
        self.ratios_[~filled] = 0.0

    def _isolations(self, X):
        """Return the isolations (b, t), and the centres (b, t) they are due to."""
        t, m = self.ratios_.shape
        distance = cdist(X, self.centres_.reshape(t * m, -1), "sqeuclidean")
        distance = distance.reshape(-1, t, m)
        if not np.isfinite(distance).all():
            raise ValueError(
                "X has values too large for INNE: their distances overflow. Scale the "
                "features (StandardScaler)."
            )
        held = np.where(distance <= self._squares_, self._squares_, np.inf)
        place = held.argmin(axis=2)
        size = np.take_along_axis(held, place[..., None], axis=2)[..., 0]
        ratio = np.take_along_axis(self.ratios_, place.T, axis=1).T
        outside = np.isinf(size)
        return np.where(outside, 1.0, ratio), place, outside, distance

    def _anomaly(self, X):
        isolation = self._isolations(to_double(to_numpy(X)))[0]
        return row_sums(isolation) / isolation.shape[1]

    def _honest_anomaly(self, X, y, anomaly, **params):
        rows = to_double(to_numpy(X))
        n, t = len(rows), len(self._drawn_)
        total = self._in_blocks(self._anomaly, rows, progress="score") * t
        # what the sets say that they are in: of `m` rows each
        own = np.zeros(n)
        seen = np.bincount(self._drawn_.ravel(), minlength=n)
        for j, drawn in enumerate(self._drawn_):
            centres, squares = self.centres_[j], self._squares_[j]
            inside = cdist(centres, centres, "sqeuclidean") <= squares
            place = np.where(inside, squares, np.inf).argmin(axis=1)
            own[drawn] += self.ratios_[j, place]
        left = (total - own) / np.maximum(t - seen, 1)
        return np.where(seen < t, left, 1.0)

    def _inspect(self, X):
        rows = to_double(to_numpy(X))
        isolation, place, outside, distance = self._isolations(rows)
        nearest = distance.argmin(axis=2)
        place = np.where(outside, nearest, place)  # (b, t)
        away = np.take_along_axis(distance, place[..., None], axis=2)[..., 0]
        d = rows.shape[1]
        maps = np.zeros_like(rows)
        for j, centres in enumerate(self.centres_):
            parts = (rows - centres[place[:, j]]) ** 2
            whole = away[:, j, None]
            share = np.where(whole > 0, parts / np.where(whole > 0, whole, 1), 1 / d)
            maps += isolation[:, j, None] * share
        t = isolation.shape[1]
        return row_sums(isolation) / t, maps / t

    def _map(self, X):
        return self._inspect(X)[1]

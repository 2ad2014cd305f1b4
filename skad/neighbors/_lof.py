"""Local outlier factor."""

import warnings
from numbers import Integral, Real

from skad._array import blocks, device_of, like, n_blocks, namespace
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval, StrOptions
from skad.base import BaseDetector
from skad.neighbors._apart import n_left_out
from skad.neighbors._neighbors import NeighborsMixin, check_distances
from skad.neighbors._search import METRICS
from skad.neighbors._sparse_search import different_rows, search_among

# Keeps the density of duplicated rows finite, as scikit-learn does.
_TINY = 1e-10


@with_parameters(kw_only=False)
class LOF(NeighborsMixin, BaseDetector):
    r"""Rows in thinner surroundings than their neighbours'.

    With the `k` nearest training rows :math:`N(x)` and the distance :math:`d_k(y)` of a
    training row to its k-th neighbour, the local reachability density is

    .. math:: lrd(x) = \Big(\frac{1}{k} \sum_{y \in N(x)} \max(d_k(y), d(x, y))
        + 10^{-10}\Big)^{-1}

    and the anomaly is the local outlier factor, about 1 inside a cluster of any
    density,

    .. math:: a(x) = \frac{1}{k} \sum_{y \in N(x)} lrd(y) \; / \; lrd(x).

    ``score_samples`` is :math:`-a`: the numbers of scikit-learn's
    ``LocalOutlierFactor``, its ``negative_outlier_factor_`` for training rows, which
    are never their own neighbours, and its novelty scores for others. The map books
    each reachability distance on the features by their share in :math:`d(x, y)`; it is
    never negative and sums to the factor.

    Read more in the :ref:`User Guide <neighbors>`.

    Parameters
    ----------
    n_neighbors : int, default=20
        Number of neighbours `k` (MinPts in the paper, which advises at least 10). With
        fewer training rows it warns and takes all the others, as scikit-learn does.
    metric : {"euclidean", "sqeuclidean", "manhattan", "cosine", "minkowski", \
            "precomputed"}, default="euclidean"
        The distance. For "precomputed", `X` holds distances to the training rows, of
        shape (n_samples, n_training_rows), and the map is over training rows.
    p : float, default=2
        Exponent of ``metric="minkowski"``, at least 1.

    Attributes
    ----------
    n_neighbors_ : int
        The number of neighbours in use.
    negative_outlier_factor_ : ndarray or tensor of shape (n_samples,)
        ``score_samples`` of the training rows.

    See Also
    --------
    KNN : The distance alone, for clusters of one density.

    Notes
    -----
    `fit` finds every training row's neighbours, O(n^2 d) exactly; scoring costs O(n d)
    a row. A neighbour that coincides with the row books its part equally on all
    features. The factor does not change when all features are scaled together nor, but
    for "cosine", when they are shifted. Sparse rows are read as by :class:`KNN`.

    A row with `k` equals or more has a k-distance of zero and an infinite density,
    beside which all others are anomalies. As the paper suggests, the next row that
    differs counts there, so that the factors stay of one order; where there are such
    rows, they are not scikit-learn's.

    References
    ----------
    .. [1] M. M. Breunig, H.-P. Kriegel, R. T. Ng, J. Sander, "LOF: identifying
       density-based local outliers", SIGMOD, 2000, definitions 5 to 7.

    Examples
    --------
    >>> from skad.neighbors import LOF
    >>> X = [[0.0], [0.1], [0.2], [0.3], [5.0], [6.0], [7.0], [2.0]]
    >>> LOF(n_neighbors=2, contamination=0.125).fit(X).predict(X)
    array([ 1,  1,  1,  1,  1,  1,  1, -1])
    """

    n_neighbors: int = 20
    _: KW_ONLY
    metric: str = "euclidean"
    p: float = 2

    _map_sums_to_score = True
    _least_rows = 1  # so that the error says how many neighbours there are
    _honesty = "leave one out"
    _apart = None  # which rows are no neighbours of each other, as a lift knows it
    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "metric": [StrOptions({*METRICS, "precomputed"})],
        "p": [Interval(Real, 1, None, closed="left")],
    }

    def _check_parameters(self, X):
        n = X.shape[0]
        if n == 1:
            raise ValueError(
                "Expected n_neighbors < n_samples_fit, but n_neighbors = 1, "
                "n_samples_fit = 1, n_samples = 1"
            )
        if self.metric == "precomputed":
            check_distances(X, square=True)
        n_others = n - n_left_out(self._apart)
        if self.n_neighbors > n_others:
            warnings.warn(
                f"n_neighbors={self.n_neighbors} is more than a training row has: "
                "n_neighbors will be set to (n_samples - 1) for estimation, or to the "
                f"rows that are apart from it, which takes all {n_others} neighbours.",
                stacklevel=5,
            )

    def _fewest_others(self):
        """Return how many training rows that are apart from one a lift must find."""
        return 1

    def _fit_work(self, X):
        return X.shape[0] ** 2 * X.shape[1]

    def _fit(self, X, y):
        xp = namespace(X)
        n_others = X.shape[0] - n_left_out(self._apart)
        self.n_neighbors_ = min(self.n_neighbors, n_others)
        self.n_samples_fit_ = X.shape[0]
        if self.metric != "precomputed":
            self._search_ = search_among(
                X,
                self.metric,
                self.p,
                self.algorithm,
                self.n_jobs,
                self.random_state,
                self.n_neighbors_,
                self._apart,
            )
        size = X.shape[0], self._row_elements(), device_of(X)
        found = [
            self._neighbors(X[rows])
            for rows in self._steps(blocks(*size), "neighbours", n_blocks(*size))
        ]
        distance, indices = (xp.concat(part) for part in zip(*found, strict=True))
        self._reach_ = 1.0 * self._distinct_reach(X, distance[:, -1])  # (n,)
        self._density_ = self._local_density(distance, indices)
        anomaly = xp.mean(self._density_[indices], axis=1) / self._density_
        self.negative_outlier_factor_ = -anomaly
        return anomaly

    def _distinct_reach(self, X, reach):
        """Return `reach` (n,), and where that is zero the way to the next other row."""
        xp = namespace(X)
        repeated = xp.nonzero(reach == 0)[0]
        if not len(repeated):
            return reach
        if self.metric == "precomputed":
            others = X[repeated]
            others = xp.min(xp.where(others > 0, others, xp.inf), axis=1)
            reach[repeated] = xp.where(xp.isfinite(others), others, 0.0)
            return reach
        different = different_rows(X)
        if different.shape[0] > 1:
            search = search_among(
                different, self.metric, self.p, "auto", self.n_jobs, None, 2
            )
            reach[repeated] = search.query(X[repeated], 2)[0][:, 1]
        return reach

    def _honest_anomaly(self, X, y, anomaly, **params):
        return self._seen_anomaly(X, anomaly)

    def _reachability(self, distance, indices):
        xp = namespace(distance)
        return xp.maximum(like(self._reach_, distance)[indices], distance)  # (b, k)

    def _local_density(self, distance, indices):
        xp = namespace(distance)
        return 1 / (xp.mean(self._reachability(distance, indices), axis=1) + _TINY)

    def _anomaly(self, X):
        distance, indices = self._neighbors(X)
        around = namespace(X).mean(like(self._density_, X)[indices], axis=1)
        return around / self._local_density(distance, indices)

    def _map(self, X):
        xp = namespace(X)
        distance, indices = self._neighbors(X)
        reach = self._reachability(distance, indices) + _TINY
        around = xp.mean(like(self._density_, X)[indices], axis=1)
        if self.metric == "precomputed":
            maps = xp.zeros_like(X)
            rows = xp.arange(X.shape[0], device=device_of(X))[:, None]
            maps[rows, indices] = reach * around[:, None] / self.n_neighbors_
            return maps

        def shared(parts, total, rows):
            share = xp.where(
                total[..., None] > 0,
                parts / xp.where(total > 0, total, 1.0)[..., None],
                1 / X.shape[1],
            )  # (b, k, d)
            return xp.mean(reach[rows][..., None] * share, axis=1)

        return self._folded(shared, X, indices) * around[:, None]

"""Distance to the nearest training rows."""

from numbers import Integral, Real

import numpy as np

from skad._array import blocks, device_of, is_torch, like, n_blocks, namespace
from skad._parameters import KW_ONLY, with_parameters
from skad._random import generator
from skad._sklearn import Interval, StrOptions
from skad.base import BaseDetector
from skad.neighbors._apart import drop_self
from skad.neighbors._neighbors import NeighborsMixin, check_distances
from skad.neighbors._search import METRICS
from skad.neighbors._sparse_search import search_among


def rank_weights(method, k):
    """Return what the k ascending distances count in the score, summing to one."""
    rank = np.arange(k)
    if method == "largest":
        weights = (rank == k - 1).astype(float)
    elif method == "median":
        weights = ((rank == (k - 1) // 2) | (rank == k // 2)).astype(float)
    elif method == "mean":
        weights = np.ones(k)
    else:
        weights = (k - rank).astype(float)
    return weights / weights.sum()


@with_parameters(kw_only=False)
class KNN(NeighborsMixin, BaseDetector):
    r"""Rows that are far from their nearest training rows.

    Normal rows have company. With :math:`d_1(x) \le \dots \le d_k(x)` the distances to
    the `k` nearest training rows, the anomaly is

    .. math:: a(x) = \sum_{j=1}^{k} w_j \, d_j(x),

    with the weights of `method`. A training row is never its own neighbour: of the
    training rows at distance zero one is left out, so `fit` and `score_samples` give a
    training row the same score. ``score_samples`` is :math:`-a`. The map splits each
    distance into what the features add to it, :math:`|x_i - y_i|^p / d(x, y)^{p - 1}`;
    it is never negative and sums to the anomaly.

    Read more in the :ref:`User Guide <neighbors>`.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of neighbours `k`, less than the number of training rows.
    method : {"largest", "mean", "median", "weighted"}, default="largest"
        The weights: all on the k-th distance [1]_; equal [2]_; on the middle one (or
        two); or falling with the rank, :math:`w_j \propto k + 1 - j` [3]_.
    max_samples : int or None, default=None
        How many training rows are kept, drawn at random, at most all; None keeps all.
        With ``n_neighbors=1`` and 20 it is the paper's sampling [5]_: fast, and of use
        where anomalies come in clumps.
    metric : {"euclidean", "sqeuclidean", "manhattan", "cosine", "minkowski", \
            "precomputed"}, default="euclidean"
        The distance. For "precomputed", `X` holds distances to the training rows, of
        shape (n_samples, n_training_rows), and the map is over training rows. A zero
        row has the cosine distance 1/2 to all others.
    p : float, default=2
        Exponent of ``metric="minkowski"``, at least 1.
    random_state : int, RandomState instance or None, default=None
        Draws the rows of `max_samples` and seeds the graph of "pynndescent". Pass an
        int for reproducible results.

    Attributes
    ----------
    kept_ : ndarray of shape (max_samples,) or None
        With `max_samples` the numbers of the training rows that are kept, ascending;
        `kneighbors` counts these alone.
    n_samples_fit_ : int
        Number of training rows that are kept.

    See Also
    --------
    LOF : Compares the distance with that of the neighbours.

    Notes
    -----
    Exact scoring costs O(n d) a row. Products in float32 pick the candidates, their
    true distances are computed in the dtype of `X`, and rows whose order the rounding
    of float32 could have changed are searched again in float64. The score does not
    change when features are permuted, nor, but for "cosine", when they are shifted.

    Sparse rows stay as they are for "auto" and "brute" on the host: products of sparse
    rows pick the candidates, and the distances are those of dense rows. Only the map is
    dense. Other searches, and a GPU, take sparse rows that fit in ``working_memory``.

    References
    ----------
    .. [1] S. Ramaswamy, R. Rastogi, K. Shim, "Efficient algorithms for mining outliers
       from large data sets", SIGMOD, 2000, definition 1.
    .. [2] F. Angiulli and C. Pizzuti, "Fast outlier detection in high dimensional
       spaces", PKDD, 2002, definition 1 (the sum of the distances).
    .. [3] S. A. Dudani, "The distance-weighted k-nearest-neighbor rule", IEEE
       Transactions on Systems, Man, and Cybernetics, 1976 (weights by rank).
    .. [4] W. Dong, M. Charikar, K. Li, "Efficient k-nearest neighbor graph construction
       for generic similarity measures", WWW, 2011 ("pynndescent").
    .. [5] M. Sugiyama and K. M. Borgwardt, "Rapid distance-based outlier detection via
       sampling", Advances in Neural Information Processing Systems, 2013.

    Examples
    --------
    >>> from skad.neighbors import KNN
    >>> X = [[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [0.1, 0.1], [0.0, 3.0]]
    >>> detector = KNN(n_neighbors=2, contamination=0.2).fit(X)
    >>> detector.predict(X)
    array([ 1,  1,  1,  1, -1])
    >>> detector.transform([[0.0, 3.0]]).round(2)
    array([[0. , 2.9]])
    """

    n_neighbors: int = 5
    _: KW_ONLY
    method: str = "largest"
    max_samples: int | None = None
    metric: str = "euclidean"
    p: float = 2

    _map_sums_to_score = True
    _honesty = "leave one out"
    _apart = None  # which rows are no neighbours of each other, as a lift knows it
    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "method": [StrOptions({"largest", "mean", "median", "weighted"})],
        "max_samples": [Interval(Integral, 2, None, closed="left"), None],
        "metric": [StrOptions({*METRICS, "precomputed"})],
        "p": [Interval(Real, 1, None, closed="left")],
    }

    def _check_parameters(self, X):
        check_n_neighbors(self.n_neighbors, X)
        if self.max_samples is not None:
            self._check_max_samples()
        if self.metric == "precomputed":
            check_distances(X, square=True)

    def _check_max_samples(self):
        if self.metric == "precomputed" or self._apart is not None:
            raise ValueError(
                f"max_samples={self.max_samples} draws from rows, which are not given "
                "with metric='precomputed', nor from windows, which lie on each other: "
                "pass None."
            )
        if self.max_samples <= self.n_neighbors:
            raise ValueError(
                f"max_samples={self.max_samples} must be more than n_neighbors="
                f"{self.n_neighbors}."
            )

    def _fewest_others(self):
        """Return how many training rows that are apart from one a lift must find."""
        return self.n_neighbors

    def _fit_work(self, X):
        return X.shape[0] ** 2 * X.shape[1]

    def _fit(self, X, y):
        state, self.kept_ = self.random_state, None
        if self.max_samples is not None:
            state = generator(state)
            m = min(self.max_samples, X.shape[0])
            self.kept_ = np.sort(state.choice(X.shape[0], m, replace=False))
            X = X[like(self.kept_, X, dtype="keep")] if is_torch(X) else X[self.kept_]
        self.n_samples_fit_ = X.shape[0]
        if self.metric != "precomputed":
            self._search_ = search_among(
                X,
                self.metric,
                self.p,
                self.algorithm,
                self.n_jobs,
                state,
                self.n_neighbors,
                self._apart,
            )
            of_all = self._apart is None and self.max_samples is None
            if self._search_.graph is not None and of_all:
                return self._anomaly_in_graph(X)
        return None

    def _anomaly_in_graph(self, X):
        """Return the training rows' anomaly from the graph that was built of them."""
        size = X.shape[0], self._row_elements(), device_of(X)
        query, parts = self._search_.in_graph(self.n_neighbors + 1), []
        for rows in self._steps(blocks(*size), "score", n_blocks(*size)):
            parts.append(self._pooled(drop_self(*query(rows))[0]))
        return namespace(X).concat(parts)

    def _pooled(self, distance):
        return distance @ like(rank_weights(self.method, self.n_neighbors), distance)

    def _honest_anomaly(self, X, y, anomaly, **params):
        return self._seen_anomaly(X, anomaly)

    def _anomaly(self, X):
        return self._pooled(self._neighbors(X)[0])

    def _map(self, X):
        xp = namespace(X)
        distance, indices = self._neighbors(X)
        weights = like(rank_weights(self.method, self.n_neighbors), X)
        if self.metric == "precomputed":
            maps = xp.zeros_like(X)
            maps[xp.arange(X.shape[0])[:, None], indices] = distance * weights
            return maps

        def weighted(parts, distance, rows):
            return xp.sum(parts * weights[:, None], axis=1)

        return self._folded(weighted, X, indices)


def check_n_neighbors(n_neighbors, X):
    """Raise ValueError when the training data has too few rows."""
    if n_neighbors >= X.shape[0]:
        raise ValueError(
            f"n_neighbors={n_neighbors} must be less than the number of training rows, "
            f"n_samples={X.shape[0]}."
        )

"""Global-local outlier scores from hierarchies of clusters."""

from numbers import Integral
from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import cdist

from skad._array import blocks, to_double, to_numpy
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval, condensed_tree
from skad.base import BaseDetector
from skad.neighbors._search import NeighborSearch

# Nearest rows beyond those of the core distance that a row may be connected to first.
_CANDIDATES = 10


class Hierarchy(NamedTuple):
    """Clusters by number, the first of all rows, and where training rows leave them."""

    parents: np.ndarray  # (c,), its own number of the first
    births: np.ndarray  # (c,), densities at which clusters begin
    deaths: np.ndarray  # (c,), of the last row in a cluster or in one of it
    clusters: np.ndarray  # (n,), which each training row belonged to last
    densities: np.ndarray  # (n,), at which it left


def hierarchy_of(tree, n):
    """Return the hierarchy of a condensed tree over `n` rows."""
    keys = "parent", "child", "value"
    parent, child, density = (np.array(tree[key]) for key in keys)
    parent, known = parent - n, np.isfinite(density)
    # between equal rows the density is infinite: that of the nearest others, then
    most = density[known].max() if known.any() else 1e300
    density = np.where(known, density, most)
    n_clusters = int(parent.max()) + 1
    is_row = child < n
    parents, births = np.zeros(n_clusters, dtype=np.int64), np.zeros(n_clusters)
    below = child[~is_row] - n
    parents[below], births[below] = parent[~is_row], density[~is_row]
    deaths = np.zeros(n_clusters)
    np.maximum.at(deaths, parent, density)
    for cluster in range(n_clusters - 1, 0, -1):  # numbers grow downwards
        above = parents[cluster]
        deaths[above] = max(deaths[above], deaths[cluster])
    clusters, densities = np.zeros(n, dtype=np.int64), np.zeros(n)
    clusters[child[is_row]], densities[child[is_row]] = parent[is_row], density[is_row]
    # one that begins and ends at one level, where several are parted, is none
    own = np.arange(n_clusters)
    for cluster in range(1, n_clusters):
        if deaths[cluster] <= births[cluster]:
            own[cluster] = own[parents[cluster]]
    clusters = own[clusters]
    return Hierarchy(parents, births, deaths, clusters, densities)


@with_parameters(kw_only=False)
class HDBSCANOutliers(BaseDetector):
    r"""Rows that leave their cluster long before its densest rows do.

    With the distance :math:`d_c(x)` to the `min_samples`-th nearest row, itself
    counted, rows are connected at the level of their mutual reachability
    :math:`\max(d_c(x), d_c(y), \lVert x - y \rVert)`. As the level falls from infinity
    the rows come apart into clusters of at least `min_cluster_size` rows, and single
    rows and small groups leave theirs. With the level :math:`\varepsilon(x)` at which a
    row leaves its last cluster :math:`C`, and :math:`\varepsilon(C)` at which the last
    row of :math:`C` leaves it or a cluster within, the anomaly is the global-local
    outlier score from hierarchies (GLOSH),

    .. math:: a(x) = 1 - \frac{\varepsilon(C)}{\varepsilon(x)},

    from 0 amid a cluster of any density to 1 far from all. ``score_samples`` is
    :math:`-a`. The map splits the anomaly by the squared differences of the features
    from the training row that a row is connected to first; it sums to the anomaly.

    Read more in the :ref:`User Guide <neighbors>`.

    Parameters
    ----------
    min_cluster_size : int, default=10
        Rows of a cluster, at least 2.
    min_samples : int or None, default=None
        Of the core distance :math:`d_c`; None is `min_cluster_size`. Both are at most
        the number of training rows.

    Attributes
    ----------
    core_distances_ : ndarray of shape (n_samples,)
        The core distances of the training rows.
    n_clusters_ : int
        Number of clusters of all levels, the one of all rows among them.

    See Also
    --------
    LOF : Densities compared with neighbours' alone.

    Notes
    -----
    `fit` costs O(n^2 d), scoring O(n d) a row. The hierarchy is that of scikit-learn's
    ``HDBSCAN``. A new row joins it where it is connected first, and changes nothing of
    it; a training row is scored as if it were new, which gives it the level at which it
    left. Scores do not change when rows are shifted or rotated, or all features are
    scaled together. Where rows are equal, levels of zero are replaced by the lowest
    other one.

    The package hdbscan calls this ``outlier_scores_``; here clusters that begin and end
    at one level are none. PyOD's
    `HDBSCAN` has one minus the membership of the chosen clusters instead.

    References
    ----------
    .. [1] R. J. G. B. Campello, D. Moulavi, A. Zimek and J. Sander, "Hierarchical
       density estimates for data clustering, visualization, and outlier detection",
       ACM Transactions on Knowledge Discovery from Data, 2015, definition 8.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.neighbors import HDBSCANOutliers
    >>> rng = np.random.default_rng(0)
    >>> X = np.r_[rng.normal(0, 1, (90, 2)), rng.normal(20, 0.1, (90, 2))]
    >>> detector = HDBSCANOutliers().fit(X)
    >>> detector.predict([[0.0, 0.0], [20.0, 20.0], [19.0, 20.0], [7.0, 0.0]])
    array([ 1,  1, -1, -1])
    """

    min_cluster_size: int = 10
    _: KW_ONLY
    min_samples: int | None = None

    _map_sums_to_score = True
    _honesty = "leave one out"
    _parameter_constraints = {
        "min_cluster_size": [Interval(Integral, 2, None, closed="left")],
        "min_samples": [Interval(Integral, 1, None, closed="left"), None],
    }

    def _row_elements(self):
        return 4 * (self.n_features_in_ + _CANDIDATES + self._core_)

    def _fit(self, X, y):
        self._rows_ = rows = to_double(to_numpy(X))
        n = len(rows)
        size = min(self.min_cluster_size, n)
        core = self.min_cluster_size if self.min_samples is None else self.min_samples
        self._core_ = min(core, n)
        k = min(n - 1, self._core_ + _CANDIDATES)
        self._search_ = NeighborSearch(rows, "euclidean", 2, "auto", None, None, k)
        near = self._in_blocks(self._near, rows, np.intp)
        self.core_distances_ = near[0]
        tree = condensed_tree(rows - rows.mean(axis=0), size, near[0])
        self._hierarchy_ = tuple(hierarchy_of(tree, n))
        self.n_clusters_ = len(self._hierarchy_[0])
        return self._joined(rows, near)[0]

    def _near(self, X):
        """Return core distances (b,), distances (b, k) and numbers of nearest rows."""
        k = min(len(self._rows_) - 1, self._core_ + _CANDIDATES)
        distance, indices = self._search_.neighbors(X, k)
        if not np.isfinite(distance).all():
            raise ValueError(
                "X has values too large for HDBSCANOutliers: their distances overflow. "
                "Scale the features (StandardScaler)."
            )
        if self._core_ == 1:
            return np.zeros(len(X)), distance, indices
        return distance[:, self._core_ - 2], distance, indices

    def _connected(self, X, near):
        """Return the level (b,) and the training row (b,) of the first connection."""
        core, distance, indices = near
        cores = self.core_distances_[indices]
        reach = np.maximum(np.maximum(distance, core[:, None]), cores)
        level = reach.min(axis=1)
        other = self._longest(reach, level, indices)
        # a row that is farther than all of these may be connected first
        if distance.shape[1] < len(self._rows_) - 1:
            doubtful = np.flatnonzero(level > distance[:, -1])
            for rows in blocks(len(doubtful), 4 * len(self._rows_)):
                at = doubtful[rows]
                level[at], other[at] = self._connected_to_any(X[at], core[at])
        return level, other

    def _longest(self, reach, level, indices):
        """Return, of the rows at one level, the one that stays longest."""
        stays = Hierarchy(*self._hierarchy_).densities[indices]
        stays = np.where(reach <= level[:, None], stays, -1.0)
        if indices.ndim == 1:
            return stays.argmax(axis=1)
        place = stays.argmax(axis=1)[:, None]
        return np.take_along_axis(indices, place, axis=1)[:, 0]

    def _connected_to_any(self, X, core):
        distance = cdist(X, self._rows_)
        own = (distance == 0).any(axis=1)
        distance[own, distance[own].argmin(axis=1)] = np.inf
        reach = np.maximum(np.maximum(distance, core[:, None]), self.core_distances_)
        level = reach.min(axis=1)
        return level, self._longest(reach, level, np.arange(len(self._rows_)))

    def _joined(self, X, near):
        """Return the anomaly (b,), and the training row (b,) each is connected to."""
        level, other = self._connected(X, near)
        hierarchy = Hierarchy(*self._hierarchy_)
        most = hierarchy.deaths[0]
        density = 1 / np.where(level > 0, level, 1.0)
        density = np.where(level > 0, np.minimum(density, most), most)
        density = np.minimum(density, hierarchy.densities[other])
        cluster = hierarchy.clusters[other]
        while (late := hierarchy.births[cluster] > density).any():
            cluster = np.where(late, hierarchy.parents[cluster], cluster)
        death = hierarchy.deaths[cluster]
        return np.maximum(1 - density / np.where(death > 0, death, 1.0), 0), other

    def _anomaly(self, X):
        rows = to_double(to_numpy(X))
        return self._joined(rows, self._near(rows))[0]

    def _honest_anomaly(self, X, y, anomaly):
        return self._seen_anomaly(X, anomaly)  # a row is not its own neighbour

    def _inspect(self, X):
        rows = to_double(to_numpy(X))
        anomaly, other = self._joined(rows, self._near(rows))
        parts = (rows - self._rows_[other]) ** 2
        whole = parts.sum(axis=1, keepdims=True)
        share = np.where(
            whole > 0, parts / np.where(whole > 0, whole, 1.0), 1 / rows.shape[1]
        )
        return anomaly, anomaly[:, None] * share

    def _map(self, X):
        return self._inspect(X)[1]

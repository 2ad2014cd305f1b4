"""Distance to the nearest of the clusters that hold most rows."""

import warnings
from numbers import Integral, Real

import numpy as np
from scipy.spatial.distance import cdist
from sklearn import config_context
from sklearn.cluster import KMeans

from skad._array import is_torch, like, namespace, to_double, to_numpy
from skad._left_out import LeftOutMixin
from skad._parameters import KW_ONLY, with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.base import BaseDetector


def n_large(sizes, alpha, beta):
    """Return how many clusters are large, of sizes (k,) in descending order."""
    enough = np.cumsum(sizes)[:-1] >= alpha * sizes.sum()  # with b = 1, ..., k - 1
    drop = sizes[:-1] >= beta * sizes[1:]
    for holds in (enough & drop, enough, drop):
        if holds.any():
            return int(np.argmax(holds)) + 1
    return len(sizes)


@with_parameters(kw_only=False)
class CBLOF(LeftOutMixin, BaseDetector):
    r"""Rows far from the centres of all large clusters.

    The training rows are clustered by k-means. With the clusters in descending order of
    their sizes, the first :math:`b` are large [1]_, where :math:`b` is the smallest
    number for which both hold, or else the first, or else the second:

    .. math:: |C_1| + \ldots + |C_b| \ge \alpha n, \qquad |C_b| / |C_{b + 1}| \ge \beta.

    All are large where none holds. A row in a large cluster is judged by its distance
    to the centre, one in a small cluster by that to the nearest large cluster's. Since
    a row is in the cluster of the nearest centre, both are

    .. math:: a(x) = w(x) \min_{j \le b} \lVert x - \mu_j \rVert_2

    with :math:`w = 1`, or with ``use_weights=True`` the size of the row's cluster.
    ``score_samples`` is :math:`-a`. The map has the parts
    :math:`w \, (x_i - \mu_{ji})^2 / \lVert x - \mu_j \rVert_2` of the distance and sums
    to it.

    Read more in the :ref:`User Guide <neighbors>`.

    Parameters
    ----------
    n_clusters : int, default=8
        Number of clusters. With fewer different training rows it warns and makes a
        cluster of each.
    alpha : float, default=0.9
        Share :math:`\alpha` of the rows that large clusters hold, above 0.5.
    beta : float, default=5
        How many times as large :math:`\beta` the smallest large cluster is as the next,
        above 1.
    use_weights : bool, default=False
        Whether distances are multiplied by the size of the row's cluster, as in the
        paper. Then a row of a small cluster is less anomalous than the same distance in
        a large one, which is seldom meant [2]_.
    n_init : int, default=10
        Number of starts of k-means, of which the best is kept.
    random_state : int, RandomState instance or None, default=None
        Draws the first centres. Pass an int for reproducible results.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features)
        The centres :math:`\mu_j`, in descending order of the clusters' sizes.
    cluster_sizes_ : ndarray of shape (n_clusters,)
        The sizes :math:`|C_j|`.
    n_large_ : int
        The number of large clusters :math:`b`.

    See Also
    --------
    KNN : Distance to training rows.
    skad.series.KMeansAD : Distance of windows to the nearest of all centres.

    Notes
    -----
    ``contamination="auto"`` takes each training row out of the centre of its cluster,
    and out of its size, as if k-means had ended there.

    `fit` costs O(n k d) an iteration of scikit-learn's ``KMeans``, the best of
    `n_init` starts, which runs on the host; scoring costs O(k d) a row and runs where
    `X` lives.
    The score scales with the features; it does not change when they are shifted or
    rotated. The paper clusters categorical rows, and takes the first :math:`b` for
    which one of the conditions holds; both together are PyOD's reading.

    References
    ----------
    .. [1] Z. He, X. Xu, S. Deng, "Discovering cluster-based local outliers", Pattern
       Recognition Letters, 2003, definitions 2 and 3.
    .. [2] M. Amer and M. Goldstein, "Nearest-neighbor and clustering based anomaly
       detection algorithms for RapidMiner", RCOMM, 2012 (unweighted CBLOF).

    Examples
    --------
    >>> from skad.neighbors import CBLOF
    >>> X = [[0.0], [0.1], [0.2], [0.3], [9.0], [9.1], [9.2], [9.3], [5.0]]
    >>> detector = CBLOF(3, alpha=0.8, contamination=0.1, random_state=0).fit(X)
    >>> detector.predict(X)
    array([ 1,  1,  1,  1,  1,  1,  1,  1, -1])
    >>> detector.score_samples([[5.0]]).round(2)
    array([-4.15])
    """

    n_clusters: int = 8
    _: KW_ONLY
    alpha: float = 0.9
    beta: float = 5
    use_weights: bool = False
    n_init: int = 10
    random_state: Seed = None

    _map_sums_to_score = True
    _parameter_constraints = {
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "alpha": [Interval(Real, 0.5, 1, closed="neither")],
        "beta": [Interval(Real, 1, None, closed="neither")],
        "use_weights": ["boolean"],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _row_elements(self):
        return 8 * len(self.cluster_sizes_) + 2 * self.n_features_in_

    def _fit(self, X, y):
        rows = to_double(to_numpy(X))
        # to tell some rows apart is enough, where there are so many; -0.0 is 0.0
        some = rows[: 10 * self.n_clusters] + 0.0
        different = len({row.tobytes() for row in some})
        if different < self.n_clusters:
            different = len(np.unique(rows, axis=0))
        if different < self.n_clusters:
            warnings.warn(
                f"n_clusters={self.n_clusters} is more than the number of different "
                f"training rows: {different} clusters are made.",
                stacklevel=5,
            )
        model = KMeans(
            min(self.n_clusters, different),
            n_init=self.n_init,
            random_state=generator(self.random_state),
        )
        with config_context(array_api_dispatch=False, assume_finite=True):
            model.fit(rows)  # which subtracts the mean before it forms products
        sizes = np.bincount(model.labels_, minlength=model.n_clusters)
        order = np.argsort(-sizes, kind="stable")
        self.cluster_sizes_ = sizes[order]
        self.cluster_centers_ = model.cluster_centers_[order]
        self.n_large_ = n_large(self.cluster_sizes_, self.alpha, self.beta)

    def _distances(self, X):
        """Return the distances (b, k) of rows to all centres."""
        if not is_torch(X):
            return cdist(X, self.cluster_centers_)
        xp, squares = namespace(X), []
        # one centre after the other, since a difference from all takes much memory
        for centre in like(self.cluster_centers_, X):
            difference = X - centre
            squares.append(xp.vecdot(difference, difference))
        return xp.sqrt(xp.stack(squares, axis=1))

    def _weight(self, distance):
        """Return the weights (b,) of rows from their distances (b, k)."""
        xp = namespace(distance)
        closest = xp.argmin(distance, axis=1)
        if not self.use_weights:
            return xp.ones_like(distance[:, 0])
        return like(self.cluster_sizes_, distance)[closest]

    def _anomaly(self, X):
        distance = self._distances(X)
        nearest = namespace(X).min(distance[:, : self.n_large_], axis=1)
        return self._weight(distance) * nearest

    def _left_out(self, X):
        r"""Return the anomaly (b,) of training rows, each without itself.

        A row :math:`x` leaves a cluster of :math:`N` rows with a centre that is
        :math:`N / (N - 1)` times as far from it; a cluster of one row is gone.
        """
        xp = namespace(X)
        distance = self._distances(to_double(X))
        size = like(self.cluster_sizes_, distance)
        own = xp.argmin(distance, axis=1)
        is_own = own[:, None] == like(np.arange(len(size)), distance)  # (b, k)
        gain = size / xp.clip(size - 1, 1, None)
        moved = distance * xp.where(is_own, gain, 1.0)
        moved = xp.where(is_own & (size == 1), xp.inf, moved)
        nearest = xp.min(moved[:, : self.n_large_], axis=1)
        if not self.use_weights:
            return nearest
        closest = xp.argmin(moved, axis=1)
        return (size[closest] - like(closest == own, distance)) * nearest

    def _map(self, X):
        xp = namespace(X)
        distance = self._distances(X)
        large = distance[:, : self.n_large_]
        closest, nearest = xp.argmin(large, axis=1), xp.min(large, axis=1)
        share = self._weight(distance) / xp.where(nearest > 0, nearest, 1.0)
        parts = (X - like(self.cluster_centers_, X)[closest]) ** 2
        return parts * share[:, None]

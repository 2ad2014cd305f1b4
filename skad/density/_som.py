"""A map of nodes that organised itself among the training rows, a Gaussian in each."""

import math
from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np

from skad._array import like, namespace, to_numpy
from skad._organising import batch_step, check_map_shape, nearest_node
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.base import BaseDetector
from skad.density._gmm import corr_max


def start_of_map(X, shape):
    """Return nodes (k, d) on the plane of the two largest principal components.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    shape : (int, int)
        Rows and columns of the map; rows lie along the first component.
    """
    centre = X.mean(axis=0)
    _, lengths, axes = np.linalg.svd(X - centre, full_matrices=False)
    deviations = lengths / math.sqrt(len(X))
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    places = [2 * (np.arange(n) - (n - 1) / 2) / max(n - 1, 1) for n in shape]
    grid = np.stack(np.meshgrid(*places, indexing="ij"), -1).reshape(-1, 2)
    k = min(2, len(axes))
    return centre + grid[:, :k] @ (deviations[:k, None] * axes[:k])


@with_parameters
class SOM(BaseDetector):
    r"""Rows far from the nearest node of a self-organising map.

    Nodes :math:`\mu_j` lie on a map of rows and columns, and move among the training
    rows so that neighbours on the map stay neighbours. Each has the covariance
    :math:`\Sigma_j` of the training rows that are nearest to it. The anomaly of a row
    is the squared Mahalanobis distance to its nearest node b,

    .. math:: a(x) = (x - \mu_b)^T \Sigma_b^{-1} (x - \mu_b) = \sum_i w_i(x)^2, \qquad
        w = P_b^{-1/2} V_b^{-1/2} (x - \mu_b),

    where :math:`V_b` is the diagonal of the covariance and :math:`P_b` its correlation
    matrix. ``score_samples`` is :math:`-a`, and the map is :math:`w_i^2`.

    Read more in the :ref:`User Guide <density>`.

    Parameters
    ----------
    map_shape : tuple of int, default=(5, 5)
        Rows and columns of the map.
    n_epochs : int, default=20
        Passes over the training rows.
    final_width : float, default=0.3
        Width of the neighbourhood on the map in the last pass; in the first it is half
        the longer side of the map, in between it falls by the same factor each time.
        With 0 the last pass is a step of k-means.
    prior_count : float or None, default=None
        Rows that the covariance within all nodes counts for in that of each, so that
        nodes with few rows have one; above 0. None is the number of features.
    reg_covar : float, default=1e-06
        Share of the mean variance of a feature that is added to all variances.

    Attributes
    ----------
    nodes_ : ndarray of shape (n_nodes, n_features)
        The nodes :math:`\mu_j`, row by row of the map.
    covariances_ : ndarray of shape (n_nodes, n_features, n_features)
        :math:`\Sigma_j`.
    counts_ : ndarray of shape (n_nodes,)
        Training rows that are nearest to each node.

    See Also
    --------
    GMM : A mixture, in which every row has a part in every Gaussian.
    skad.image.SOMAD : One of the patches of pictures, as in [2]_.

    Notes
    -----
    The covariance of a node is that of its :math:`n_j` rows about it, with the rows'
    covariance about their nodes, over all nodes, counted `prior_count` times. One node
    is `Mahalanobis`. A training row some fifty times as far out as the others gets a
    node for itself, and then counts as normal: leave such rows out. The start is the
    plane of the first two principal components, so that nothing is random. `fit` costs
    O(n k d) an epoch and O(n d^2 + k d^3) for the covariances of k nodes, which take
    O(k d^2) memory, scoring O(k d + d^2) a row. The map, its start and the
    covariances of [2]_ are others.

    References
    ----------
    .. [1] T. Kohonen, "Self-organizing maps", 3rd edition, Springer, 2001 (the batch
       algorithm).
    .. [2] N. Li, K. Jiang, Z. Ma, X. Wei, X. Hong and Y. Gong, "Anomaly detection via
       self-organizing map", ICIP, 2021.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.density import SOM
    >>> angle = np.linspace(0, 2 * np.pi, 200)
    >>> circle = np.stack([np.cos(angle), np.sin(angle)], 1)
    >>> SOM().fit(circle).predict([[1.0, 0.0], [0.0, 0.0]])
    array([ 1, -1])
    """

    map_shape: Sequence[int] = (5, 5)
    n_epochs: int = 20
    final_width: float = 0.3
    prior_count: float | None = None
    reg_covar: float = 1e-06

    _map_sums_to_score = True
    _hiding_times = 1e5
    _parameter_constraints = {
        "map_shape": [tuple, list],
        "n_epochs": [Interval(Integral, 1, None, closed="left")],
        "final_width": [Interval(Real, 0, None, closed="left")],
        "prior_count": [Interval(Real, 0, None, closed="neither"), None],
        "reg_covar": [Interval(Real, 0, None, closed="neither")],
    }

    def _check_parameters(self, X):
        check_map_shape(self.map_shape)

    def _row_elements(self):
        return 3 * (len(self.nodes_) + self.n_features_in_)

    def _fit(self, X, y):
        rows = to_numpy(X).astype(np.float64, copy=False)
        nodes = start_of_map(rows, self.map_shape)
        for width in self._steps(self._widths(), "organise", self.n_epochs):
            nodes = batch_step(rows, nodes, width, self.map_shape)
        self.nodes_ = nodes
        self._set_covariances(rows, nearest_node(rows, nodes))

    def _widths(self):
        """Return the widths of the neighbourhood, epoch by epoch."""
        first = max(self.map_shape) / 2
        if self.n_epochs == 1:
            return [self.final_width]
        if self.final_width == 0:
            return [*np.geomspace(first, min(first, 0.3), self.n_epochs - 1), 0.0]
        return np.geomspace(first, self.final_width, self.n_epochs)

    def _set_covariances(self, X, best):
        """Learn from rows (n, d) and the node nearest to each."""
        (n, d), k = X.shape, len(self.nodes_)
        self.counts_ = np.bincount(best, minlength=k)
        scatter = np.zeros((k, d, d))
        for node in np.flatnonzero(self.counts_):
            rows = X[best == node] - self.nodes_[node]
            scatter[node] = rows.T @ rows
        within = scatter.sum(axis=0) / n
        prior = d if self.prior_count is None else self.prior_count
        weight = (self.counts_ + prior)[:, None, None]
        self.covariances_ = (scatter + prior * within) / weight
        spread = np.var(X, axis=0).mean()
        ridge = self.reg_covar * (spread if spread > 0 else 1.0)
        self.covariances_[:, np.arange(d), np.arange(d)] += ridge
        roots = np.linalg.inv(np.linalg.cholesky(self.covariances_))
        self._whitening_ = corr_max(np.swapaxes(roots, 1, 2))

    def _map(self, X):
        xp = namespace(X)
        nodes, whitening = like(self.nodes_, X), like(self._whitening_, X)
        best, maps = nearest_node(X, nodes), xp.zeros_like(X)
        for node in range(len(nodes)):
            (rows,) = xp.nonzero(best == node)
            if len(rows):
                maps[rows] = ((X[rows] - nodes[node]) @ whitening[node]) ** 2
        return maps

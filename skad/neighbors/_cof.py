"""Connectivity-based outlier factor."""

import numpy as np

from skad._array import device_of, like, namespace
from skad._parameters import KW_ONLY, with_parameters
from skad.neighbors._around import AroundRows, spread_of
from skad.neighbors._search import contributions
from skad.neighbors._sparse_search import different_rows

# Keeps the factor of rows beside duplicates finite, as a share of the rows' spread.
_TINY = 1e-10


def chain_weights(k):
    """Return the weights (k,) of the joining distances in their order."""
    return 2 * (k + 1 - np.arange(1, k + 1)) / (k * (k + 1))


def chains(difference):
    """Return how neighbours join the set that grows from each row.

    Parameters
    ----------
    difference : array of shape (b, k, d)
        Each row less its neighbours.

    Returns
    -------
    order : array of shape (b, k)
        The neighbours as they are joined, always the one nearest to the set.
    joined : array of shape (b, k)
        To which each is: a neighbour's place, or k for the row.
    """
    xp = namespace(difference)
    b, k, _ = difference.shape
    device = device_of(difference)
    squares = xp.sum(difference**2, axis=2)  # (b, k)
    between = squares[:, :, None] + squares[:, None, :]
    between = between - 2 * (difference @ xp.matrix_transpose(difference))
    closest, rows = xp.asarray(squares, copy=True), xp.arange(b, device=device)
    origin = xp.full((b, k), k, dtype=xp.int64, device=device)
    order, joined = xp.zeros_like(origin), xp.zeros_like(origin)
    for step in range(k):
        new = xp.argmin(closest, axis=1)
        order[:, step], joined[:, step] = new, origin[rows, new]
        closest[rows, new] = xp.inf
        nearer = between[rows, new]  # (b, k)
        better = (nearer < closest) & xp.isfinite(closest)
        closest = xp.where(better, nearer, closest)
        origin = xp.where(better, new[:, None], origin)
    return order, joined


def steps_of(difference):
    """Return the differences (b, k, d) between the rows that chains join."""
    xp = namespace(difference)
    order, joined = chains(difference)
    # a row's own difference is zero; places then need no cases
    wider = xp.concat([difference, xp.zeros_like(difference[:, :1])], axis=1)
    rows = xp.arange(order.shape[0], device=device_of(difference))[:, None]
    return wider[rows, order] - wider[rows, joined]


@with_parameters(kw_only=False)
class COF(AroundRows):
    r"""Rows whose neighbours are reached by longer steps than those of the neighbours.

    From a row a chain grows through its `k` nearest training rows :math:`N(x)`: the one
    that is nearest to what is joined already comes next, at distance :math:`c_i` from
    it. The average chaining distance, in which early steps count more, is

    .. math:: ac(x) = \sum_{i=1}^k \frac{2 (k + 1 - i)}{k (k + 1)} \, c_i,

    and the anomaly is the connectivity-based outlier factor, about 1 where rows follow
    a pattern, a line among them, of any density,

    .. math:: a(x) = ac(x) \; / \; \frac1k \sum_{y \in N(x)} ac(y).

    ``score_samples`` is :math:`-a`. The map books each step on the features by their
    share in its squared length; it is never negative and sums to the factor.

    Read more in the :ref:`User Guide <neighbors>`.

    Parameters
    ----------
    n_neighbors : int, default=20
        Number of neighbours `k`. With fewer training rows it warns and takes all the
        others.

    Attributes
    ----------
    chaining_ : ndarray or tensor of shape (n_samples,)
        The average chaining distance :math:`ac` of each training row.

    See Also
    --------
    LOF : Compares densities, where rows on a line are thin surroundings.

    Notes
    -----
    `fit` costs O(n^2 d + n k^2 d), scoring O(n d + k^2 d) a row. The factor does not
    change when rows are shifted or rotated, or all features are scaled together. A
    10,000-millionth of the features' deviation is added to both, for rows beside
    duplicates. Neighbours at one distance come in the order of the training rows. A row
    with `k` equals or more, whose chain has no length, is chained through the rows that
    differ, so that the factors stay of one order.

    PyOD's `COF` orders the chain by the distance from the row instead of growing it.

    References
    ----------
    .. [1] J. Tang, Z. Chen, A. W. Fu and D. W. Cheung, "Enhancing effectiveness of
       outlier detections for low density patterns", Pacific-Asia Conference on
       Knowledge Discovery and Data Mining, 2002, definitions 3 to 6.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.neighbors import COF
    >>> t = np.linspace(0, 6, 100)
    >>> detector = COF(5).fit(np.c_[t, np.sin(t)])
    >>> detector.predict([[3.0, 0.14], [3.0, 0.8]])
    array([ 1, -1])
    """

    n_neighbors: int = 20
    _: KW_ONLY

    _map_sums_to_score = True

    def _fit(self, X, y):
        self._fit_search(X)
        self.chaining_ = self._of_training(X, self._chaining, "chains")
        self._chain_equal_rows(X)
        self._tiny_ = _TINY * spread_of(X)

    def _chain_equal_rows(self, X):
        """Let rows with `k` equals or more chain through rows that differ."""
        (equal,) = namespace(X).nonzero(self.chaining_ == 0)
        if not len(equal):
            return
        different = different_rows(X)
        if different.shape[0] > 1:
            other = COF(self.n_neighbors_)
            other._fit_search(different)
            self.chaining_[equal] = other._chaining(X[equal])

    def _chaining(self, X):
        return self._judged(X, lambda *parts: self._lengths(*parts)[0], self._work(X))

    def _work(self, X):
        k = self.n_neighbors_
        return 4 * k * (k + X.shape[1])

    def _lengths(self, difference, indices):
        """Return chaining distances (b,), and what each feature adds to them (b, d)."""
        xp = namespace(difference)
        parts, length = contributions(steps_of(difference), "euclidean", 2)
        weights = like(chain_weights(self.n_neighbors_), length)
        return xp.sum(length * weights, axis=1), xp.sum(
            parts * weights[:, None], axis=1
        )

    def _judge(self, difference, indices):
        xp = namespace(difference)
        chaining, parts = self._lengths(difference, indices)
        around = xp.mean(like(self.chaining_, difference)[indices], axis=1)
        # a row that is one with its neighbours is chained as they are
        missing = xp.where(chaining > 0, 0.0, around) + self._tiny_
        around = around + self._tiny_
        maps = (parts + missing[:, None] / difference.shape[2]) / around[:, None]
        return (chaining + missing) / around, maps

    def _anomaly(self, X):
        return self._judged(X, self._judge, self._work(X))[0]

    def _map(self, X):
        return self._judged(X, self._judge, self._work(X))[1]

    def _inspect(self, X):
        return self._judged(X, self._judge, self._work(X))

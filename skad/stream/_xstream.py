"""xStream: how many rows share the cells of random projections, at many scales."""

from numbers import Integral

import numpy as np

from skad._array import row_sums
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.stream._counts import CellCounts, bins_of
from skad.stream._sketch import hashed, odd


@with_parameters
class XStream(CellCounts):
    r"""Rows that are alone at a coarse scale of random projections.

    Rows are projected to `K` random directions, each of a third of the features. A
    chain halves the cell of a row again and again, each time along a random one of
    these directions. With :math:`c_{ml}` rows of the last full window in the cell of
    chain `m` at depth `l` the anomaly is

    .. math:: a(x) = -\frac{1}{M} \sum_m \min_l \left(\log_2 (1 + c_{ml}) + l\right).

    ``score_samples`` is :math:`-a`. The map is what the anomaly falls by when a feature
    takes its typical value.

    Read more in the :ref:`User Guide <stream>`.

    Parameters
    ----------
    n_estimators : int, default=100
        Number of chains `M`.
    n_projections : int, default=100
        Number of directions `K`.
    max_depth : int, default=15
        Depth of the chains, at most 40.
    n_columns : int, default=2048
        Cells of which each of two hashes counts the rows, at each depth of a chain;
        rounded up to a power of two. Cells that share both count as one.

    See Also
    --------
    HalfSpaceTrees : Halves boxes of the features themselves; needs no common scale.
    RSHash : Cells of random sizes of a few features.

    Notes
    -----
    A row costs O(M k + K d) for depth `k`, and memory is O(M k `n_columns`). Features
    should be on one scale. The width of the first cells is half the range of the
    projections in the first window, which `partial_fit` measures anew until it is full
    and then keeps.

    The authors draw the directions by hashes of the features' names, so that features
    may come and go; here they are drawn once, for features that stay. `fit` learns rows
    as `partial_fit` does, so that all but the last windows are forgotten: pass
    ``window_size=None`` for a batch.

    ``contamination="auto"`` takes each row of the window out of its cells.

    References
    ----------
    .. [1] E. Manzoor, H. Lamba and L. Akoglu, "xStream: Outlier detection in
       feature-evolving data streams", ACM SIGKDD International Conference on Knowledge
       Discovery & Data Mining, 2018, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.stream import XStream
    >>> X = np.random.default_rng(0).normal(size=(1024, 2))
    >>> detector = XStream(n_estimators=30, random_state=0)
    >>> for piece in np.split(X, 4):
    ...     detector = detector.partial_fit(piece)
    >>> detector.predict([[0.0, 0.0], [0.0, 8.0]])
    array([ 1, -1])
    """

    n_estimators: int = 100
    n_projections: int = 100
    max_depth: int = 15
    n_columns: int = 2048

    _parameter_constraints = {
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "n_projections": [Interval(Integral, 1, None, closed="left")],
        "max_depth": [Interval(Integral, 1, 40, closed="both")],
        "n_columns": [Interval(Integral, 2, 2**24, closed="both")],
    }

    def _row_elements(self):
        return 8 * self.n_estimators * self.max_depth + self.n_projections

    def _draw(self, random, n_features):
        signs = np.array([-1.0, 0, 0, 0, 0, 1])  # of which a third are none
        self._weights_ = random.choice(signs, size=(n_features, self.n_projections))
        size = self.n_estimators, self.max_depth
        self._axes_ = random.randint(self.n_projections, size=size)
        self._shifts_ = random.uniform(size=(self.n_estimators, self.n_projections))
        self._bits_ = int(np.ceil(np.log2(self.n_columns)))
        self._slots_ = np.argmax(
            self._axes_[:, :, None] == self._axes_[:, None, :], axis=2
        )
        self._keys_ = odd(random, size)
        self._hashes_ = odd(random, (2, size[0] * size[1]))
        return 2 * size[0] * size[1] << self._bits_

    def _measure(self, X):
        half = np.ptp(self._projected(X), axis=0) / 2
        self._widths_ = np.where(half > 0, half, 1.0)

    def _projected(self, X):
        # one row after the other sums alike, whatever the block
        return np.einsum("ij,jk->ik", X, self._weights_)

    def _cells(self, X):
        with np.errstate(over="ignore"):
            places = np.ascontiguousarray((self._projected(X) / self._widths_).T)
        (m, k), b = self._axes_.shape, len(X)
        chains = np.arange(m)
        now = np.empty((k, m, b))
        bins = np.zeros((k, m, b), dtype=np.uint64)
        key, keys = np.zeros((m, b), dtype=np.uint64), np.empty_like(bins)
        for level in range(k):
            axes, slots = self._axes_[:, level], self._slots_[:, level]
            shift = self._shifts_[chains, axes][:, None]
            again = slots < level
            place = places[axes] + shift
            place[again] = 2 * now[slots[again], chains[again]] - shift[again]
            fresh = bins_of(place)
            key = key + self._keys_[chains, slots][:, None] * (
                fresh - bins[slots, chains]
            )
            now[slots, chains], bins[slots, chains] = place, fresh
            keys[level] = key
        return hashed(keys.reshape(k * m, b), self._hashes_, self._bits_)

    def _rareness(self, counts, n):
        counts = 1.0 + np.minimum(*counts).reshape(self.max_depth, -1, counts.shape[2])
        counts *= 2.0 ** np.arange(1, self.max_depth + 1)[:, None, None]
        return -row_sums(np.log2(counts.min(axis=0)).T) / self.n_estimators

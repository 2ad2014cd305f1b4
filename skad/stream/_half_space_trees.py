"""Half-space trees: how many rows lie in nested boxes around a row."""

from numbers import Integral, Real

import numpy as np

from skad._array import row_sums
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.stream._counts import CellCounts


def thresholds_of(features, work):
    """Return the midpoints (t, nodes) at which the nodes of binary trees split.

    Parameters
    ----------
    features : ndarray of shape (t, 2**depth - 1)
        The feature of each node; the children of node i are 2 i + 1 and 2 i + 2.
    work : ndarray of shape (2, t, d)
        The least and the largest value of the root's box.
    """
    trees, n_nodes = np.arange(len(features))[:, None], features.shape[1]
    found = np.empty(features.shape)
    for level in range((n_nodes + 1).bit_length() - 1):
        nodes = np.arange(2**level) + 2**level  # from 1, so that bits are the path
        own = features[:, nodes - 1]
        low, high = (ends[trees, own] for ends in work)
        for above in range(level, 0, -1):
            same = features[:, (nodes >> above) - 1] == own
            right = (nodes >> (above - 1)) & 1 == 1
            middle = (low + high) / 2
            low = np.where(same & right, middle, low)
            high = np.where(same & ~right, middle, high)
        found[:, nodes - 1] = (low + high) / 2
    return found


@with_parameters
class HalfSpaceTrees(CellCounts):
    r"""Rows in boxes that few rows of the last window are in.

    Each tree halves a box around the data again and again, at each node along a random
    feature; only how many rows are in each box is learned. In tree `t` a row is
    followed to the first box that holds at most :math:`\beta n` of the `n` rows of the
    last full window, or to the deepest one. With :math:`m_t` rows there at depth
    :math:`k_t` the anomaly is

    .. math:: a(x) = -\frac{1}{T} \sum_t \frac{m_t \, 2^{k_t}}{n},

    the mean density in units of that of rows spread evenly. ``score_samples`` is
    :math:`-a`. The map is what the anomaly falls by when a feature takes its typical
    value.

    Read more in the :ref:`User Guide <stream>`.

    Parameters
    ----------
    n_estimators : int, default=25
        Number of trees `T`.
    max_depth : int, default=15
        Depth of the trees, at most 20. Memory doubles with each level.
    size_limit : float, default=0.01
        Share :math:`\beta` of the window's rows at which a box is not followed further,
        in [0, 1]. The paper's is 0.1.

    See Also
    --------
    XStream : Halves boxes of random projections.
    skad.ensemble.IsolationForest : Trees that are grown on the rows.

    Notes
    -----
    A row costs O(T k) to learn and to score, with trees of depth `k`, and memory is
    O(T 2^k). Splits do not depend on the rows. Their units do: the ranges of features
    in the first window, which `partial_fit` measures anew until it is full and then
    keeps. Values outside of the boxes count to the outermost ones. Scores do not change
    when features are scaled or shifted, but for rounding.

    At the paper's `size_limit` many boxes are still large: on streams of thirteen sets
    of tables the mean ROC AUC was .687 with it, and .699 with the default
    (``defaults_streams.tsv``). A forest of 25 trees is a matter of luck: on digits the
    ROC AUC of one and the next differed by .1, so take more of them where it counts.

    In the paper nothing is scored before the first window is full; here the rows so far
    are what is known. River's `HalfSpaceTrees` adds up the densities of all boxes on
    the way, and draws splits unevenly; PySAD's adds them up, too, and over five seeds
    ranked four sets no better (``streams_seeds.tsv``). `fit` learns rows as
    `partial_fit` does, so that all but the last windows are forgotten: pass
    ``window_size=None`` for a batch.

    ``contamination="auto"`` takes each row of the window out of its boxes.

    References
    ----------
    .. [1] S. C. Tan, K. M. Ting and T. F. Liu, "Fast anomaly detection for streaming
       data", International Joint Conference on Artificial Intelligence, 2011,
       algorithms 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.stream import HalfSpaceTrees
    >>> X = np.random.default_rng(0).normal(size=(1000, 2))
    >>> detector = HalfSpaceTrees(random_state=0)
    >>> for piece in np.split(X, 4):
    ...     detector = detector.partial_fit(piece)
    >>> detector.predict([[0.0, 0.0], [0.0, 6.0]])
    array([ 1, -1])
    """

    n_estimators: int = 25
    max_depth: int = 15
    window_size: int | None = 250
    size_limit: float = 0.01

    _ignores_units = True
    _hiding_times = 100.0
    _parameter_constraints = {
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "max_depth": [Interval(Integral, 1, 20, closed="both")],
        "size_limit": [Interval(Real, 0, 1, closed="both")],
    }

    def _row_elements(self):
        return 4 * self.n_estimators * (self.max_depth + 1)

    def _draw(self, random, n_features):
        size = self.n_estimators, n_features
        centre = random.uniform(size=size)
        reach = 2 * np.maximum(centre, 1 - centre)
        n_inner = 2**self.max_depth - 1
        self._features_ = random.randint(n_features, size=(size[0], n_inner))
        work = np.stack([centre - reach, centre + reach])
        self._thresholds_ = thresholds_of(self._features_, work)
        return self.n_estimators * (2 * n_inner + 1)

    def _cells(self, X):
        X = self._scaled(X)
        (b, d), (n_trees, n_inner) = X.shape, self._features_.shape
        first = np.arange(n_trees) * n_inner
        rows = np.arange(b)[:, None] * d
        nodes = np.zeros((b, n_trees), dtype=np.int64)
        cells = np.empty((self.max_depth + 1, b, n_trees), dtype=np.int64)
        cells[0] = 0
        for level in range(self.max_depth):
            place = nodes + first
            values = X.take(rows + self._features_.take(place))
            nodes = 2 * nodes + 1 + (values >= self._thresholds_.take(place))
            cells[level + 1] = nodes
        cells += np.arange(n_trees) * (2 * n_inner + 1)
        return cells

    def _rareness(self, counts, n):
        found = counts[-1] * 2.0**self.max_depth
        for depth in range(self.max_depth - 1, -1, -1):
            ends = counts[depth] <= self.size_limit * n
            found = np.where(ends, counts[depth] * 2.0**depth, found)
        return -row_sums(found) / (n * self.n_estimators)

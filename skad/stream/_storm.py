"""STORM: rows with few neighbours within a radius in a sliding window."""

from numbers import Integral, Real

import numpy as np
from scipy.spatial.distance import cdist

from skad._ablation import ablation
from skad._array import slices, to_double, to_numpy
from skad._incremental import ForgettingMixin
from skad._left_out import LeftOutMixin
from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.base import BaseDetector

# So many rows of the window, evenly spread, set radius and threshold.
_SAMPLE_ROWS = 1000


@with_parameters
class STORM(ForgettingMixin, LeftOutMixin, BaseDetector):
    r"""Rows with few of the last rows of the stream within a radius.

    Of the `n` rows of the window the anomaly is the share that is farther away than the
    radius `r`,

    .. math:: a(x) = 1 - \frac{1}{n} \sum_i [\, \|x - x_i\| \le r \,].

    ``score_samples`` is :math:`-a`. The map is what the anomaly falls by when a feature
    takes its median in the window.

    Read more in the :ref:`User Guide <stream>`.

    Parameters
    ----------
    radius : float or "auto", default="auto"
        How far neighbours may be, above 0. "auto" is the median distance from rows of
        the window to the `n_neighbors`-th nearest other one, of those above 0 where it
        is 0, and moves with the window.
    n_neighbors : int, default=20
        Neighbours that half of the window's rows have with ``radius="auto"``; all
        others where there are fewer.
    window_size : int or None, default=1000
        Rows in the window, at least 2: the last ones learned. None forgets nothing, and
        keeps all rows.

    Attributes
    ----------
    n_samples_seen_ : int
        Rows learned.
    window_ : ndarray of shape (n_rows, n_features)
        The rows of the window, the oldest first.
    radius_ : float
        The radius.

    See Also
    --------
    skad.neighbors.KNN : The distance to neighbours, of which there are a number.

    Notes
    -----
    Exact: a row costs O(n d) to score, and nothing to learn beside what each call of
    `partial_fit` costs, O(1000 n d) for radius and threshold. Features should be on one
    scale.

    The paper calls a row an outlier that has fewer than k neighbours, itself among
    them; the score ranks rows for all k at once. It knows where neighbours were before
    they leave the window, so as to ask later about any row in it; here that is
    `score_samples` of rows of the window, each of which has itself as a neighbour.

    ``contamination="auto"`` leaves each row of the window out of it.

    References
    ----------
    .. [1] F. Angiulli and F. Fassetti, "Detecting distance-based outliers in streams of
       data", ACM Conference on Information and Knowledge Management, 2007, section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.stream import STORM
    >>> X = np.random.default_rng(0).normal(size=(1000, 2))
    >>> detector = STORM(window_size=500)
    >>> for piece in np.split(X, 4):
    ...     detector = detector.partial_fit(piece)
    >>> detector.predict([[0.0, 0.0], [0.0, 6.0]])
    array([ 1, -1])
    """

    radius: float | str = "auto"
    n_neighbors: int = 20
    window_size: int | None = 1000

    _parameter_constraints = {
        "radius": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "window_size": [Interval(Integral, 2, None, closed="left"), None],
    }

    def _row_elements(self):
        return 2 * len(self.window_)

    def _fit(self, X, y):
        X = to_double(to_numpy(X))
        self.n_samples_seen_ = getattr(self, "n_samples_seen_", 0) + len(X)
        known = np.concatenate([getattr(self, "window_", X[:0]), X])
        self.window_ = known if self.window_size is None else known[-self.window_size :]
        self._typical_ = np.median(self.window_, axis=0)
        self.radius_ = self._usual_radius() if self.radius == "auto" else self.radius

    def _recent(self):
        return self.window_[:: -(-len(self.window_) // _SAMPLE_ROWS)]

    def _usual_radius(self):
        rows, found = self._recent(), []
        k = min(self.n_neighbors, len(self.window_) - 1)
        for part in slices(len(rows), self._block_rows("cpu")):
            distance = cdist(rows[part], self.window_)
            found.append(np.partition(distance, k, axis=1)[:, k])  # itself is the first
        found = np.concatenate(found)
        # where most rows are equal no other would have a neighbour
        usual = np.median(found)
        if usual == 0 and found.any():
            usual = np.median(found[found > 0])
        return float(usual)

    def _neighbours(self, X):
        distance = cdist(to_double(to_numpy(X)), self.window_)
        return np.count_nonzero(distance <= self.radius_, axis=1)

    def _anomaly(self, X):
        return 1 - self._neighbours(X) / len(self.window_)

    def _left_out(self, X):
        return 1 - (self._neighbours(X) - 1) / (len(self.window_) - 1)

    def _map(self, X):
        return ablation(self._anomaly, to_double(to_numpy(X)), self._typical_)

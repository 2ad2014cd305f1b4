"""Extended isolation forest: splits by planes of any direction."""

from numbers import Integral

import numpy as np

from skad._array import row_sums, to_double, to_numpy
from skad._cross_fitting import FIVE_FOLDS
from skad._parameters import KW_ONLY, with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval, StrOptions
from skad.base import BaseDetector
from skad.ensemble._oblique import Planes, ends_of, gains, grown, lengths_without
from skad.ensemble._paths import average_path_length
from skad.ensemble._walk import typical


@with_parameters(kw_only=False)
class ExtendedIsolationForest(BaseDetector):
    r"""Rows that few random planes cut off from the rest.

    An :class:`IsolationForest` cuts parallel to the axes, and takes what lies beside
    two clusters, in the corners of their box, for normal. Here each split is a plane: a
    normal vector :math:`v` drawn from a Gaussian, a point :math:`p` drawn evenly from
    the box of the rows in the node, and rows with :math:`\langle x - p, v \rangle < 0`
    go left. With :math:`h_t(x)` the depth at which `x` ends in tree `t`, plus
    :math:`c(n)` where it ends among `n` rows, the anomaly is that of the isolation
    forest of trees of `m` rows,

    .. math:: a(x) = 2^{-E_t[h_t(x)] / c(m)}.

    ``score_samples`` is :math:`-a`. The map books what each split on a row's path does
    to the expected path length on the features by how much they pull the row to its
    side, :math:`\pm v_j (x_j - p_j)` where it is positive; it sums to
    :math:`1 + \log_2 a(x)`, and entries may be negative.

    Read more in the :ref:`User Guide <ensemble>`.

    Parameters
    ----------
    n_estimators : int, default=100
        Number of trees.
    extension_level : int or None, default=None
        How many features more than one a plane depends on, less than the number of
        features; the others' entries of the normal are zero. None is all, the paper's
        full extension. 0 splits on one feature.
    max_samples : "auto" or int, default="auto"
        Rows `m` of each tree. "auto" is 256, or all rows where there are fewer.
    random_state : int, RandomState instance or None, default=None
        Draws rows and planes. Pass an int for reproducible results.

    Attributes
    ----------
    max_samples_ : int
        Rows `m` of each tree.
    extension_level_ : int
        The extension level in use.

    See Also
    --------
    IsolationForest : Splits on one feature; knows missing values and sparse rows.

    Notes
    -----
    `fit` costs O(t m d log m) for t trees, scoring O(t d log m) a row, and the planes
    take 2 t m d numbers. Planes mix features in their units: put a ``StandardScaler``
    in front, which an isolation forest does without. Shifting the features changes
    nothing but rounding.

    A split may leave one side empty, as in the authors' code, and a node is split until
    its rows are equal or the depth is :math:`\lceil \log_2 m \rceil`. ``c(2)`` is 1, as
    in scikit-learn; theirs is .154.

    ``contamination="auto"`` takes each training row out of the trees that have seen it:
    where it is cut off alone, its last split is left out, and it goes on on the other
    side. The others score it as they are. Up to 200 rows every tree has seen all of
    them, and the row widens the boxes that its splits are drawn from, the more of them
    the more features there are; then five copies score the rows that each was fitted
    without.

    References
    ----------
    .. [1] S. Hariri, M. Carrasco Kind and R. J. Brunner, "Extended isolation forest",
       IEEE Transactions on Knowledge and Data Engineering, 2021, algorithms 1 to 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.ensemble import ExtendedIsolationForest
    >>> rng = np.random.default_rng(0)
    >>> X = np.r_[rng.normal([0, 9], 1, (99, 2)), rng.normal([9, 0], 1, (99, 2))]
    >>> detector = ExtendedIsolationForest(random_state=0).fit(X)
    >>> detector.predict([[0.0, 9.0], [9.0, 9.0], [0.0, 0.0]])
    array([ 1, -1, -1])
    """

    n_estimators: int = 100
    _: KW_ONLY
    extension_level: int | None = None
    max_samples: str | int = "auto"
    random_state: Seed = None

    _honesty = "leave one out"
    _parameter_constraints = {
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "extension_level": [Interval(Integral, 0, None, closed="left"), None],
        "max_samples": [
            StrOptions({"auto"}),
            Interval(Integral, 2, None, closed="left"),
        ],
        "random_state": ["random_state"],
    }

    def _check_parameters(self, X):
        level = self.extension_level
        if level is not None and level >= X.shape[1]:
            raise ValueError(
                f"extension_level={level} must be less than the number of features, "
                f"{X.shape[1]}."
            )

    def _row_elements(self):
        return 4 * self.n_estimators * self.n_features_in_

    def _fit(self, X, y):
        X, random = to_double(to_numpy(X)), generator(self.random_state)
        n, d = X.shape
        m = 256 if self.max_samples == "auto" else self.max_samples
        self.max_samples_ = m = min(m, n)
        level = self.extension_level
        self.extension_level_ = d - 1 if level is None else level
        self._centre_ = typical(X)[0]
        self._drawn_ = np.stack(
            [random.choice(n, m, replace=False) for _ in range(self.n_estimators)]
        )
        rows = self._moved(X)
        planes, self._ends_ = grown(
            rows, self._drawn_, self.extension_level_ + 1, random
        )
        self._planes_ = tuple(planes)
        self._lengths_ = planes.lengths()

    def _moved(self, X):
        """Return rows seen from the centre, whose planes can be computed."""
        rows = to_double(to_numpy(X)) - self._centre_
        with np.errstate(over="ignore"):
            large = not np.isfinite(rows * rows).all()
        if large:
            raise ValueError(
                "X has values too large for ExtendedIsolationForest: their squares "
                "overflow. Scale the features (StandardScaler)."
            )
        return rows

    def _total(self, X):
        """Return the path lengths (b,), summed over the trees."""
        ends = ends_of(Planes(*self._planes_), self._moved(X))
        return row_sums(self._lengths_[np.arange(len(self._drawn_)), ends])

    def _norm(self):
        return len(self._drawn_) * float(average_path_length(self.max_samples_))

    def _anomaly(self, X):
        return 2 ** -(self._total(X) / self._norm())

    def _honest_anomaly(self, X, y, anomaly, **params):
        if X.shape[0] <= FIVE_FOLDS:
            return super()._honest_anomaly(X, y, anomaly, **params)
        return self._left_out(X)

    def _left_out(self, X):
        """Return the anomaly (n,) of the training rows, each without itself."""
        total = self._in_blocks(self._total, X, progress="score")
        total = to_double(to_numpy(total))
        rows, planes = self._moved(X), Planes(*self._planes_)
        trees = np.arange(len(self._drawn_))[:, None]
        norm, fewer = average_path_length([self.max_samples_, self.max_samples_ - 1])
        without = lengths_without(planes, rows, self._drawn_, self._ends_)
        without = without / (fewer if fewer > 0 else norm)
        change = without - self._lengths_[trees, self._ends_] / norm
        change = np.bincount(self._drawn_.ravel(), change.ravel(), minlength=len(rows))
        return 2 ** -((total / norm + change) / len(self._drawn_))

    def _map(self, X):
        return -gains(Planes(*self._planes_), self._moved(X)) / self._norm()

"""What detectors share that look at a row's nearest training rows one by one."""

import warnings
from numbers import Integral
from typing import ClassVar

from skad._array import blocks, device_of, n_blocks, namespace, to_double
from skad._distances import middle
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.base import BaseDetector
from skad.neighbors._neighbors import NeighborsMixin
from skad.neighbors._search import NeighborSearch


def spread_of(X):
    """Return how far a value is from the middle of its feature, in the median; or 1.

    Of values that are not in the middle: a few stray ones, or many equal ones, do not
    change it much.
    """
    xp = namespace(X)
    away = xp.abs(to_double(X) - middle(X))
    away = xp.sort(away[away > 0])
    return float(away[len(away) // 2]) if len(away) else 1.0


@with_parameters
class AroundRows(NeighborsMixin, BaseDetector):
    """Base of detectors that look at differences from the `k` nearest training rows.

    A method states `n_neighbors` with its default, and writes `_judge`.

    Attributes
    ----------
    n_neighbors_ : int
        The number of neighbours in use.
    """

    metric: ClassVar[str] = "euclidean"
    p: ClassVar[float] = 2
    _honesty = "leave one out"
    _reads_sparse = False  # differences from neighbours are dense
    _fewest_neighbors = 1
    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
    }

    def _check_parameters(self, X):
        if self.n_neighbors > X.shape[0] - 1:
            warnings.warn(
                f"n_neighbors={self.n_neighbors} is more than a training row has: all "
                f"{X.shape[0] - 1} others are taken.",
                stacklevel=5,
            )

    def _fit_work(self, X):
        return X.shape[0] ** 2 * X.shape[1]

    def _fit_search(self, X):
        self.n_neighbors_ = min(self.n_neighbors, X.shape[0] - 1)
        self.n_samples_fit_ = X.shape[0]
        self._search_ = NeighborSearch(
            X,
            self.metric,
            2,
            self.algorithm,
            self.n_jobs,
            self.random_state,
            self.n_neighbors_,
        )

    def _judged(self, X, function, elements):
        """Return what `function` makes of blocks of differences (b, k, d) and indices.

        It takes differences in float64 and the neighbours (b, k), and needs so many
        `elements` for a row.
        """
        indices, parts = self._neighbors(X)[1], []
        for rows in blocks(X.shape[0], elements, device_of(X)):
            difference = self._search_.difference(X[rows], indices[rows])
            found = function(to_double(difference), indices[rows])
            parts.append(found if isinstance(found, tuple) else (found,))
        whole = [namespace(X).concat(part) for part in zip(*parts, strict=True)]
        return whole[0] if len(whole) == 1 else tuple(whole)

    def _of_training(self, X, function, name):
        """Return what `function` makes of blocks of training rows, put together."""
        size = X.shape[0], self._row_elements(), device_of(X)
        parts = self._steps(blocks(*size), name, n_blocks(*size))
        return namespace(X).concat([function(X[rows]) for rows in parts])

    def _honest_anomaly(self, X, y, anomaly, **params):
        return self._seen_anomaly(X, anomaly)

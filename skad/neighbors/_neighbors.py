"""What detectors by neighbours share: the neighbours themselves."""

from numbers import Integral
from typing import Any

from scipy.sparse import issparse
from sklearn.utils.validation import check_is_fitted

from skad._array import blocks, device_of, namespace
from skad._parameters import with_parameters
from skad._random import Seed
from skad._sklearn import StrOptions
from skad._sparse import rows_to_learn
from skad.neighbors._apart import drop_self
from skad.neighbors._search import ALGORITHMS, contributions
from skad.neighbors._smallest import smallest


def without_own(distance, indices):
    """Return the neighbours (n, k) of the training rows, in their order, of (n, k + 1).

    Without the row itself, or the last one where equal rows have taken its place.
    """
    xp, k = namespace(distance), distance.shape[1] - 1
    device = device_of(distance)
    own = indices == xp.arange(indices.shape[0], device=device)[:, None]
    own = xp.astype(own, xp.int64)
    place = xp.where(xp.sum(own, axis=1) > 0, xp.argmax(own, axis=1), k)
    columns = xp.arange(k, device=device)[None, :]
    columns = columns + xp.astype(columns >= place[:, None], xp.int64)
    return (
        xp.take_along_axis(distance, columns, axis=1),
        xp.take_along_axis(indices, columns, axis=1),
    )


def nearest_of_given(X, k):
    """Return the `k` smallest given distances (b, k), ascending, and their columns."""
    check_distances(X)
    xp = namespace(X)
    indices = smallest(X, k)
    distance = xp.take_along_axis(X, indices, axis=1)
    order = xp.argsort(distance, axis=1, stable=True)
    return (
        xp.take_along_axis(distance, order, axis=1),
        xp.take_along_axis(indices, order, axis=1),
    )


def check_distances(X, square=False):
    """Raise ValueError for what cannot be distances to the training rows."""
    xp = namespace(X)
    if xp.any(X < 0):
        raise ValueError("Negative values in X: metric='precomputed' takes distances.")
    if square and X.shape[0] != X.shape[1]:
        raise ValueError(
            "metric='precomputed' is fitted on the square matrix of distances between "
            f"the training rows, got shape {tuple(X.shape)}."
        )
    if square and xp.any(xp.linalg.diagonal(X) != 0):
        raise ValueError(
            "metric='precomputed' needs zeros on the diagonal of the distances between "
            "the training rows."
        )


@with_parameters
class NeighborsMixin:
    """The search of a detector that keeps one in `_search_`, or given distances.

    The detector states `n_neighbors`, and `metric` and `p` as parameters or constants.

    Parameters
    ----------
    algorithm : {"auto", "brute", "kd_tree", "ball_tree", "pynndescent"}, default="auto"
        "brute" compares with every training row, in blocks of bounded memory, and is
        exact; the trees are exact and faster for few features; "auto" takes "kd_tree"
        up to 8 features. "pynndescent" searches an approximate graph, for many rows; it
        compiles for a minute when first used and needs the package of that name.
    device : str, default="auto"
        Where "brute" computes: "cpu", a device of torch such as "cuda", or "auto", a
        tensor's own device and for arrays the GPU when the work is worth the trip.
    n_jobs : int or None, default=None
        Threads of the tree and of the graph.
    random_state : int, RandomState instance or None, default=None
        Seeds the graph of "pynndescent". Pass an int for reproducible results.

    Attributes
    ----------
    device_ : str
        The device of the fit.
    n_samples_fit_ : int
        Number of training rows.
    """

    algorithm: str = "auto"
    device: str = "auto"
    n_jobs: int | None = None
    random_state: Seed = None

    _parameter_constraints = {
        "algorithm": [StrOptions(ALGORITHMS)],
        "device": [str],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def kneighbors(self, X=None, n_neighbors=None, return_distance=True) -> Any:
        """Return the nearest training rows.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features), default=None
            The rows whose neighbours are asked for. None is the training rows, which
            are then not their own neighbours.
        n_neighbors : int, default=None
            Number of neighbours; None is the detector's.
        return_distance : bool, default=True
            Whether to return the distances as well.

        Returns
        -------
        distance : ndarray or tensor of shape (n_samples, n_neighbors)
            Ascending; only with `return_distance`.
        indices : ndarray or tensor of shape (n_samples, n_neighbors), int64
            The numbers of the training rows.
        """
        check_is_fitted(self)
        k = getattr(self, "n_neighbors_", self.n_neighbors)
        k = k if n_neighbors is None else n_neighbors
        own = X is None
        rows = self._training_rows() if own else self._validate(X, reset=False)
        known = self.n_samples_fit_
        if k > known or (own and k == known):
            raise ValueError(
                f"Expected n_neighbors {'<' if own else '<='} n_samples_fit, but "
                f"n_neighbors = {k}, n_samples_fit = {known}, "
                f"n_samples = {rows.shape[0]}"
            )
        if k < 1:
            raise ValueError(f"n_neighbors={k} must be at least 1.")
        rows, xp = rows_to_learn(self, rows), namespace(rows)
        distance, indices = self._in_blocks(
            lambda block: self._found(block, k + own), rows, dtype=xp.int64
        )
        if own:
            distance, indices = without_own(distance, indices)
        return (distance, indices) if return_distance else indices

    def _training_rows(self):
        if self.metric == "precomputed":
            raise ValueError(
                "metric='precomputed' keeps no training rows: pass their distances."
            )
        return self._search_.bank

    def _neighbors(self, X):
        """Return distances and indices (b, k) of the nearest but for the row itself."""
        k = getattr(self, "n_neighbors_", self.n_neighbors)
        if self.metric == "precomputed":
            return drop_self(*nearest_of_given(X, k + 1))
        return self._search_.neighbors(X, k)

    @property
    def _reads_sparse(self):
        if "_search_" in vars(self):  # once it has training rows, as these are
            return issparse(self._search_.bank)
        exact = self.metric != "precomputed" and self.algorithm in ("auto", "brute")
        return exact and self.device in ("auto", "cpu")

    def _row_elements(self):
        # the search and the map make blocks of their own of what has all neighbours'
        # features: of many rows at a time it looks at the doubtful ones together
        k = getattr(self, "n_neighbors_", self.n_neighbors)
        if self._reads_sparse:
            return 3 * self.n_samples_fit_
        return 4 * (self.n_features_in_ + k + 9)

    def _folded(self, function, X, indices):
        """Return maps (b, d), of blocks of rows and their neighbours (b, k).

        `function` gets what features add to the distances (m, k, d), the distances
        (m, k) and which rows these are.
        """
        size = X.shape[0], 4 * indices.shape[1] * X.shape[1], device_of(X)
        maps = []
        for rows in blocks(*size):
            difference = self._search_.difference(X[rows], indices[rows])
            parts = contributions(difference, self.metric, self.p)
            maps.append(function(*parts, rows))
        return namespace(X).concat(maps)

    def _found(self, X, k):
        """Return distances and indices (b, k) of the nearest, the row itself too."""
        if self.metric == "precomputed":
            return nearest_of_given(X, k)
        return self._search_.query(X, k)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.metric == "precomputed"
        tags.input_tags.positive_only = self.metric == "precomputed"
        return tags

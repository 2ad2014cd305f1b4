"""Nearest training rows among sparse ones, exact, and never dense together.

Products of sparse rows give squared distances in float64, up to rounding that grows
with the norms, and so candidates; their true distances come from the values that the
difference of two rows stores. Rows are not centred, which would fill them.
"""

import numpy as np
from scipy.sparse import csr_array, issparse
from sklearn.metrics.pairwise import manhattan_distances

from skad._array import blocks, like, to_numpy
from skad.neighbors._apart import drop_self
from skad.neighbors._search import NeighborSearch, half_squares
from skad.neighbors._smallest import picked, smallest

# Candidates beyond k, kept to prove that the first k are the nearest.
_SPARE = 4
# What a candidate that was left out may be nearer by, as a share of the distance.
_TIE = 1e-10


def search_among(X, metric, p, *settings):
    """Return the search of training rows: `SparseSearch` where these are sparse."""
    if issparse(X):
        return SparseSearch(X, metric, p)
    return NeighborSearch(X, metric, p, *settings)


def canonical(X):
    """Return sparse rows (n, d) with each value once, in order, and no zeros."""
    X = csr_array(X, copy=True)
    if max(X.nnz, *X.shape) < 2**31:  # what scikit-learn's distances take
        X.indices, X.indptr = (part.astype(np.int32) for part in (X.indices, X.indptr))
    X.sum_duplicates()
    X.eliminate_zeros()
    return X


def stored_sums(values, X):
    """Return sums (n,) of `values` of what the rows of `X` store, in float64."""
    n = X.shape[0]
    owners = np.repeat(np.arange(n), np.diff(X.indptr))
    return np.bincount(owners, values, minlength=n).astype(np.float64, copy=False)


def different_rows(X):
    """Return the rows (m, d) of `X` that differ, each once."""
    if not issparse(X):
        return like(np.unique(to_numpy(X), axis=0), X)
    X, first = canonical(X), {}
    for i, (start, stop) in enumerate(zip(X.indptr[:-1], X.indptr[1:], strict=True)):
        key = X.indices[start:stop].tobytes(), X.data[start:stop].tobytes()
        first.setdefault(key, i)
    return X[list(first.values())]


class SparseSearch:
    """Finds the nearest of the sparse rows it was built with, as `NeighborSearch` does.

    Parameters
    ----------
    bank : CSR array of shape (n, d)
        The training rows.
    metric, p
        As in `KNN`.
    """

    graph = _turned = None  # no graph here; the second is made again when asked for

    def __init__(self, bank, metric, p):
        self.metric, self.p = metric, p
        self.bank = self._rows(bank)
        self.norms = self._squares(self.bank)  # (n,)

    def neighbors(self, queries, k):
        """Return distances and indices (b, k) of the nearest but a query itself."""
        return drop_self(*self.query(queries, k + 1))

    def query(self, queries, k):
        """Return distances (b, k), ascending, and indices (b, k) of nearest rows."""
        rows, n = self._rows(queries), self.bank.shape[0]
        distance = np.empty((rows.shape[0], k))
        indices = np.empty((rows.shape[0], k), dtype=np.int64)
        for part in blocks(rows.shape[0], 3 * n):
            distance[part], indices[part] = self._nearest(rows[part], k)
        return like(distance, queries, "keep"), like(indices, queries, "keep")

    def difference(self, queries, indices):
        """Return queries minus their neighbours, dense, of shape (b, k, d)."""
        rows = self._rows(queries).toarray()
        bank = self.bank[to_numpy(indices).ravel()].toarray()
        found = rows[:, None, :] - bank.reshape(*indices.shape, -1)
        return like(found, queries, "keep")

    # -------------------------------------------------------------------------- inside

    def _rows(self, X):
        """Return sparse rows as they are compared: of length one for "cosine"."""
        X = canonical(X if issparse(X) else to_numpy(X))
        if self.metric == "cosine":
            norms = np.sqrt(self._squares(X)).astype(X.dtype)
            lengths = np.repeat(np.where(norms > 0, norms, 1), np.diff(X.indptr))
            X.data /= lengths
        return X

    @staticmethod
    def _squares(X):
        return stored_sums(X.data.astype(np.float64) ** 2, X)

    @property
    def _power(self):
        return {"manhattan": 1.0, "minkowski": float(self.p)}.get(self.metric, 2.0)

    def _nearest(self, rows, k):
        """Return distances and indices (b, k) of the nearest to a block of rows."""
        n = self.bank.shape[0]
        kept = min(k + _SPARE, n)
        if self._power != 2:
            values = self._all(rows)
            return self._sorted(values, np.broadcast_to(np.arange(n), values.shape), k)
        if self._turned is None:
            self._turned = csr_array(self.bank.T.astype(np.float64))
        norms = self._squares(rows)
        squares = (rows.astype(np.float64) @ self._turned).toarray()  # (b, n)
        squares *= -2
        squares += norms[:, None]
        squares += self.norms
        found = np.sort(smallest(squares, kept), axis=1)  # ties go to the smaller index
        bound = np.take_along_axis(squares, found, axis=1).max(axis=1)
        queries = np.repeat(np.arange(rows.shape[0]), kept)
        true = self._pairs(rows[queries], self.bank[found.ravel()])
        distance, indices = self._sorted(true.reshape(-1, kept), found, k)
        if kept == n:
            return distance, indices
        # the true squared distance to the k-th, what rounding is to the others
        last = distance[:, -1]
        scale = {"sqeuclidean": 1.0, "cosine": 2.0}.get(self.metric)
        last = last**2 if scale is None else last * scale
        terms = 4 + int(np.diff(rows.indptr).max(initial=0))
        error = 2 * terms * np.finfo(np.float64).eps * (norms + self.norms.max())
        sure = (last + error <= bound) | (error <= _TIE * last) | (last == 0)
        for i in np.flatnonzero(~sure):
            every = self._all(rows[[i]])
            nearest = np.sort(smallest(every, k), axis=1)
            values = np.take_along_axis(every, nearest, axis=1)
            distance[i], indices[i] = self._sorted(values, nearest, k)
        return distance, indices

    @staticmethod
    def _sorted(values, found, k):
        """Return the `k` smallest values (b, k), ascending, and what is there."""
        order = np.argsort(values, axis=1, kind="stable")[:, :k]
        return picked(values, order), np.take_along_axis(found, order, axis=1)

    def _all(self, rows):
        """Return the true distances (b, n) of rows to all training rows."""
        n = self.bank.shape[0]
        if self._power == 1:
            return manhattan_distances(rows, self.bank)
        found = [
            self._pairs(rows[np.full(n, i)], self.bank) for i in range(rows.shape[0])
        ]
        return np.stack(found)

    def _pairs(self, rows, others):
        """Return the true distance (m,) of each row to the other one beside it."""
        difference = csr_array(rows - others)
        values, power = difference.data.astype(np.float64), self._power
        values = values**2 if power == 2 else np.abs(values) ** power
        total = stored_sums(values, difference)
        if self.metric == "sqeuclidean":
            return total
        if self.metric == "cosine":
            return half_squares(total, float(np.finfo(self.bank.dtype).eps))
        return total ** (1 / power)

    def __getstate__(self):
        return {**vars(self), "_turned": None}

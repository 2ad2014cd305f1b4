"""Nearest training rows: exact by blocks or by a tree, approximate by a graph.

Exact search in two passes. The coarse pass forms float32 products of a block of queries
with a block of training rows, keeps the groups of columns with the smallest minima and
the `k + _SPARE` smallest values in them. The fine pass computes the true distances to
these. A row whose k-th true distance is not separated from the rest by the rounding
error of the coarse pass is searched again in float64, so the result is exact. The rows
in float64 are made when first needed and then kept.
"""

import pickle

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from skad._array import (
    blocks,
    device_of,
    is_torch,
    like,
    namespace,
    on_host,
    to_numpy,
)
from skad._needed import need
from skad._random import generator
from skad.neighbors._apart import drop_self, n_left_out
from skad.neighbors._smallest import coarse_smallest, picked, smallest

ALGORITHMS = {"auto", "brute", "kd_tree", "ball_tree", "pynndescent"}
METRICS = ("euclidean", "sqeuclidean", "manhattan", "cosine", "minkowski")

# Candidates beyond k, kept to prove that the first k are the nearest.
_SPARE = 4
# How far beyond the k-th distance the graph is searched (pynndescent's epsilon).
_EPSILON = 0.45
# Features up to which a k-d tree beats products.
_TREE_FEATURES = 8


def contributions(difference, metric, p):
    """Return what each feature adds to the distance, and the distance.

    Parameters
    ----------
    difference : array of shape (..., d)
        Queries minus neighbours; of unit vectors for "cosine".
    metric : str
        One of `METRICS`.
    p : float
        Exponent of "minkowski".

    Returns
    -------
    parts : array of shape (..., d)
        Never negative; their sum over features is the distance.
    distance : array of shape (...)
    """
    xp = namespace(difference)
    p = {"manhattan": 1.0, "minkowski": p}.get(metric, 2.0)
    parts = difference**2 if p == 2 else xp.abs(difference) ** p
    total = xp.sum(parts, axis=-1)
    if metric == "sqeuclidean":
        return parts, total
    if metric == "cosine":
        return parts / 2, half_squares(total)
    distance = total ** (1 / p)
    share = xp.where(total > 0, total, 1.0)
    return parts * (distance / share)[..., None], distance


def distances(difference, metric, p):
    """Return the distances (...) alone that `contributions` takes apart."""
    if is_torch(difference) or {"manhattan": 1.0, "minkowski": p}.get(metric, 2.0) != 2:
        return contributions(difference, metric, p)[1]
    total = np.vecdot(difference, difference)  # without an array of squares
    if metric == "sqeuclidean":
        return total
    return half_squares(total) if metric == "cosine" else np.sqrt(total)


def half_squares(total, eps=None):
    """Return the cosine distances of unit rows from their squared distances.

    Rows of one direction are at distance zero, however their lengths were rounded:
    NumPy and torch do not add up alike, and a row must know itself.
    """
    xp = namespace(total)
    eps = float(xp.finfo(total.dtype).eps) if eps is None else eps
    return xp.where(total > (16 * eps) ** 2, total / 2, 0.0)


def unit_rows(X):
    """Return the rows scaled to length one; a zero row stays zero."""
    xp = namespace(X)
    norm = xp.sqrt(xp.sum(X * X, axis=1))[:, None]
    return X / xp.where(norm > 0, norm, 1.0)


def _with_one(rows, dtype=None):
    """Return rows (b, d + 1) with a last feature that is 1, in a dtype of their own."""
    xp = namespace(rows)
    shape = rows.shape[0], rows.shape[1] + 1
    wider = xp.ones(shape, dtype=dtype or rows.dtype, device=device_of(rows))
    with np.errstate(over="ignore"):
        wider[:, :-1] = rows
    return wider


class NeighborSearch:
    """Finds the nearest of the rows it was built with.

    Parameters
    ----------
    bank : array or tensor of shape (n, d)
        The training rows.
    metric, p, algorithm, n_jobs, random_state
        As in `KNN`.
    n_neighbors : int
        Neighbours that will be asked for; sizes the graph of "pynndescent".
    apart : Apart or None
        Which rows are no neighbours of each other; None is each of itself.
    """

    apart = None

    def __init__(
        self, bank, metric, p, algorithm, n_jobs, random_state, n_neighbors, apart=None
    ):
        self.metric, self.p, self.n_jobs = metric, p, n_jobs
        self.apart = apart
        n_neighbors += n_left_out(apart) - 1
        self.bank = unit_rows(bank) if metric == "cosine" else bank
        self.index = self.graph = self.products = self.exact = None
        by_products = metric in ("euclidean", "sqeuclidean", "cosine")
        by_products = by_products or (metric == "minkowski" and p == 2)
        if algorithm == "auto":
            algorithm = "kd_tree" if bank.shape[1] <= _TREE_FEATURES else "brute"
        if algorithm == "pynndescent":
            self.graph = self._build_graph(n_neighbors, random_state)
        elif by_products and (algorithm == "brute" or is_torch(bank)):
            self._prepare_products()
        elif not is_torch(bank):
            flat = metric in ("sqeuclidean", "cosine")  # same order of unit rows
            self.index = NearestNeighbors(
                algorithm=algorithm,
                metric="euclidean" if flat else metric,
                p=p,
                n_jobs=n_jobs,
            ).fit(self.bank)

    def neighbors(self, queries, k):
        """Return distances and indices (b, k) of the nearest rows but a query itself.

        A query at distance zero from training rows is taken for the first of them. It
        is no neighbour of its own, nor are the rows near it.
        """
        distance, indices = self.query(queries, k + 1)
        if self.apart is None:
            return drop_self(distance, indices)
        (own,) = namespace(distance).nonzero(distance[:, 0] == 0)
        distance, indices = distance[:, :-1], indices[:, :-1]
        if own.shape[0]:
            hidden = np.stack(self.apart.near(indices[own, 0]))
            found = self.query(queries[own], k, like(hidden, indices, dtype="keep"))
            distance[own], indices[own] = found
        return distance, indices

    def query(self, queries, k, hidden=None):
        """Return distances (b, k), ascending, and indices (b, k) of nearest rows.

        `hidden` (2, b) says from which and before which training row none is found.
        """
        if self.metric == "cosine":
            queries = unit_rows(queries)
        if self.products is not None:
            return self._query_products(queries, k, hidden)
        asked = k if hidden is None else k + int((hidden[1] - hidden[0]).max())
        if self.graph is not None:
            found = self.graph.query(to_numpy(queries), asked, epsilon=_EPSILON)[0]
        elif self.index is not None:
            found = self.index.kneighbors(
                to_numpy(queries), asked, return_distance=False
            )
        else:
            found = self._query_distances(queries, asked)
        return self._refine(queries, like(found, queries, dtype="keep"), k, hidden)

    def in_graph(self, k):
        """Return a function that does what `query` does for a slice of the bank.

        Only for "pynndescent", whose graph of the training rows is more accurate than
        its search, and there already.
        """
        graph = self.graph.neighbor_graph[0]

        def query(rows):
            queries = self.bank[rows]
            return self._refine(
                queries, like(graph[rows, :k], queries, dtype="keep"), k
            )

        return query

    def difference(self, queries, indices):
        """Return queries minus their neighbours, of shape (b, k, d)."""
        if self.metric == "cosine":
            queries = unit_rows(queries)
        return queries[:, None, :] - self._rows(indices, queries)

    def _rows(self, indices, reference):
        """Return training rows, of shape (*indices, d), where `reference` lives."""
        return like(self.bank[like(indices, self.bank, dtype="keep")], reference)

    def _refine(self, queries, found, k, hidden=None):
        """Order candidates by their true distance and keep the first `k`."""
        xp = namespace(queries)
        # ties go to the smaller index, whatever order the candidates come in
        found = xp.sort(found, axis=1)
        parts = []
        # what stays in the second level of a cache is read twice as fast
        work = 16 * found.shape[1]
        for rows in blocks(found.shape[0], work * queries.shape[1], device_of(queries)):
            difference = self._rows(found[rows], queries)  # (b, c, d), of its own
            difference -= queries[rows][:, None, :]
            parts.append(distances(difference, self.metric, self.p))
        distance = parts[0] if len(parts) == 1 else xp.concat(parts)
        if hidden is not None:
            first, stop = hidden[:, :, None]
            distance = xp.where((found >= first) & (found < stop), np.inf, distance)
        order = xp.argsort(distance, axis=1, stable=True)[:, :k]
        return picked(distance, order), picked(found, order)

    # ------------------------------------------------------- exact, through products

    def _prepare_products(self):
        xp = namespace(self.bank)
        # centred and scaled to at most 1, so that float32 neither cancels nor overflows
        self.centre = xp.mean(self.bank, axis=0)
        reach = float(xp.max(xp.abs(self.bank - self.centre)))
        self.scale = reach if reach > 0 else 1.0
        self.products = self._products(xp.float32)  # (d + 1, n)

    def _products(self, dtype):
        """Return the matrix that turns a row [q, 1] into |y|^2 - 2 q.y for every y."""
        xp = namespace(self.bank)
        n, d = self.bank.shape
        matrix = xp.empty((d + 1, n), dtype=dtype, device=device_of(self.bank))
        for rows in blocks(n, d, device_of(self.bank)):
            standard = self._standard(self.bank[rows], dtype)
            matrix[:d, rows] = standard.T
            matrix[d, rows] = xp.astype(xp.vecdot(standard, standard), dtype)
        matrix[:d] *= -2
        return matrix

    def _standard(self, rows, dtype):
        """Return rows (b, d) centred and scaled, in `dtype` or as exact as they are."""
        xp = namespace(rows)
        rows = rows if dtype == xp.float32 else xp.astype(rows, dtype)
        rows = rows - like(self.centre, rows)
        rows /= self.scale
        return rows

    def _exact_products(self):
        """Return the products' matrix in float64, made once however many blocks ask."""
        if self.exact is None:
            self.exact = self._products(namespace(self.bank).float64)
        return self.exact

    def _query_products(self, queries, k, hidden=None):
        xp = namespace(queries)
        standard = self._standard(queries, xp.float32)
        coarse = _with_one(standard, xp.float32)
        if is_torch(coarse):
            coarse = coarse.detach()  # what is found has no gradient
        # a query far outside would overflow float32; the check below sends it on
        coarse = xp.clip(coarse, -1e9, 1e9, out=coarse)
        matrix = like(self.products, coarse)
        distance, indices, proven = self._search(
            queries, standard, coarse, matrix, k, hidden
        )
        if not xp.all(proven):
            doubtful = xp.nonzero(~proven)[0]
            fine = self._standard(queries[doubtful], xp.float64)
            matrix = like(self._exact_products(), fine)
            some = None if hidden is None else hidden[:, doubtful]
            distance[doubtful], indices[doubtful], proven = self._search(
                queries[doubtful], fine, _with_one(fine), matrix, k, some
            )
            if not xp.all(proven):
                doubtful = doubtful[~proven]
                some, asked = None, k
                if hidden is not None:
                    some = hidden[:, doubtful]
                    asked = k + int((some[1] - some[0]).max())
                found = self._query_distances(queries[doubtful], asked)
                distance[doubtful], indices[doubtful] = self._refine(
                    queries[doubtful], found, k, some
                )
        return distance, indices

    def _search(self, queries, standard, coarse, matrix, k, hidden=None):
        """Return distances, indices and whether they are proven to be the nearest."""
        xp = namespace(queries)
        n = matrix.shape[1]
        if hidden is not None:
            n -= int((hidden[1] - hidden[0]).max())
        kept = min(k + _SPARE, n)
        found, bound = coarse_smallest(coarse, matrix, kept, hidden)
        distance, indices = self._refine(queries, found, k)
        if kept == matrix.shape[1]:
            return distance, indices, xp.ones_like(bound, dtype=xp.bool)
        squared = distance[:, -1] ** 2
        if self.metric in ("sqeuclidean", "cosine"):
            squared = distance[:, -1] * (2.0 if self.metric == "cosine" else 1.0)
        standard = xp.astype(standard, xp.float64)
        squared = xp.astype(squared, xp.float64) / self.scale**2
        norm = xp.sqrt(xp.vecdot(standard, standard))
        longest = matrix.shape[0] ** 0.5  # every entry is at most 1
        unit, own = (float(xp.finfo(a.dtype).eps) for a in (coarse, distance))
        # rounding of a product of length d + 1 (Higham and Mary 2019, lambda = 4)
        error = 4 * unit * (longest + 2) * (longest + norm) * longest
        proven = squared - norm**2 + error + 4 * max(unit, own) * squared <= bound
        return distance, indices, proven | (squared == 0)

    # ------------------------------------------------------------------------- others

    def _query_distances(self, queries, k):
        """Search by distances without products, for other metrics and close calls."""
        found = []
        bank = like(self.bank, queries)
        p = {"manhattan": 1.0, "minkowski": self.p}.get(self.metric, 2.0)
        for rows in blocks(queries.shape[0], bank.shape[0], device_of(queries)):
            if is_torch(queries):
                import torch

                exactly = "donot_use_mm_for_euclid_dist"
                distance = torch.cdist(queries[rows], bank, p, compute_mode=exactly)
            else:
                distance = cdist(queries[rows], bank, "minkowski", p=p)
            found.append(smallest(distance, k))
        return namespace(queries).concat(found)

    def _build_graph(self, n_neighbors, random_state):
        pynndescent = need("pynndescent", "algorithm='pynndescent'")
        flat = self.metric in ("sqeuclidean", "cosine")  # same order of unit rows
        # the first parallel call of numba sets the threads of OpenMP, torch's as well
        with threadpool_limits(None):  # sets nothing, and puts back what was set
            graph = pynndescent.NNDescent(
                to_numpy(self.bank),
                metric="euclidean" if flat else self.metric,
                metric_kwds={"p": self.p} if self.metric == "minkowski" else None,
                n_neighbors=max(30, n_neighbors + 1),
                random_state=generator(random_state),
                n_jobs=self.n_jobs,
            )
            graph.prepare()
        return graph

    def __getstate__(self):
        # pynndescent's compiled code crashes on arrays that are memory-mapped when a
        # detector is loaded, which joblib does to arrays but not to bytes
        graph = self.graph and pickle.dumps(self.graph)
        return on_host({**vars(self), "graph": graph, "exact": None})

    def __setstate__(self, state):
        vars(self).update(state)
        self.exact = None  # files of before have none
        self.graph = self.graph and pickle.loads(self.graph)

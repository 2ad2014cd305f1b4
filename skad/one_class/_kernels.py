"""Kernels, sums over them, and kernel matrices that are never held whole."""

from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array, issparse

from skad._array import (
    blocks,
    device_of,
    is_torch,
    like,
    namespace,
    to_double,
    to_numpy,
)
from skad._distances import amend, trusted
from skad._moments import times

# Elements of a tile of kernel values: half to one megabyte, which stays in the cache of
# one core; a GPU needs large products instead.
_TILE = 2**17
_TILE_GPU = 2**26
_TILE_COLUMNS = 512


class Kernel(NamedTuple):
    """A kernel of vectors: an elementwise function of one product.

    ``k(x, v) = activate(left(x) @ right(v))``. The rbf kernel's exponent is such a
    product when the squared norms are two more features; its rows are taken relative to
    `centre`, which costs nothing and keeps the digits.
    """

    name: str
    gamma: float = 1.0
    degree: int = 3
    coef0: float = 0.0
    centre: object = None

    def left(self, X):
        """Return the rows' factor, of shape (n, d + 2) or (n, d + 1)."""
        xp = namespace(X)
        if self.name == "rbf":
            if is_torch(X):  # through which gradients may go
                X = X - like(self.centre, X)
                squares = xp.vecdot(X, X)[:, None]
                one = xp.ones_like(squares)
                factors = [2 * self.gamma * X, -self.gamma * squares, one]
                return xp.concat(factors, axis=1)
            # one array, since each of many rows takes as long to allocate as to fill
            shape = X.shape[0], X.shape[1] + 2
            factor = np.ones(shape, dtype=X.dtype)
            factor[:, :-2] = X
            rows = factor[:, :-2]
            rows -= like(self.centre, X)
            factor[:, -2] = -self.gamma * np.vecdot(rows, rows)
            rows *= 2 * self.gamma
            return factor
        if self.name == "linear":
            return X
        return xp.concat([self.gamma * X, xp.ones_like(X[:, :1])], axis=1)

    def right(self, V):
        """Return the vectors' factor, of shape (d + 2, m) or (d + 1, m)."""
        xp = namespace(V)
        if self.name == "rbf":
            V = V - like(self.centre, V)
            squares = xp.sum(V * V, axis=1)[:, None]
            one = xp.ones_like(squares)
            V = xp.concat([V, one, -self.gamma * squares], axis=1)
        elif self.name != "linear":
            V = xp.concat([V, self.coef0 * xp.ones_like(V[:, :1])], axis=1)
        return V.T.contiguous() if is_torch(V) else np.ascontiguousarray(V.T)

    def amend(self, product, left, right, X, V):
        """Form exponents of rows and vectors that are both far from `centre` anew.

        `product` is that of the factors `left` and `right` of `X` and `V`.
        """
        if self.name == "rbf":
            limit, unit = -trusted(X), 1 / self.gamma
            far, far_vectors = left[:, -2] < limit, right[-1] < limit
            amend(product, X, V, far, far_vectors, self.centre, unit, -self.gamma)
        return product

    def has_far(self, right, X):
        """Tell whether there are vectors, of the factor `right`, that `amend` sees."""
        return self.name == "rbf" and bool(right[-1].min() < -trusted(X))

    def activate(self, product):
        """Turn products into kernel values, in place."""
        if self.name == "rbf":
            # rounding makes positive exponents; only those of huge norms matter
            if is_torch(product):
                return product.clamp_(max=0).exp_()
            if product.size and product.max() > 1e-3:
                np.minimum(product, 0, out=product)
            return np.exp(product, out=product)
        if self.name == "poly":
            base = product + 0
            product[...] = 1
            with np.errstate(over="ignore"):  # refused later, with words
                for _ in range(self.degree):
                    product *= base
        elif self.name == "sigmoid":
            return product.tanh_() if is_torch(product) else np.tanh(product, product)
        return product

    def matrix(self, X, V):
        """Return the kernel matrix of the rows of `X` and of `V`, of shape (n, m)."""
        if issparse(X):
            return self.of_sparse(X, V)
        left, right = self.left(X), self.right(V)
        return self.activate(self.amend(left @ right, left, right, X, V))

    def of_sparse(self, X, V):
        """Return what `matrix` does, dense, of sparse rows, in float64.

        They are not centred: that would fill them, and in float64 keeps no digits that
        count until norms are a million times what distances matter.
        """
        X, V = to_double(X), to_double(V)
        values = (X @ V.T).toarray()
        if self.name == "rbf":
            values *= -2
            values += squared_norms(X)[:, None]
            values += squared_norms(V)
            values *= -self.gamma
        elif self.name != "linear":
            values *= self.gamma
            values += self.coef0
        return self.activate(values)

    def diagonal(self, X):
        """Return the kernel of each row with itself, of shape (n,)."""
        if self.name == "rbf":
            return X.new_ones(len(X)) if is_torch(X) else np.ones(X.shape[0], X.dtype)
        squares = squared_norms(X)
        if self.name == "linear":
            return squares
        return self.activate(self.gamma * squares + self.coef0)


def squared_norms(X):
    """Return the squared length (n,) of the rows of an array, sparse ones too."""
    if issparse(X):
        return np.asarray((X * X).sum(axis=1))
    return namespace(X).sum(X * X, axis=1)


def _slices(n, step):
    step = max(1, step)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def scale_gamma(gamma, X, centre, weights=None):
    """Return the value of `gamma`: "scale" is 1 / (d variance), "auto" is 1 / d.

    Rows count by `weights` (n,) in the variance; `centre` (d,) is their mean.
    """
    if not isinstance(gamma, str):
        return float(gamma)
    d = X.shape[1]
    variance = 1.0
    if gamma == "scale" and issparse(X):
        variance = _sparse_variance(X, weights)
    elif gamma == "scale":
        mean = float(to_numpy(centre).mean())
        parts = [
            times((to_double(X[rows]) - mean) ** 2, weights, rows).sum()
            for rows in blocks(*X.shape)
        ]
        total = X.shape[0] if weights is None else float(weights.sum())
        variance = float(sum(parts)) / (total * d)
    return 1 / (d * variance) if variance > 0 else 1.0


def _sparse_variance(X, weights):
    """Return the variance of all values of sparse rows that count by `weights`."""
    X = to_double(X)
    weights = np.ones(X.shape[0]) if weights is None else weights
    total = weights.sum() * X.shape[1]
    mean = float((weights @ X).sum()) / total
    # of the values that are not stored, and what the stored ones have beyond that
    beyond = X.copy()
    beyond.data = (X.data - mean) ** 2 - mean**2
    return mean**2 + float((weights @ beyond).sum()) / total


def sparse_sum(kernel, X, vectors, weights):
    """Return what `weighted_sum` does, of sparse rows and vectors."""
    parts = [
        kernel.of_sparse(X[rows], vectors) @ weights
        for rows in blocks(X.shape[0], 3 * vectors.shape[0])
    ]
    return np.concatenate(parts)


def weighted_sum(kernel, X, vectors, right, weights, left=None):
    """Return ``sum_j weights_j k(x, v_j)`` of each row, of shape (n,), in float64.

    `right` is `kernel.right(vectors)`, and `left` is `kernel.left(X)` where that is
    known; tiles of kernel values are summed as they are made.
    """
    xp, m = namespace(X), right.shape[1]
    on_gpu = is_torch(X) and X.device.type != "cpu"
    n_tiles = -(-m // (16 * _TILE_COLUMNS if on_gpu else _TILE_COLUMNS))
    width = -(-m // max(1, n_tiles))
    # allocating a tile anew costs more than filling it
    buffer = None if is_torch(X) else np.empty(max(_TILE, width), X.dtype)
    sums, doubtful = [], kernel.has_far(right, X)
    for rows in _slices(X.shape[0], (_TILE_GPU if on_gpu else _TILE) // max(1, width)):
        own = kernel.left(X[rows]) if left is None else left[rows]
        total = xp.zeros(own.shape[0], dtype=xp.float64, device=device_of(X))
        for columns in _slices(m, width):
            factor = right[:, columns]
            if buffer is None:
                values = own @ factor
            else:
                shape = own.shape[0], factor.shape[1]
                values = buffer[: shape[0] * shape[1]].reshape(shape)
                np.matmul(own, factor, out=values)
            if doubtful:
                kernel.amend(values, own, factor, X[rows], vectors[columns])
            total = total + to_double(kernel.activate(values) @ weights[columns])
        sums.append(total)
    return xp.concat(sums)


def call_kernel(function, X, V):
    """Return the user's kernel of two arrays, or say what it should have returned."""
    values = np.asarray(function(X, V))
    if values.shape != (len(X), len(V)):
        raise ValueError(
            f"kernel={function!r} returned shape {values.shape} for arrays of "
            f"{len(X)} and {len(V)} rows; it must return ({len(X)}, {len(V)})."
        )
    if not np.isfinite(values).all():
        raise ValueError(f"kernel={function!r} returned values that are not finite.")
    return values


def function_sum(function, X, vectors, weights):
    """Return ``sum_j weights_j k(x, v_j)`` of each row for a user's kernel."""
    parts = [
        call_kernel(function, X[rows], vectors) @ weights
        for rows in blocks(len(X), max(1, len(vectors)))
    ]
    return np.concatenate(parts).astype(np.float64, copy=False)


def self_kernel(kernel, X):
    """Return the kernel of each row with itself, of shape (n,)."""
    if isinstance(kernel, Kernel):
        return kernel.diagonal(X)
    X = to_numpy(X)
    parts = [
        np.diagonal(call_kernel(kernel, X[rows], X[rows]))
        for rows in _slices(len(X), 32)
    ]
    return np.concatenate(parts).astype(np.float64)


def kernel_columns(kernel, X, vectors):
    """Return the kernel matrix (n, m) of the rows and a few vectors."""
    if not isinstance(kernel, Kernel):
        X, vectors = to_numpy(X), to_numpy(vectors)
        parts = [call_kernel(kernel, X[rows], vectors) for rows in blocks(*X.shape)]
        return np.concatenate(parts).astype(X.dtype, copy=False)
    right = kernel.right(vectors)
    shape = X.shape[0], right.shape[1]
    columns = X.new_empty(shape) if is_torch(X) else np.empty(shape, X.dtype)
    for rows in blocks(*shape, device_of(X)):
        left = kernel.left(X[rows])
        columns[rows] = left @ right
        kernel.amend(columns[rows], left, right, X[rows], vectors)
        kernel.activate(columns[rows])
    return columns


def expansion(kernel, vectors, weights):
    """Return the two arrays with which `expand` sums the kernel quickly.

    The vectors are the columns' numbers for a precomputed kernel.
    """
    if kernel == "precomputed":
        return vectors, weights
    if not isinstance(kernel, Kernel):
        return to_numpy(vectors), weights
    weights = like(weights, vectors)
    if issparse(vectors) and kernel.name != "linear":
        return None, to_double(weights)
    if kernel.name == "linear":
        direction = vectors.T @ weights
        return direction[:, None], namespace(vectors).ones_like(direction[:1])
    return kernel.right(vectors), weights


def expand(kernel, X, vectors, basis, weights):
    """Return ``sum_j weights_j k(x, v_j)`` of each row, of shape (n,), in float64.

    `basis` and `weights` are those of `expansion` of the vectors.
    """
    if kernel == "precomputed":
        columns = X[:, like(basis, X, dtype="keep")]
        return to_double(columns @ like(weights, X))
    if not isinstance(kernel, Kernel):
        return function_sum(kernel, to_numpy(X), basis, to_numpy(weights))
    if issparse(vectors):
        X = csr_array(X)
        if kernel.name == "linear":
            return to_double(X @ basis[:, 0])
        return sparse_sum(kernel, X, vectors, weights)
    if kernel.name == "rbf":
        vectors = like(vectors, X)
    return weighted_sum(kernel, X, vectors, like(basis, X), like(weights, X))

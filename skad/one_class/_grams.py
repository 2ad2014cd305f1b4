"""Kernel matrices of the training rows, never held whole, behind one interface."""

import numpy as np
from scipy.sparse import issparse

from skad._array import (
    blocks,
    device_of,
    is_torch,
    like,
    namespace,
    to_double,
    to_numpy,
)
from skad.one_class._kernels import (
    Kernel,
    call_kernel,
    function_sum,
    self_kernel,
    sparse_sum,
    squared_norms,
    weighted_sum,
)

# Of so many rows or fewer the kernel's values are kept: 8 MB.
_KEPT = 1000


class VectorGram:
    """The kernel matrix of the rows of `X`, in pieces."""

    def __init__(self, kernel, X):
        self.kernel, self.X, self.left, self.right = kernel, X, None, None
        self.precision = float(namespace(X).finfo(X.dtype).eps)
        self.places = self.values = None
        if X.shape[0] <= _KEPT and not (issparse(X) or is_torch(X)):
            self.places = np.full(X.shape[0], -1)  # of the rows' values among all
            self.values = np.empty((X.shape[0],) * 2, X.dtype)

    def thin(self, step):
        """Return the matrix of every `step`-th row."""
        return VectorGram(self.kernel, self.X[::step])

    def block(self, rows):
        """Return the square matrix (q, q) of some rows, in float64."""
        if self.places is not None and self.places[rows].min() >= 0:
            known = self.values[np.ix_(self.places[rows], rows)]
            return known.astype(np.float64, copy=False)
        X = to_double(self.X[like(rows, self.X, dtype="keep")])
        return to_numpy(self.kernel.matrix(X, X))

    def product(self, rows, weights):
        """Return the columns of some rows times `weights`: shape (n,), float64."""
        if self.places is not None:
            return self._kept(rows, weights)
        vectors = self.X[like(rows, self.X, dtype="keep")]
        if issparse(self.X):
            return sparse_sum(self.kernel, self.X, vectors, weights)
        right, weights = self.kernel.right(vectors), like(weights, self.X)
        if self.left is None:  # the same in every round
            self.left = self.kernel.left(self.X)
        return to_numpy(
            weighted_sum(self.kernel, self.X, vectors, right, weights, self.left)
        )

    def _kept(self, rows, weights):
        """Return what `product` does; rounds ask for many of the rows again."""
        new = rows[self.places[rows] < 0]
        if len(new):
            if self.right is None:
                self.right = self.kernel.right(self.X)
            vectors = self.X[new]
            start = self.places.max() + 1
            self.places[new] = np.arange(start, start + len(new))
            values = self.values[start : start + len(new)]
            left = self.kernel.left(vectors)
            np.matmul(left, self.right, out=values)
            self.kernel.amend(values, left, self.right, vectors, self.X)
            self.kernel.activate(values)
        return weights @ self.values[self.places[rows]]

    def diagonal(self):
        """Return the diagonal (n,), in float64."""
        return to_numpy(to_double(self.kernel.diagonal(self.X)))


class LinearGram:
    """The matrix ``X M X^T`` with a small `metric` `M` (the identity when None)."""

    def __init__(self, X, metric=None):
        self.X, self.metric = X, metric
        self.precision = float(namespace(X).finfo(X.dtype).eps)

    def thin(self, step):
        """Return the matrix of every `step`-th row."""
        return LinearGram(self.X[::step], self.metric)

    def block(self, rows):
        """Return the square matrix (q, q) of some rows, in float64."""
        X = to_double(self.X[like(rows, self.X, dtype="keep")])
        if issparse(X):
            return (X @ X.T).toarray()
        X = to_numpy(X)
        return X @ X.T if self.metric is None else X @ self.metric @ X.T

    def combine(self, rows, weights):
        """Return `M X^T` of some rows times `weights`: shape (d,), float64."""
        total = np.zeros(self.X.shape[1])
        for part in blocks(len(rows), self.X.shape[1], device_of(self.X)):
            X = to_double(self.X[like(rows[part], self.X, dtype="keep")])
            total += to_numpy(X.T @ like(weights[part], X))
        return total if self.metric is None else self.metric @ total

    def product(self, rows, weights):
        """Return the columns of some rows times `weights`: shape (n,), float64."""
        direction = like(self.combine(rows, weights), self.X)
        return to_numpy(to_double(self.X @ direction))

    def diagonal(self):
        """Return the diagonal (n,), in float64."""
        X = self.X
        if issparse(X):
            return squared_norms(to_double(X))
        xp = namespace(X)
        parts = []
        for rows in blocks(*X.shape):
            block = to_double(X[rows])
            other = block if self.metric is None else block @ like(self.metric, block)
            parts.append(xp.sum(block * other, axis=1))
        return to_numpy(xp.concat(parts))


class MatrixGram:
    """A kernel matrix that the user holds."""

    def __init__(self, matrix):
        self.matrix = matrix
        self.precision = float(namespace(matrix).finfo(matrix.dtype).eps)

    def thin(self, step):
        """Return the matrix of every `step`-th row."""
        return MatrixGram(self.matrix[::step, ::step])

    def block(self, rows):
        """Return the square matrix (q, q) of some rows, in float64."""
        rows = like(rows, self.matrix, dtype="keep")
        return to_numpy(to_double(self.matrix[rows][:, rows]))

    def product(self, rows, weights):
        """Return the columns of some rows times `weights`: shape (n,), float64."""
        rows = like(rows, self.matrix, dtype="keep")
        weights = like(weights, self.matrix)
        parts = [
            to_numpy(to_double(self.matrix[block][:, rows] @ weights))
            for block in blocks(self.matrix.shape[0], max(1, len(rows)))
        ]
        return np.concatenate(parts)

    def diagonal(self):
        """Return the diagonal (n,), in float64."""
        return to_numpy(to_double(namespace(self.matrix).linalg.diagonal(self.matrix)))


class FunctionGram:
    """The matrix of a user's kernel function, called on NumPy arrays, in pieces."""

    def __init__(self, function, X):
        self.function, self.X = function, to_numpy(X)
        self.precision = float(np.finfo(self.X.dtype).eps)

    def thin(self, step):
        """Return the matrix of every `step`-th row."""
        return FunctionGram(self.function, self.X[::step])

    def block(self, rows):
        """Return the square matrix (q, q) of some rows, in float64."""
        X = self.X[rows]
        return np.array(call_kernel(self.function, X, X), dtype=np.float64)

    def product(self, rows, weights):
        """Return the columns of some rows times `weights`: shape (n,), float64."""
        return function_sum(self.function, self.X, self.X[rows], weights)

    def diagonal(self):
        """Return the diagonal (n,), in float64."""
        return self_kernel(self.function, self.X)


def gram_matrix(kernel, X):
    """Return the kernel matrix of the rows of `X` behind one interface.

    `kernel` is a `Kernel`, "precomputed" or a function of two arrays.
    """
    if kernel == "precomputed":
        return MatrixGram(X)
    if not isinstance(kernel, Kernel):
        return FunctionGram(kernel, X)
    return LinearGram(X) if kernel.name == "linear" else VectorGram(kernel, X)

"""What a principal subspace of a kernel's feature space does not explain."""

from collections.abc import Callable
from numbers import Integral, Real

import numpy as np

from skad._array import like, namespace, to_double
from skad._distances import middle, squared_distances
from skad._left_out import LeftOutMixin
from skad._moments import mean_row
from skad._parameters import KW_ONLY, with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval, RealNotInt, StrOptions
from skad.base import BaseDetector
from skad.subspace._left_out import left_out


def principal_kernel_axes(kernel, n_components, tol):
    r"""Return `A` (m, k) so that the centred kernel of a row times `A` is its score.

    The columns are the eigenvectors of the centred kernel matrix over the roots of
    their eigenvalues [Schölkopf et al. 1998, equations (3) and (4)].
    """
    xp = namespace(kernel)
    means = xp.mean(kernel, axis=0)
    kernel = kernel - means[:, None]
    kernel -= means - xp.mean(means)
    values, vectors = xp.linalg.eigh(kernel)
    values, vectors = xp.flip(values, axis=0), xp.flip(vectors, axis=1)
    largest = float(values[0])
    rank = int(xp.sum(values > tol * largest)) if largest > 0 else 0
    if isinstance(n_components, Integral):
        k = min(n_components, rank)
    elif rank:
        share = xp.cumulative_sum(values[:rank]) / xp.sum(values[:rank])
        k = min(int(xp.sum(share < n_components)) + 1, rank)
    else:
        k = 0
    return vectors[:, :k] / xp.sqrt(values[:k]), values[:k]


@with_parameters(kw_only=False)
class KernelPCAReconstruction(LeftOutMixin, BaseDetector):
    r"""Rows that the main directions of a kernel's feature space do not explain.

    Normal rows, mapped to the feature space of a kernel
    :math:`\kappa(x, y) = \langle \phi(x), \phi(y) \rangle`, vary around their mean
    :math:`\phi_0` along :math:`k` principal directions :math:`V_l`. The anomaly is the
    reconstruction error there [1]_,

    .. math:: a(x) = \|\phi(x) - \phi_0\|^2 -
        \sum_{l \le k} \langle \phi(x) - \phi_0, V_l \rangle^2.

    The map shares the score out by the squared gradient,

    .. math:: m_i(x) = a(x) \, \frac{(\partial a / \partial x_i)^2}
        {\sum_r (\partial a / \partial x_r)^2},

    never negative and summing to it. For the linear kernel this is the squared
    residual of principal component analysis; for rbf it is in proportion to
    :math:`(x_i - z_i)^2`, the distance to the first step :math:`z` towards the
    reconstruction's pre-image [2]_.

    Read more in the :ref:`User Guide <subspace>`.

    Parameters
    ----------
    n_components : int or float, default=0.7
        Number of directions :math:`k`, at most the rank of the kernel matrix; a float
        in (0, 1) is the share of the variance in feature space that they hold at
        least. With too many, training rows are explained whole, anomalies included, and
        so is a stray one a hundred times as far out as the others.
    kernel : {"rbf", "poly", "linear", "sigmoid"} or callable, default="rbf"
        :math:`e^{-\gamma \|x - y\|^2}`, :math:`(\gamma x^T y + c_0)^p`,
        :math:`x^T y`, :math:`\tanh(\gamma x^T y + c_0)` or a function of two arrays of
        rows (b, d) and (m, d) that returns the kernel values (b, m).
    gamma : float or {"scale", "auto"}, default="scale"
        :math:`\gamma`; "scale" is ``1 / (n_features * X.var())`` and "auto" is
        ``1 / n_features``, as in :class:`sklearn.svm.OneClassSVM`.
    degree : int, default=3
        :math:`p` of "poly".
    coef0 : float, default=1.0
        :math:`c_0` of "poly" and "sigmoid".
    max_samples : int, default=2000
        Rows that the subspace is learnt from. Where there are more, so many are drawn
        at random; all of them still set the threshold.
    tol : float, default=1e-10
        Directions with less than `tol` times the largest variance are left out.
    random_state : int, RandomState instance or None, default=None
        Draws the `max_samples` rows. Pass an int for reproducible results.

    Attributes
    ----------
    rows_ : ndarray of shape (m, n_features)
        The rows that the subspace is learnt from, m at most `max_samples`.
    eigenvalues_ : ndarray of shape (n_components_,)
        Largest eigenvalues of their centred kernel matrix.
    n_components_ : int
        :math:`k`.
    gamma_ : float
        :math:`\gamma`.

    See Also
    --------
    PCAReconstruction : The linear kernel for any number of rows.
    sklearn.decomposition.KernelPCA : The transformer.

    Notes
    -----
    ``contamination="auto"`` takes each of the rows that the subspace is learnt from out
    of the main directions, without how its residual varies together with other
    directions beside them; `gamma` and the number of directions stay.

    `fit` costs O(m^3) time and O(m^2) memory for :math:`m` rows (32 MB a matrix at
    2,000), in double precision; scoring costs O(m (d + k)) a row, so memory does not
    grow with the number of training rows. Both run where `X` lives. The gradient of a
    callable kernel is taken by central differences, 2 d kernel evaluations a row.
    "sigmoid" is not positive definite: directions with a negative eigenvalue are left
    out, and the error may be negative.

    References
    ----------
    .. [1] H. Hoffmann, "Kernel PCA for novelty detection", Pattern Recognition, 2007,
       section 3.
    .. [2] S. Mika et al., "Kernel PCA and de-noising in feature spaces", NeurIPS, 1998,
       equation (10).
    .. [3] B. Schölkopf, A. Smola and K.-R. Müller, "Nonlinear component analysis as a
       kernel eigenvalue problem", Neural Computation, 1998.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.subspace import KernelPCAReconstruction
    >>> angle = np.arange(0, 6.28, 0.1)
    >>> ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    >>> detector = KernelPCAReconstruction(contamination=0.05).fit(ring)
    >>> detector.predict([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    array([-1,  1, -1])
    >>> detector.transform([[0.0, 2.0]]).round(2)
    array([[0.  , 1.08]])
    """

    n_components: float = 0.7
    _: KW_ONLY
    kernel: str | Callable = "rbf"
    gamma: float | str = "scale"
    degree: int = 3
    coef0: float = 1.0
    max_samples: int = 2000
    tol: float = 1e-10
    random_state: Seed = None

    _map_sums_to_score = True
    _hiding_times = 1e5
    _parameter_constraints = {
        "n_components": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "kernel": [StrOptions({"rbf", "poly", "linear", "sigmoid"}), callable],
        "gamma": [
            Interval(Real, 0, None, closed="neither"),
            StrOptions({"scale", "auto"}),
        ],
        "degree": [Interval(Integral, 1, None, closed="left")],
        "coef0": [Interval(Real, None, None, closed="neither")],
        "max_samples": [Interval(Integral, 2, None, closed="left")],
        "tol": [Interval(Real, 0, 1, closed="left")],
        "random_state": ["random_state"],
    }

    def _row_elements(self):
        return 2 * len(self.rows_) + 3 * self.n_features_in_

    def _fit(self, X, y):
        xp = namespace(X)
        n, d = X.shape
        if self.gamma == "scale":
            variance = float(xp.var(to_double(X)))
            self.gamma_ = 1 / (d * variance) if variance > 0 else 1.0
        else:
            self.gamma_ = 1 / d if self.gamma == "auto" else float(self.gamma)
        drawn, self._drawn_ = np.arange(n), None
        if n > self.max_samples:
            random = generator(self.random_state)
            drawn = np.sort(random.choice(n, self.max_samples, replace=False))
            self._drawn_ = drawn
        self.rows_ = X[like(drawn, X, dtype="keep")]  # a copy
        rows = to_double(self.rows_)
        # rbf and linear do not change when all rows move: centred ones keep digits
        shift = self.kernel in ("rbf", "linear")
        self._shift_ = xp.zeros_like(rows[0])
        if shift:
            self._shift_ = mean_row(rows) if self.kernel == "linear" else middle(rows)
        self._centred_ = rows - self._shift_
        kernel = self._kernel(self._centred_, self._centred_)
        axes, self.eigenvalues_ = principal_kernel_axes(
            kernel, self.n_components, self.tol
        )
        self.n_components_ = len(self.eigenvalues_)
        self._axes_ = axes  # (m, k)
        means = xp.mean(kernel, axis=0)
        self._origin_ = means @ axes  # (k,)
        self._means_ = means
        self._mean_kernel_ = float(xp.mean(means))
        self._step_ = xp.sqrt(xp.mean(self._centred_**2, axis=0))

    def _kernel(self, X, Y):
        xp = namespace(X)
        if callable(self.kernel):
            return self.kernel(X, Y)
        if self.kernel == "rbf":
            values = squared_distances(X, Y, 0 * X[0], 1 / self.gamma_)
            values *= -self.gamma_
            return xp.exp(values, out=values)
        values = X @ Y.T
        if self.kernel != "linear":
            values *= self.gamma_
            values += self.coef0
        if self.kernel == "poly":
            return values**self.degree
        return xp.tanh(values) if self.kernel == "sigmoid" else values

    def _self_kernel(self, X):
        """Return the kernel of each row with itself, of shape (b,)."""
        xp = namespace(X)
        if self.kernel == "rbf":
            return xp.ones_like(X[:, 0])
        if callable(self.kernel):
            return xp.concat([self.kernel(row[None], row[None])[0] for row in X])
        values = xp.sum(X * X, axis=1)
        if self.kernel == "linear":
            return values
        values = values * self.gamma_ + self.coef0
        return values**self.degree if self.kernel == "poly" else xp.tanh(values)

    def _scores(self, kernel, X):
        """Return the rows' principal scores, of shape (b, k)."""
        return kernel @ like(self._axes_, X) - like(self._origin_, X)

    def _anomaly(self, X):
        xp = namespace(X)
        X = X - like(self._shift_, X)
        kernel = self._kernel(X, like(self._centred_, X))
        scores = self._scores(kernel, X)
        distance = self._self_kernel(X) - 2 * xp.mean(kernel, axis=1)
        return distance + self._mean_kernel_ - xp.sum(scores**2, axis=1)

    def _honest_anomaly(self, X, y, anomaly, **params):
        if self._drawn_ is None:
            return super()._honest_anomaly(X, y, anomaly, **params)
        anomaly = self._seen_anomaly(X, anomaly)
        own = self._in_blocks(self._left_out, self.rows_)
        anomaly[like(self._drawn_, X, dtype="keep")] = own
        return anomaly

    def _left_out(self, X):
        """Return the anomaly (b,) of rows that the subspace is learnt from."""
        xp = namespace(X)
        X = X - like(self._shift_, X)
        kernel = self._kernel(X, like(self._centred_, X))
        squares = self._scores(kernel, X) ** 2
        means = xp.mean(kernel, axis=1)
        whole = self._self_kernel(X) - 2 * means + self._mean_kernel_
        error = whole - xp.sum(squares, axis=1)
        residual = xp.clip(error, 0, None)
        kernel = kernel - means[:, None]
        kernel -= like(self._means_, X) - self._mean_kernel_
        values = like(self.eigenvalues_, X)
        # kernel values of any size have squares in this unit
        unit = float(values[0]) if len(values) else 1.0
        squares, values, residual = squares / unit, values / unit, residual / unit
        kernel /= unit
        around = xp.sum(kernel**2, axis=1) - squares @ values
        around = xp.maximum(around, residual**2)  # the row itself is part of it
        gain = len(self.rows_) / (len(self.rows_) - 1)
        found = unit * gain**2 * left_out(squares, values, residual, around, gain)[0]
        # what rounding leaves, or a kernel that is not positive definite, stays
        return xp.where(error <= 1e-12 * xp.abs(whole), error, found)

    def _map(self, X):
        xp = namespace(X)
        anomaly = self._anomaly(X)
        gradient = self._gradient(X - like(self._shift_, X))
        largest = xp.max(xp.abs(gradient), axis=1)[:, None]
        square = (gradient / xp.where(largest > 0, largest, 1.0)) ** 2
        square = xp.where(largest > 0, square, 1.0)  # at a stationary point all share
        return anomaly[:, None] * square / xp.sum(square, axis=1)[:, None]

    def _gradient(self, X):
        """Return the gradient of the error at each row, up to a factor, (b, d)."""
        xp = namespace(X)
        rows = like(self._centred_, X)
        axes = like(self._axes_, X)
        kernel = self._kernel(X, rows)
        # phi(x) is projected on sum_j weight_j phi(x_j); the gradient of the error is
        # that of |phi(x)|^2 / 2 - sum_j weight_j k(x, x_j) with the weights held
        scores = self._scores(kernel, X)
        weight = scores @ axes.T + 1 / len(rows)  # (b, m)
        if self.kernel == "rbf":
            squares = squared_distances(X, rows, 0 * X[0], 1 / self.gamma_)
            squares -= xp.min(squares, axis=1)[:, None]  # far rows underflow else
            weight *= xp.exp(-self.gamma_ * squares)
            return xp.sum(weight, axis=1)[:, None] * X - weight @ rows
        if self.kernel == "linear":
            return X - weight @ rows
        if callable(self.kernel):
            return self._differences(X, rows, weight)
        inner = self.gamma_ * (X @ rows.T) + self.coef0
        own = self.gamma_ * xp.sum(X * X, axis=1)[:, None] + self.coef0
        if self.kernel == "poly":
            power = self.degree - 1
            return own**power * X - (weight * inner**power) @ rows
        return (1 - xp.tanh(own) ** 2) * X - (weight * (1 - xp.tanh(inner) ** 2)) @ rows

    def _differences(self, X, rows, weight):
        """Return the gradient for a callable kernel, by central differences."""
        xp = namespace(X)
        relative = float(xp.finfo(X.dtype).eps) ** (1 / 3)
        columns = []
        for i in range(X.shape[1]):
            step = relative * (float(self._step_[i]) or 1.0)
            sides = []
            for sign in (1, -1):
                moved = X + sign * step * like(np.eye(X.shape[1])[i], X)
                inner = xp.sum(weight * self._kernel(moved, rows), axis=1)
                sides.append(self._self_kernel(moved) / 2 - inner)
            columns.append((sides[0] - sides[1]) / (2 * step))
        return xp.stack(columns, axis=1)

"""One-class support vector machine."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.sparse import issparse

from skad._ablation import ablation
from skad._array import is_torch, like, namespace, to_double, to_numpy
from skad._distances import middle
from skad._limits import warn_of_equal_scores, weighted_quantile
from skad._moments import mean_row
from skad._parameters import KW_ONLY, absent, with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval, StrOptions
from skad._sparse import dense_rows
from skad._weights import SampleWeightMixin
from skad.base import BaseDetector
from skad.one_class._dual import inside, kernel_scale, minimise, rounding, threshold
from skad.one_class._grams import LinearGram, gram_matrix
from skad.one_class._kernels import (
    Kernel,
    expand,
    expansion,
    kernel_columns,
    scale_gamma,
)
from skad.one_class._relevance import (
    gradient,
    outlier_relevance,
    path_relevance,
    wave_columns,
    wave_relevance,
    waves,
)

# After so many rounds or fewer the solver's scores are those of the result, as exact.
_FEW_ROUNDS = 8


def pseudo_inverse(matrix, tol):
    """Return the inverse of a symmetric matrix on its eigenvalues above `tol`."""
    values, vectors = np.linalg.eigh(matrix)
    keep = values > tol * max(values[-1], 0)
    return (vectors[:, keep] / values[keep]) @ vectors[:, keep].T


@with_parameters(kw_only=False)
class OneClassSVM(SampleWeightMixin, BaseDetector):
    r"""Rows outside the region that a kernel machine draws around most of the data.

    A hyperplane in the kernel's feature space separates the data from the origin with
    the largest margin, except for a share :math:`\nu` of rows. In its dual form the
    weights :math:`0 \le \alpha_j \le 1` with :math:`\sum_j \alpha_j = \nu n` minimise
    :math:`\frac12 \alpha^T K \alpha`, and the anomaly is

    .. math:: a(x) = -\sum_j \alpha_j k(x_j, x).

    The rows with :math:`\alpha_j > 0` are the support vectors. ``score_samples`` is
    :math:`-a`, the numbers of `sklearn.svm.OneClassSVM`, but for "sigmoid".

    The map depends on the kernel. For "rbf" it is the deep Taylor decomposition of the
    outlier score :math:`o(x) = -\log (\sum_j \alpha_j k(x_j, x) / \sum_j \alpha_j)`
    [2]_, which falls as ``score_samples`` grows: never negative, its sum is
    :math:`o(x)`. With ``solver="nystroem"`` or "fourier" the weights have both signs,
    so that the map of "rbf" is the integrated gradient [5]_ from the mean training row,
    in closed form: its sum is the anomaly less that of the mean row. For "linear",
    "poly" and "sigmoid" it is gradient times input, for "linear" with the sum
    :math:`a(x)`. For "precomputed" it is the term :math:`-\alpha_j k(x_j, x)` of each
    training row, with the sum :math:`a(x)`; for a callable, what the anomaly loses when
    one feature is set to its training median.

    Read more in the :ref:`User Guide <one_class>`.

    Parameters
    ----------
    kernel : {"rbf", "linear", "poly", "sigmoid", "precomputed"} or callable, \
            default="rbf"
        :math:`k`: :math:`e^{-\gamma \|x - y\|^2}`, :math:`x^T y`, :math:`(\gamma x^T y
        + c)^p` or :math:`\tanh(\gamma x^T y + c)`. For "precomputed", `X` is the kernel
        matrix of the training rows in `fit`, and of the given and all training rows
        elsewhere. A callable takes two NumPy arrays and returns their kernel matrix.
    gamma : {"scale", "auto"} or float, default="scale"
        :math:`\gamma`, above 0; "scale" is ``1 / (n_features * X.var())``, "auto" is
        ``1 / n_features``.
    degree : int, default=3
        :math:`p` of "poly".
    coef0 : float, default=0.0
        :math:`c` of "poly" and "sigmoid".
    nu : float, default=0.5
        :math:`\nu` in (0, 1]: at most this share of the training rows is outside and at
        least this share are support vectors.
    tol : float, default=1e-4
        Largest violation of the optimality conditions, relative to the median of
        :math:`k(x, x)`.
    solver : {"exact", "nystroem", "fourier"}, default="exact"
        "exact" solves the dual problem; "nystroem" replaces the kernel by its
        projection on `n_basis` training rows [3]_, "fourier" by `n_basis` random waves
        (rbf only) [4]_, and solve the same problem in O(n n_basis d).
    n_basis : int, default=256
        Training rows of "nystroem" (all, if fewer), waves of "fourier".
    max_rounds : int, default=1000
        Rounds of the solver before it gives up with a ConvergenceWarning.
    device : str, default="auto"
        Where kernel values are computed: "auto" is a tensor's own device, and for other
        input a CUDA device where there is one and the work repays the trip; or
        PyTorch's name of a device.
    random_state : int, RandomState instance or None, default=None
        Draws the rows of "nystroem" and the waves of "fourier". Pass an int for
        reproducible results.

    Attributes
    ----------
    support_ : ndarray of shape (n_support,)
        Numbers of the training rows with :math:`\alpha_j > 0`; for ``solver="exact"``.
    n_support_ : ndarray of shape (1,), int32
        How many these are.
    support_vectors_ : ndarray or CSR array of shape (n_support, n_features)
        These rows; not for a precomputed kernel.
    dual_coef_ : ndarray of shape (1, n_support)
        Their :math:`\alpha_j`.
    coef_ : ndarray of shape (1, n_features)
        The normal of the hyperplane; for the exact linear kernel.
    landmarks_ : ndarray of shape (n_basis, n_features)
        The training rows of ``solver="nystroem"``.
    landmark_coef_ : ndarray of shape (n_basis,)
        Their weights in the score.
    frequencies_ : ndarray of shape (n_basis, n_features)
        The waves of ``solver="fourier"``.
    wave_coef_ : ndarray of shape (2, n_basis)
        Weights of their cosines and sines in the score.
    intercept_ : ndarray of shape (1,)
        ``-offset_``.
    gamma_ : float
        The value of :math:`\gamma`.
    n_rounds_, n_iter_ : int
        Rounds that the solver took.
    device_ : str
        Where `fit` computed.

    See Also
    --------
    SVDD : A sphere instead of a hyperplane; equal for the rbf kernel, and it can learn
        from known anomalies.

    Notes
    -----
    With s support vectors the exact fit costs O(n s d) and a few rounds more, scoring
    O(s d) a row; the kernel matrix is never held. The solution is libsvm's, or one of
    several minima for "sigmoid"; a start from that of a quarter of the rows, working
    sets of 512 to 1024 rows and products in tiles of the cache's size make it faster
    from some thousand rows on. The working sets' problems are solved on the host in
    double precision, whatever the device. With ``nu=1`` every :math:`\alpha_j` is 1 and
    :math:`\rho` is the largest training score, so that no training row is inside
    (libsvm's is infinite). Rows with :math:`0 < \alpha_j < 1` lie on the boundary
    itself, where rounding would put many of them outside: the threshold is lowered
    until the share outside is at most :math:`\nu`, however rows are split in scoring.

    With `sample_weight` the bound of :math:`\alpha_j` is the row's weight and the sum
    of all is :math:`\nu` times the sum of the weights, as in libsvm. The solution and
    ``gamma="scale"`` are so those of repeated rows (scikit-learn's "scale" is not).
    Landmarks of "nystroem" are drawn with probabilities proportional to the weights.

    Sparse rows stay sparse on the host for the exact solver and the kernels with a
    name, as in scikit-learn; kernel values are then in float64. Maps are dense.

    References
    ----------
    .. [1] B. Schoelkopf, J. C. Platt, J. Shawe-Taylor, A. J. Smola and R. C.
       Williamson, "Estimating the support of a high-dimensional distribution", Neural
       Computation, 2001, equations (3.10) to (3.13).
    .. [2] J. Kauffmann, K.-R. Mueller and G. Montavon, "Towards explaining anomalies: a
       deep Taylor decomposition of one-class models", Pattern Recognition, 2020.
    .. [3] C. K. I. Williams and M. Seeger, "Using the Nystroem method to speed up
       kernel machines", NIPS, 2000.
    .. [4] A. Rahimi and B. Recht, "Random features for large-scale kernel machines",
       NIPS, 2007.
    .. [5] M. Sundararajan, A. Taly and Q. Yan, "Axiomatic attribution for deep
       networks", ICML, 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.one_class import OneClassSVM
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> detector = OneClassSVM(nu=0.1).fit(X)
    >>> detector.predict([[0.0, 0.0], [4.0, 0.0]])
    array([ 1, -1])
    >>> detector.transform([[4.0, 0.0]]).round(2)
    array([[2.69, 1.11]])
    """

    kernel: str | Callable = "rbf"
    _: KW_ONLY
    gamma: str | float = "scale"
    degree: int = 3
    coef0: float = 0.0
    nu: float = 0.5
    tol: float = 0.0001
    solver: str = "exact"
    n_basis: int = 256
    max_rounds: int = 1000
    device: str = "auto"
    random_state: Seed = None

    # the optimum has a threshold of its own
    contamination: Any = absent()
    false_alarm_rate: Any = absent()
    _honesty, _hiding_times = "its own", 1e5
    _parameter_constraints = {
        "kernel": [
            StrOptions({"rbf", "linear", "poly", "sigmoid", "precomputed"}),
            callable,
        ],
        "gamma": [
            StrOptions({"scale", "auto"}),
            Interval(Real, 0, None, closed="neither"),
        ],
        "degree": [Interval(Integral, 0, None, closed="left")],
        "coef0": [Interval(Real, None, None, closed="neither")],
        "nu": [Interval(Real, 0, 1, closed="right")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "solver": [StrOptions({"exact", "nystroem", "fourier"})],
        "n_basis": [Interval(Integral, 1, None, closed="left")],
        "max_rounds": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "random_state": ["random_state"],
    }

    @property
    def _reads_sparse(self):
        if "_weights_" in vars(self):  # once it has support vectors, as these are
            return issparse(vars(self).get("support_vectors_"))
        named = isinstance(self.kernel, str) and self.kernel != "precomputed"
        return self.solver == "exact" and named and self.device in ("auto", "cpu")

    def _check_parameters(self, X):
        if self.solver == "fourier" and self.kernel != "rbf":
            raise ValueError(
                f"solver='fourier' needs kernel='rbf', not kernel={self.kernel!r}."
            )
        if self.kernel == "precomputed":
            if self.solver == "nystroem":
                raise ValueError(
                    "solver='nystroem' needs the rows themselves, not "
                    "kernel='precomputed'."
                )
            if X.shape[0] != X.shape[1]:
                raise ValueError(
                    "kernel='precomputed' needs the square kernel matrix of the "
                    f"training rows (X has shape {tuple(X.shape)})."
                )

    def _fit_work(self, X):
        n, d = X.shape
        return n * d * (self.nu * n if self.solver == "exact" else self.n_basis)

    def _fit(self, X, y, sample_weight=None):
        weights = sample_weight
        self._centre_ = mean_row(X, weights)
        self.gamma_ = scale_gamma(self.gamma, X, self._centre_, weights)
        self._middle_ = None if issparse(X) else middle(X)
        if self.solver == "exact":
            self._fit_exact(X, weights)
        elif self.solver == "nystroem":
            self._fit_landmarks(X, weights)
        else:
            self._fit_waves(X, weights)
        if callable(self.kernel):
            rows = to_numpy(X)
            if weights is None:
                self._median_ = np.median(rows, axis=0)
            else:
                medians = [weighted_quantile(column, 0.5, weights) for column in rows.T]
                self._median_ = np.array(medians, dtype=rows.dtype)

    @property
    def n_iter_(self):
        """The rounds of the solver, by scikit-learn's name."""
        return self.n_rounds_

    def _kernel(self):
        if self.kernel == "precomputed" or callable(self.kernel):
            return self.kernel
        centre = self._centre_ if self._middle_ is None else self._middle_
        return Kernel(self.kernel, self.gamma_, self.degree, self.coef0, centre)

    # What distances are relative to; files of 0.1 have them relative to the mean.
    _middle_ = None

    def _solve(self, gram, n, high):
        """Return the weights (n,) up to `high` (None is 1), and set the threshold."""
        low, high = np.zeros(n), np.ones(n) if high is None else high
        total = self.nu * high.sum()
        weights, scores, self.n_rounds_ = minimise(
            gram,
            np.zeros(n),
            low,
            high,
            total,
            self.tol * kernel_scale(gram, n) * min(1.0, total),
            steps=lambda rounds: self._steps(rounds, "round", None),
            max_rounds=self.max_rounds,
        )
        self.intercept_ = np.array([-threshold(scores, weights, low, high)])
        exact = self.solver == "exact" and self.kernel == "rbf"
        self._solved_ = -scores if exact and self.n_rounds_ <= _FEW_ROUNDS else None
        return weights

    def _fit_exact(self, X, high):
        weights = self._solve(gram_matrix(self._kernel(), X), X.shape[0], high)
        self.support_ = np.flatnonzero(weights)
        self.n_support_ = np.array([len(self.support_)], dtype=np.int32)
        self.dual_coef_ = weights[self.support_][None, :]
        vectors = self.support_
        if self.kernel != "precomputed":
            vectors = X[like(self.support_, X, dtype="keep")]
            self.support_vectors_ = vectors
        self._basis_, self._weights_ = expansion(
            self._kernel(), vectors, self.dual_coef_[0]
        )
        if self.kernel == "linear":
            self.coef_ = self._basis_.T

    def _fit_landmarks(self, X, high):
        n, rng = X.shape[0], generator(self.random_state)
        if high is None:
            rows = rng.permutation(n)[: self.n_basis]
        else:
            size = min(n, self.n_basis)
            rows = rng.choice(n, size, replace=False, p=high / high.sum())
        rows = np.sort(rows)
        self.landmarks_ = X[like(rows, X, dtype="keep")]
        kernel = self._kernel()
        columns = kernel_columns(kernel, X, self.landmarks_)  # (n, m)
        square = to_numpy(kernel_columns(kernel, *[to_double(self.landmarks_)] * 2))
        precision = float(namespace(X).finfo(X.dtype).eps)
        metric = pseudo_inverse(square, max(1e-10, 100 * precision))
        gram = LinearGram(columns, metric)
        weights = self._solve(gram, n, high)
        support = np.flatnonzero(weights)
        self.landmark_coef_ = gram.combine(support, weights[support])
        self._basis_, self._weights_ = expansion(
            kernel, self.landmarks_, self.landmark_coef_
        )

    def _fit_waves(self, X, high):
        n, d = X.shape
        rng = generator(self.random_state)
        frequencies = rng.normal(size=(self.n_basis, d)) * (2 * self.gamma_) ** 0.5
        self.frequencies_ = like(frequencies, X)
        scale = self.n_basis**-0.5
        columns = wave_columns(X - like(self._centre_, X), self.frequencies_)
        columns *= scale
        gram = LinearGram(columns)
        weights = self._solve(gram, n, high)
        support = np.flatnonzero(weights)
        normal = gram.combine(support, weights[support])
        self.wave_coef_ = (scale * normal).reshape(2, -1)

    def _fit_offset(self, X, y, anomaly, **params):
        if self.solver == "fourier":
            error = rounding(X, self.wave_coef_)
        else:
            exact = self.solver == "exact"
            weights = self.dual_coef_ if exact else self.landmark_coef_
            error = rounding(X, weights, self._kernel())
        anomaly = self._solved_ if X.dtype == np.float64 else None
        if anomaly is None:
            anomaly = to_numpy(self._in_blocks(self._anomaly, X))
        del self._solved_
        warn_of_equal_scores(self, anomaly)
        offset = inside(-float(self.intercept_[0]), anomaly, self.nu, 2 * error)
        self.intercept_ = np.array([-offset])
        return offset

    def _anomaly(self, X):
        if self.solver == "fourier":
            rows = X - like(self._centre_, X)
            return -waves(rows, like(self.frequencies_, X), like(self.wave_coef_, X))
        name = "landmarks_" if self.solver == "nystroem" else "support_vectors_"
        vectors = getattr(self, name, None)  # none for a precomputed kernel
        anomaly = -expand(
            self._kernel(),
            to_numpy(X) if issparse(vectors) and is_torch(X) else X,
            vectors,
            self._basis_,
            self._weights_,
        )
        return like(anomaly, X, "keep")

    def _map(self, X):
        kernel = self._kernel()
        if kernel == "precomputed":
            weights = np.zeros(X.shape[1])
            weights[self.support_] = self.dual_coef_[0]
            return -X * like(weights, X)
        if callable(self.kernel):
            return ablation(self._anomaly, to_numpy(X), self._median_)
        if self.solver == "fourier":
            rows = X - like(self._centre_, X)
            return -wave_relevance(rows, self.frequencies_, self.wave_coef_)
        if self.solver == "nystroem":
            vectors, weights = self.landmarks_, self.landmark_coef_
        else:
            vectors, weights = self.support_vectors_, self.dual_coef_[0]
        X, vectors = dense_rows(self, X), dense_rows(self, vectors)
        vectors, weights = like(vectors, X), like(weights, X)
        if kernel.name != "rbf":
            return -X * gradient(kernel, X, vectors, weights)
        if self.solver == "nystroem":
            return -path_relevance(X, self._centre_, vectors, weights, self.gamma_)
        return outlier_relevance(X, vectors, weights, self.gamma_, kernel.centre)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        return tags

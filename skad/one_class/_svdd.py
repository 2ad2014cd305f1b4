"""Support vector data description."""

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np

from skad._ablation import ablation
from skad._array import like, namespace, to_double, to_numpy
from skad._distances import middle
from skad._fit_parameters import OutliersMixin
from skad._labels import check_labels, label_column, need_normal
from skad._limits import warn_of_equal_scores
from skad._moments import mean_row
from skad._parameters import KW_ONLY, absent, with_parameters
from skad._sklearn import Interval, StrOptions
from skad.base import BaseDetector
from skad.one_class._dual import inside, kernel_scale, minimise, rounding, threshold
from skad.one_class._grams import gram_matrix
from skad.one_class._kernels import (
    Kernel,
    expand,
    expansion,
    scale_gamma,
    self_kernel,
)
from skad.one_class._relevance import (
    gradient,
    outlier_relevance,
    path_relevance,
    self_gradient,
)


@with_parameters(kw_only=False)
class SVDD(OutliersMixin, BaseDetector):
    r"""Rows outside the smallest sphere around most of the data, in a kernel's space.

    The sphere with centre :math:`c` and radius :math:`R` minimises :math:`R^2 + C
    \sum_i \xi_i + C_- \sum_l \xi_l`, where a normal row may be outside by
    :math:`\xi_i` and a known anomaly inside by :math:`\xi_l`. The centre is
    :math:`\sum_j \alpha_j \phi(x_j)`, with negative :math:`\alpha_j` for known
    anomalies, and the anomaly is the squared distance to it:

    .. math:: a(x) = \|\phi(x) - c\|^2
        = k(x, x) - 2 \sum_j \alpha_j k(x_j, x) + \|c\|^2.

    ``score_samples`` is :math:`-a` and the threshold is :math:`-R^2`.

    The map depends on the kernel. For "linear" it is :math:`(x_i - c_i)^2`, with the
    sum :math:`a(x)`. For "rbf" it is the deep Taylor decomposition of :math:`-\log
    (\sum_j \alpha_j k(x_j, x) / \sum_j \alpha_j)` [2]_, which grows with :math:`a`:
    never negative, its sum is this outlier score. With a known anomaly among the
    support vectors that logarithm need not exist; the map is then the integrated
    gradient [3]_ from the mean training row, in closed form, whose sum is the anomaly
    less that of the mean row. For "poly" and "sigmoid" it is gradient times input; for
    "precomputed" the term of each training row, :math:`-2 \alpha_j k(x_j, x)`; for a
    callable, what the anomaly loses when one feature is set to its training median.

    Read more in the :ref:`User Guide <one_class>`.

    Parameters
    ----------
    kernel : {"rbf", "linear", "poly", "sigmoid", "precomputed"} or callable, \
            default="rbf"
        :math:`k`: :math:`e^{-\gamma \|x - y\|^2}`, :math:`x^T y`, :math:`(\gamma x^T y
        + c)^p` or :math:`\tanh(\gamma x^T y + c)`. For "precomputed", `X` is the kernel
        matrix of the training rows in `fit`, and of the given and all training rows
        elsewhere; its diagonal must be constant, because new rows come without theirs.
        A callable takes two NumPy arrays and returns their kernel matrix.
    gamma : {"scale", "auto"} or float, default="scale"
        :math:`\gamma`, above 0; "scale" is ``1 / (n_features * X.var())``, "auto" is
        ``1 / n_features``.
    degree : int, default=3
        :math:`p` of "poly".
    coef0 : float, default=0.0
        :math:`c` of "poly" and "sigmoid".
    nu : float, default=0.1
        In (0, 1]; :math:`C = 1 / (\nu n)` with n normal rows. Without known anomalies
        at most this share of the training rows is outside. From :math:`\nu n \le 1` on
        no row may be: the smallest enclosing sphere.
    anomaly_cost : float, default=1.0
        :math:`C_- / C`: the cost of a known anomaly inside the sphere, in units of
        that of a normal row outside.
    tol : float, default=1e-4
        Largest violation of the optimality conditions, relative to the median of
        :math:`k(x, x)`.
    max_rounds : int, default=1000
        Rounds of the solver before it gives up with a ConvergenceWarning.
    device : str, default="auto"
        Where kernel values are computed: "auto" is a tensor's own device, and for other
        input a CUDA device where there is one and the work repays the trip; or
        PyTorch's name of a device.

    Attributes
    ----------
    support_ : ndarray of shape (n_support,)
        Numbers of the training rows with :math:`\alpha_j \ne 0`.
    support_vectors_ : ndarray of shape (n_support, n_features)
        These rows; not for a precomputed kernel.
    dual_coef_ : ndarray of shape (1, n_support)
        Their :math:`\alpha_j`, whose sum is 1: the centre in the kernel's space.
    center_ : ndarray of shape (n_features,)
        The centre :math:`c`; for the linear kernel.
    radius_ : float
        :math:`R`.
    gamma_ : float
        The value of :math:`\gamma`.
    n_rounds_ : int
        Rounds that the solver took.
    device_ : str
        Where `fit` computed.

    See Also
    --------
    OneClassSVM : A hyperplane instead of a sphere, and approximations for many rows.

    Notes
    -----
    In `y`, -1 marks a known anomaly; 1 (normal) and 0 (unlabelled) count alike, and any
    other label counts as unlabelled, with a warning. At least one row must not be -1.

    Without known anomalies and with the rbf kernel, :math:`\alpha` is that of
    `OneClassSVM` divided by :math:`\nu n`, and the score is its score times :math:`2 /
    (\nu n)` less a constant. The dual problem, equations (11) and (22) of [1]_, is
    solved in the same way: with s support vectors `fit` takes O(n s d) and a few rounds
    more, scoring O(s d) a row. With known anomalies the problem of :math:`R^2` has the
    lower bound 0: where the costs make the sphere vanish, `radius_` is 0. Without known
    anomalies `radius_` is enlarged by what rounding needs, so that no more than the
    share `nu` is outside, however the training rows are split when they are scored.

    Of new normal rows more are outside than `nu` says: learned from half of the normal
    rows of ten tables of ADBench, the default has .09 to .34 of the others outside, .16
    in the mean, the most where there are few rows, and ``nu=0.05`` .14.
    ``QuantileThreshold(SVDD())`` takes the threshold from rows that were left out: .04.

    References
    ----------
    .. [1] D. M. J. Tax and R. P. W. Duin, "Support vector data description", Machine
       Learning, 2004, sections 2.1 to 2.3.
    .. [2] J. Kauffmann, K.-R. Mueller and G. Montavon, "Towards explaining anomalies: a
       deep Taylor decomposition of one-class models", Pattern Recognition, 2020.
    .. [3] M. Sundararajan, A. Taly and Q. Yan, "Axiomatic attribution for deep
       networks", ICML, 2017.

    Examples
    --------
    >>> from skad.one_class import SVDD
    >>> X = [[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0], [1.0, 1.5]]
    >>> detector = SVDD(kernel="linear", nu=0.1).fit(X)
    >>> detector.center_.round(2), round(detector.radius_, 2)
    (array([1., 1.]), 1.41)
    >>> detector.predict([[1.0, 0.0], [4.0, 1.0]])
    array([ 1, -1])
    >>> detector.transform([[4.0, 1.0]]).round(2)
    array([[9., 0.]])
    """

    kernel: str | Callable = "rbf"
    _: KW_ONLY
    gamma: str | float = "scale"
    degree: int = 3
    coef0: float = 0.0
    nu: float = 0.1
    anomaly_cost: float = 1.0
    tol: float = 0.0001
    max_rounds: int = 1000
    device: str = "auto"

    # the optimum has a threshold of its own
    contamination: Any = absent()
    false_alarm_rate: Any = absent()
    _honesty = "its own"
    _hiding_times = 1e5
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
        "anomaly_cost": [Interval(Real, 0, None, closed="neither")],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_rounds": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
    }

    def _check_parameters(self, X):
        if self.kernel == "precomputed" and X.shape[0] != X.shape[1]:
            raise ValueError(
                "kernel='precomputed' needs the square kernel matrix of the training "
                f"rows (X has shape {tuple(X.shape)})."
            )

    def _fit_work(self, X):
        return X.shape[0] * X.shape[1] * self.nu * X.shape[0]

    def _kernel(self):
        if self.kernel == "precomputed" or callable(self.kernel):
            return self.kernel
        centre = self._centre_ if self._middle_ is None else self._middle_
        return Kernel(self.kernel, self.gamma_, self.degree, self.coef0, centre)

    # What distances are relative to; files of 0.1 have them relative to the mean.
    _middle_ = None

    def _fit(self, X, y):
        n = X.shape[0]
        known = np.zeros(n, dtype=bool)
        if y is not None:
            labels = check_labels(y, n)
            need_normal(self, labels)
            known = labels == -1
        self._centre_, self._middle_ = mean_row(X), middle(X)
        self.gamma_ = scale_gamma(self.gamma, X, self._centre_)
        kernel = self._kernel()
        # a shift moves the sphere of the linear kernel along: shift to keep the digits
        rows = X - like(self._centre_, X) if self.kernel == "linear" else X
        gram = gram_matrix(kernel, rows)
        diagonal = gram.diagonal()
        if kernel == "precomputed" and np.ptp(diagonal) > 1e-6 * np.abs(diagonal).max():
            raise ValueError(
                "kernel='precomputed' needs a matrix with a constant diagonal; this "
                f"one's goes from {diagonal.min():.3g} to {diagonal.max():.3g}."
            )

        # solved for beta = total * alpha: as large as in the one-class SVM
        inverse_cost = self.nu * (n - known.sum())
        total = max(1.0, inverse_cost)
        cost = total / inverse_cost
        low = np.where(known, -float(self.anomaly_cost) * cost, 0.0)
        high = np.where(known, 0.0, cost)
        beta, slope, self.n_rounds_ = minimise(
            gram,
            -total / 2 * diagonal,
            low,
            high,
            total,
            self.tol * kernel_scale(gram, n),
            steps=lambda rounds: self._steps(rounds, "round", None),
            max_rounds=self.max_rounds,
        )
        # slope = K beta - total / 2 diagonal = total / 2 (|c|^2 - squared distance)
        spread = beta @ (slope + total / 2 * diagonal) / total**2
        rho = threshold(slope, beta, low, high)
        self.radius_ = float(max(spread - 2 / total * rho, 0.0)) ** 0.5

        self.support_ = np.flatnonzero(beta)
        self.dual_coef_ = beta[self.support_][None, :] / total
        self._constant_ = float(spread)
        vectors = self.support_
        if kernel == "precomputed":
            self._diagonal_ = float(diagonal.mean())
        else:
            vectors = X[like(self.support_, X, dtype="keep")]
            self.support_vectors_ = vectors
        self._basis_, self._weights_ = expansion(kernel, vectors, self.dual_coef_[0])
        if self.kernel == "linear":
            self.center_ = self._basis_[:, 0]
        if callable(self.kernel):
            self._median_ = np.median(to_numpy(X), axis=0)

    def _fit_offset(self, X, y, anomaly, **params):
        if y is None or not np.any(label_column(y, X.shape[0]) == -1):
            anomaly = self._in_blocks(self._anomaly, X)
            warn_of_equal_scores(self, to_numpy(anomaly))
            if self.kernel == "linear":  # a sum of squares
                error = rounding(X, anomaly.max())
            else:
                error = 4 * rounding(X, self.dual_coef_, self._kernel())
            offset = inside(-(self.radius_**2), anomaly, self.nu, error)
            self.radius_ = max(-offset, 0.0) ** 0.5
        return -(self.radius_**2)

    def _anomaly(self, X):
        kernel = self._kernel()
        if self.kernel == "linear":
            return namespace(X).sum(to_double(self._map(X)), axis=1)
        if kernel == "precomputed":
            own = self._diagonal_
        else:
            own = to_double(self_kernel(kernel, X))
        vectors = getattr(self, "support_vectors_", None)  # none if precomputed
        sums = expand(kernel, X, vectors, self._basis_, self._weights_)
        return own - 2 * sums + self._constant_

    def _map(self, X):
        kernel = self._kernel()
        if kernel == "precomputed":
            weights = np.zeros(X.shape[1])
            weights[self.support_] = self.dual_coef_[0]
            return -2 * X * like(weights, X)
        if callable(self.kernel):
            return ablation(self._anomaly, to_numpy(X), self._median_)
        if self.kernel == "linear":
            return (X - like(self.center_, X)) ** 2
        vectors = like(self.support_vectors_, X)
        weights = like(self.dual_coef_[0], X)
        if kernel.name != "rbf":
            slope = gradient(kernel, X, vectors, weights)
            return X * (self_gradient(kernel, X) - 2 * slope)
        if self.dual_coef_.min() < 0:
            return -2 * path_relevance(X, self._centre_, vectors, weights, self.gamma_)
        return outlier_relevance(X, vectors, weights, self.gamma_, kernel.centre)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        return tags

"""Gaussian mixture density of the training data."""

import warnings
from math import log, pi
from numbers import Integral, Real

import numpy as np
from sklearn import config_context

from skad._array import like, namespace, to_double, to_numpy
from skad._left_out import LeftOutMixin
from skad._moments import mean_and_deviation
from skad._parameters import KW_ONLY, with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval, StrOptions
from skad.base import BaseDetector
from skad.density._mixture import Mixture

# Smallest eigenvalue of correlations from which their root keeps its digits.
_INDEPENDENT = 1e-4


def corr_max(precision_cholesky):
    r"""Return :math:`W^T` for :math:`W = P^{-1/2} V^{-1/2}` of each component.

    With `L` the Cholesky factor of the precision, :math:`\Sigma^{-1} = L L^T`, and
    :math:`L^T V^{1/2} = U S T^T`, the symmetric root is :math:`P^{-1/2} = T S T^T`:
    the squares of `W (x - mu)` add up to those of `L^T (x - mu)` to rounding, however
    badly conditioned the covariance is. One row per component and feature, (k, d),
    stands for diagonal matrices.
    """
    if precision_cholesky.ndim < 3:
        return precision_cholesky
    inverse = np.linalg.inv(precision_cholesky)  # Sigma = inverse.T @ inverse
    deviation = np.sqrt(np.sum(inverse**2, axis=1))  # (k, d)
    scaled = inverse / deviation[:, None, :]
    values, right = np.linalg.eigh(np.swapaxes(scaled, 1, 2) @ scaled)  # of P
    if values.min() > _INDEPENDENT:
        roots, right = values**-0.5, np.swapaxes(right, 1, 2)
    else:  # digits would be lost
        _, roots, right = np.linalg.svd(
            np.swapaxes(precision_cholesky, 1, 2) * deviation[:, None, :]
        )
    root = np.swapaxes(right, 1, 2) * roots[:, None, :] @ right  # (k, d, d), symmetric
    return root / deviation[:, :, None]


def log_sum_exp(terms):
    """Return the logarithm of the sum over axis 0 of the exponentials of `terms`."""
    xp = namespace(terms)
    largest = xp.max(terms, axis=0)
    return largest + xp.log(xp.sum(xp.exp(terms - largest), axis=0))


@with_parameters(kw_only=False)
class GMM(LeftOutMixin, BaseDetector):
    r"""Rows where a mixture of Gaussians has low density.

    Normal rows come from :math:`k` Gaussian clouds with weights :math:`\pi_j`, means
    :math:`\mu_j` and covariances :math:`\Sigma_j`, fitted by expectation maximisation.
    The anomaly is the negative logarithm of their density [1]_,

    .. math:: a(x) = -\log \sum_j \pi_j \, N(x; \mu_j, \Sigma_j),

    so that ``score_samples`` is the log density, as scikit-learn's. The map is

    .. math:: m_i(x) = \tfrac12 \sum_j r_j \, w_{ji}(x)^2, \qquad
        w_j = P_j^{-1/2} V_j^{-1/2} (x - \mu_j),

    with the responsibilities :math:`r_j` of the clouds for the row and, within each,
    the partition of Garthwaite and Koch [2]_ (:math:`V_j` the diagonal and :math:`P_j`
    the correlation of :math:`\Sigma_j`). With one cloud it sums to the score up to a
    constant, :math:`\sum_i m_i(x) = a(x) - a(\mu)`. With several it is a relevance:
    :math:`\sum_i m_i(x) = a(x) + H(r) - \sum_j r_j (\tfrac12 \log |2 \pi \Sigma_j| -
    \log \pi_j)` with the entropy :math:`H(r)`.

    Read more in the :ref:`User Guide <density>`.

    Parameters
    ----------
    n_components : int, default=1
        Number of clouds :math:`k`, at most the number of rows.
    covariance_type : {"full", "tied", "diag", "spherical"}, default="full"
        A covariance per cloud; one for all; a diagonal per cloud; a multiple of the
        identity per cloud.
    tol : float, default=1e-3
        EM stops when the mean log density grows by less.
    reg_covar : float, default=1e-6
        Added to the variances, in squared units of the features.
    max_iter : int, default=100
        Number of EM iterations at most.
    n_init : int, default=1
        Number of starts, of which the best is kept.
    init_params : {"kmeans", "k-means++", "random", "random_from_data"}, \
            default="kmeans"
        Where EM starts.
    random_state : int, RandomState instance or None, default=None
        Draws the starts. Pass an int for reproducible results.

    Attributes
    ----------
    mixture_ : sklearn.mixture.GaussianMixture
        The fitted mixture, with its ``weights_``, ``means_``, ``covariances_``.
    n_iter_ : int
        EM iterations of the best start.

    See Also
    --------
    Mahalanobis : One cloud, with robust and shrunk covariances and without `reg_covar`.
    KDE : A cloud around every training row.

    Notes
    -----
    ``contamination="auto"`` takes each training row out of the clouds in proportion to
    its responsibilities, as if EM had ended there: exactly, but for `reg_covar`, with
    one cloud.

    With two clouds or more a stray training row may get a cloud for itself, and then
    counts as most normal: of 1 to 3 rows made stray in each of ten tables of ADBench a
    third did with two clouds, nine of ten with five, and none with one. A warning says
    so. Other rows suffer less: half of the normal rows learned from, standardised, the
    mean ROC AUC falls from 0.925 to 0.905 with one stray row and two clouds.

    The fit is scikit-learn's, in double precision on the host: O(n k d^2 + k d^3) an
    iteration with full covariances. Scoring costs O(k d^2) a row and runs where `X`
    lives.

    References
    ----------
    .. [1] C. M. Bishop, "Novelty detection and neural network validation", IEE
       Proceedings: Vision, Image and Signal Processing, 1994.
    .. [2] P. H. Garthwaite and I. Koch, "Evaluating the contributions of individual
       variables to a quadratic form", Australian & New Zealand Journal of Statistics,
       2016, equation (4) (the corr-max transformation).

    Examples
    --------
    >>> from skad.density import GMM
    >>> X = [[0.0], [0.2], [0.4], [9.0], [9.2], [9.4], [5.0]]
    >>> detector = GMM(n_components=2, covariance_type="tied", contamination=0.15,
    ...                random_state=0).fit(X)
    >>> detector.predict(X)
    array([ 1,  1,  1,  1,  1,  1, -1])
    >>> detector.score_samples([[0.2], [4.0]]).round(2)
    array([-2.1 , -5.23])
    """

    n_components: int = 1
    _: KW_ONLY
    covariance_type: str = "full"
    tol: float = 0.001
    reg_covar: float = 1e-06
    max_iter: int = 100
    n_init: int = 1
    init_params: str = "kmeans"
    random_state: Seed = None

    _parameter_constraints = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "covariance_type": [StrOptions({"full", "tied", "diag", "spherical"})],
        "tol": [Interval(Real, 0, None, closed="left")],
        "reg_covar": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_init": [Interval(Integral, 1, None, closed="left")],
        "init_params": [
            StrOptions({"kmeans", "k-means++", "random", "random_from_data"})
        ],
        "random_state": ["random_state"],
    }

    def _check_parameters(self, X):
        if self.n_components > X.shape[0]:
            raise ValueError(
                f"n_components={self.n_components} must be at most "
                f"n_samples={X.shape[0]}."
            )

    def _row_elements(self):
        return 3 * self.n_components * self.n_features_in_

    def _fit(self, X, y):
        mixture = Mixture(
            n_components=self.n_components,
            covariance_type=self.covariance_type,
            tol=self.tol,
            reg_covar=self.reg_covar,
            max_iter=self.max_iter,
            n_init=self.n_init,
            init_params=self.init_params,
            random_state=generator(self.random_state),
        )
        with config_context(array_api_dispatch=False):  # which knows no k-means
            rows = to_double(to_numpy(X))
            mixture.fit(rows)
        self._warn_of_what_is_hidden(rows)
        self._warn_of_rows_alone(mixture.weights_, rows)
        mixture = mixture.plain()
        self.mixture_, self.n_iter_ = mixture, mixture.n_iter_
        self._n_rows_ = X.shape[0]
        factors = mixture.precisions_cholesky_
        if self.covariance_type == "tied":
            factors = factors[None]
        elif self.covariance_type == "spherical":
            factors = np.repeat(factors[:, None], X.shape[1], axis=1)
        diagonal = factors if factors.ndim == 2 else np.diagonal(factors, 0, 1, 2)
        self._whitening_ = corr_max(factors)
        self._log_height_ = (  # of each weighted cloud at its mean, (k,)
            np.log(mixture.weights_)
            + np.sum(np.log(diagonal), axis=1)
            - X.shape[1] / 2 * log(2 * pi)
        )

    def _warn_of_what_is_hidden(self, X):
        """Warn of a feature that varies by less than what is added to variances."""
        if self._is_copy:
            return
        _, deviation = mean_and_deviation(X)  # 1 of what is constant
        worst = int(deviation.argmin())
        if deviation[worst] ** 2 < self.reg_covar:
            feature = getattr(self, "feature_names_in_", range(X.shape[1]))[worst]
            warnings.warn(
                f"Feature {feature!r} has a variance of {deviation[worst] ** 2:.3g}, "
                f"less than reg_covar={self.reg_covar:.3g}, which is added to it: "
                "scale the features (StandardScaler) or lower reg_covar.",
                stacklevel=5,
            )

    def _warn_of_rows_alone(self, weights, X):
        """Warn of a cloud of so few rows that `reg_covar` alone gives it a width."""
        n, d = X.shape
        least = n * weights.min()
        held = d if self.covariance_type == "full" else 1
        if self._is_copy or self.n_components == 1 or least > held + 0.5:
            return
        warnings.warn(
            f"The mixture has a cloud with about {least:.1f} of the training rows: "
            "what it is around, stray rows perhaps, counts as most normal. Take fewer "
            "n_components, leave stray rows out, or take a detector that lets them be, "
            "such as IsolationForest or KNN.",
            stacklevel=5,
        )

    def _clouds(self, X):
        """Return squared whitened deviations (k, b, d) and log densities (k, b)."""
        xp = namespace(X)
        centred = X[None] - like(self.mixture_.means_, X)[:, None, :]
        whitening = like(self._whitening_, X)
        if whitening.ndim == 2:
            white = centred * whitening[:, None, :]
        else:
            white = centred @ whitening
        white = white * white
        height = like(self._log_height_, X)[:, None]
        return white, height - xp.sum(white, axis=2) / 2

    def _distances(self, X):
        """Return the sums of squared whitened deviations and log densities (k, b)."""
        xp, whitening = namespace(X), like(self._whitening_, X)
        heights, squares = like(self._log_height_, X), []
        shape = heights.shape[0], *whitening.shape[1:]
        whitening = xp.broadcast_to(whitening, shape)  # one for all if "tied"
        # one cloud after the other: deviations from all do not stay in the cache
        for mean, own in zip(like(self.mixture_.means_, X), whitening, strict=True):
            white = (X - mean) * own if own.ndim == 1 else (X - mean) @ own
            squares.append(xp.vecdot(white, white))
        squares = xp.stack(squares)
        return squares, heights[:, None] - squares / 2

    def _anomaly(self, X):
        return -log_sum_exp(self._distances(X)[1])

    def _left_out(self, X):
        r"""Return the anomaly (b,) of training rows, each without itself.

        A row :math:`\mu_j + c` with responsibility :math:`r` leaves a cloud of
        :math:`N` rows with the mean :math:`\mu_j - c r / (N - r)` and the scatter less
        :math:`c c^T r N / (N - r)`, one rank, or one value a feature. The other
        responsibilities stay, as if EM had ended there.
        """
        xp = namespace(X)
        n, d = self._n_rows_, X.shape[1]
        if self.covariance_type in ("full", "tied"):
            white, logs = self._distances(to_double(X))
            white = white[:, :, None]
        else:
            white, logs = self._clouds(to_double(X))
        share = xp.exp(logs - log_sum_exp(logs))  # responsibilities (k, b)
        size = n * like(self.mixture_.weights_, white)[:, None]  # N
        rest = size - share
        emptied = rest < 1e-9 * size  # the cloud was this row's alone
        rest = xp.where(emptied, 1.0, rest)
        before, after = size, rest  # rows that the covariance is a mean over
        if self.covariance_type == "tied":
            before, after = xp.zeros_like(size) + n, xp.zeros_like(rest) + n - 1
        if self.covariance_type == "spherical":
            white = xp.mean(white, axis=2, keepdims=True)
        lever = (share * size / rest / before)[:, :, None]
        left = xp.clip(1 - lever * white, 1e-12, None)  # (k, b, 1) or (k, b, d)
        times = d if self.covariance_type == "spherical" else 1
        gain = (size / rest) ** 2 * (after / before)
        distance = gain * times * xp.sum(white / left, axis=2)
        volume = d * xp.log(before / after) + times * xp.sum(xp.log(left), axis=2)
        height = like(self._log_height_, white)[:, None] + xp.log(
            rest / size * (n / (n - 1))
        )
        logs = height - (volume + distance) / 2
        return -log_sum_exp(xp.where(emptied, -xp.inf, logs))

    def _map(self, X):
        xp = namespace(X)
        white, logs = self._clouds(X)
        shares = xp.exp(logs - log_sum_exp(logs))  # responsibilities (k, b)
        return xp.sum(white * shares[:, :, None], axis=0) / 2

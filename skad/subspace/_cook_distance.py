"""Cook's distance: rows that would move the regressions of features on the others."""

from numbers import Real

import numpy as np

from skad._array import row_sums, to_double, to_numpy
from skad._left_out import LeftOutMixin
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval
from skad.base import BaseDetector


@with_parameters(kw_only=False)
class CookDistance(LeftOutMixin, BaseDetector):
    r"""Rows that would move the regressions of features on each other.

    Each feature in turn is regressed, with an intercept, on the others, :math:`p = d`
    coefficients in all. Of a row with the residual :math:`e_j` and the leverage
    :math:`h_j` Cook's distance is how far all fitted values move when it is left out,

    .. math:: D_j = \frac{e_j^2}{p \, s_j^2} \frac{h_j}{(1 - h_j)^2},

    with the variance :math:`s_j^2` of the residuals on n - p degrees of freedom. The
    anomaly is the mean :math:`\frac1d \sum_j D_j` once the row is added to the
    training rows. ``score_samples`` is minus the mean, and the map has its terms.

    Read more in the :ref:`User Guide <subspace>`.

    Parameters
    ----------
    ridge : float, default=1e-10
        Added to the variances of the standardised features, so that features that
        others determine have a residual; above 0.

    Attributes
    ----------
    mean_, scale_ : ndarray of shape (n_features,)
        The features' means and standard deviations.
    precision_ : ndarray of shape (n_features, n_features)
        Inverse of the matrix of products of the standardised training rows.

    See Also
    --------
    skad.density.Mahalanobis : How far out a row is, whichever way.

    Notes
    -----
    `fit` costs O(n d^2 + d^3), scoring O(d^2) a row: all regressions have their
    residuals and leverages from one inverse. Scores do not change when single features
    are scaled or shifted. A value far out pulls at the regressions of all other
    features, whose terms the map has, more than at its own. A row is scored as if it
    were new: with the residual and the leverage of the training rows' regression,
    :math:`D = e^2 h / (p s^2 (1 + h))`, Cook's distance once the row is added.

    ``contamination="auto"`` takes each training row out of the regressions and of the
    variances, in closed form.

    PyOD's `CD` has no intercept, scales each batch by itself, and takes leverages
    from the rows that are scored.

    References
    ----------
    .. [1] R. D. Cook, "Detection of influential observation in linear regression",
       Technometrics, 1977.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.subspace import CookDistance
    >>> t = np.random.default_rng(0).normal(size=(200, 1))
    >>> X = t + 0.1 * np.random.default_rng(1).normal(size=(200, 3))
    >>> CookDistance().fit(X).predict([[2.0, 2.0, 2.0], [1.0, 1.0, -1.0]])
    array([ 1, -1])
    """

    ridge: float = 1e-10
    _: KW_ONLY

    _map_sums_to_score = True
    _ignores_units = True
    _parameter_constraints = {"ridge": [Interval(Real, 0, None, closed="neither")]}

    def _row_elements(self):
        return 6 * self.n_features_in_

    def _fit(self, X, y):
        rows = to_double(to_numpy(X))
        self._n_, d = rows.shape
        with np.errstate(over="ignore", invalid="ignore"):
            self.mean_ = rows.mean(axis=0)
            away = rows - self.mean_
            largest = np.abs(away).max(axis=0)
            unit = np.where(largest > 0, largest, 1.0)
            self.scale_ = unit * np.sqrt(((away / unit) ** 2).mean(axis=0))
        if not np.isfinite(self.scale_).all():
            raise ValueError(
                "X has values too large for CookDistance: their sum overflows. Scale "
                "the features (StandardScaler)."
            )
        # what varies by rounding alone is constant
        constant = self.scale_ <= 1e-12 * np.abs(self.mean_)
        self.scale_[constant | (self.scale_ == 0)] = 1.0
        self._varies_ = ~constant & (largest > 0)
        standard = self._standard(rows)
        scatter = standard.T @ standard
        scatter[np.diag_indices(d)] += self.ridge * self._n_
        self.precision_ = np.linalg.inv(scatter)

    def _standard(self, X):
        return (X - self.mean_) / self.scale_ * self._varies_

    def _parts(self, X):
        """Return squared residuals and leverages (b, d), of all regressions."""
        standard = self._standard(to_double(to_numpy(X)))
        pulled = np.stack([row_sums(standard * own) for own in self.precision_], axis=1)
        within = row_sums(standard * pulled)[:, None]
        own = np.diag(self.precision_)
        squares = (pulled / own) ** 2
        leverage = within - pulled**2 / own  # that of the other features alone
        return squares, np.maximum(leverage, 0) + 1 / self._n_

    def _freedom(self):
        return max(self._n_ - self.n_features_in_, 1)

    def _map(self, X):
        squares, leverage = self._parts(X)
        d = self.n_features_in_
        variance = 1 / np.diag(self.precision_) / self._freedom()
        return squares / (d * variance) * (leverage / (1 + leverage)) / d

    def _left_out(self, X):
        squares, leverage = self._parts(X)
        d, freedom = self.n_features_in_, self._freedom()
        rest = np.maximum(1 - leverage, 1e-10)
        whole = 1 / np.diag(self.precision_)
        # what the others leave over, never less than rounding
        left = np.maximum(whole - squares / rest, 1e-10 * whole)
        variance = left / max(freedom - 1, 1)
        return row_sums(squares / rest**2 * leverage / (d * variance)) / d

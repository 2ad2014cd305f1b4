"""Mahalanobis distance to the training data's mean."""

import warnings
from copy import deepcopy
from numbers import Integral, Real
from typing import Self

import numpy as np
from sklearn.covariance import ledoit_wolf
from sklearn.utils.metaestimators import available_if

from skad._array import like, namespace, to_double, to_numpy
from skad._cross_fitting import cross_fitted
from skad._incremental import IncrementalMixin
from skad._left_out import LeftOutMixin
from skad._moments import deviations, mean_row, merge_moments, moments
from skad._parameters import KW_ONLY, with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval, StrOptions, _fit_context
from skad._weights import SampleWeightMixin, weighted
from skad.base import BaseDetector
from skad.density._covariance import (
    TrustingCovariance,
    exact_whitening,
    least_scale,
    low_rank_whitening,
    rank,
    shrink_oas,
    weighted_ledoit_wolf,
)

# Features whose covariance takes minutes.
_MANY = 5000


@with_parameters(kw_only=False)
class Mahalanobis(IncrementalMixin, SampleWeightMixin, LeftOutMixin, BaseDetector):
    r"""Rows far from the mean, measured in the training data's own covariance.

    Normal rows are one Gaussian cloud with mean :math:`\mu` and covariance
    :math:`\Sigma`. The anomaly is the squared Mahalanobis distance

    .. math:: a(x) = (x - \mu)^T \Sigma^{-1} (x - \mu) = \sum_i w_i(x)^2,
        \qquad w = P^{-1/2} V^{-1/2} (x - \mu),

    where :math:`V` is the diagonal of :math:`\Sigma` and :math:`P` its correlation
    matrix. ``score_samples`` is :math:`-a`, and the map is :math:`w_i^2`, the partition
    of Garthwaite and Koch [2]_: never negative, independent of the features' units, and
    its sum is the squared distance.

    Read more in the :ref:`User Guide <density>`.

    Parameters
    ----------
    covariance : {"empirical", "ledoit_wolf", "oas", "mcd", "low_rank"}, \
            default="empirical"
        The estimate of :math:`\Sigma`: maximum likelihood; shrunk to a multiple of the
        identity by Ledoit and Wolf's or the oracle approximating formula, for few rows;
        the robust minimum covariance determinant, for training data with anomalies in
        it; `rank` factors plus a diagonal, for more features than rows (no
        ``d x d`` matrix is formed).
    rank : int, default=10
        Number of factors of ``covariance="low_rank"``, less than rows and features.
    support_fraction : float or None, default=None
        Share of rows that ``covariance="mcd"`` trusts; None is
        ``(n_samples + n_features + 1) / 2`` rows.
    tol : float, default=1e-12
        Eigenvalues of the correlation matrix below `tol` times the largest are raised
        to that, and a constant feature gets the deviation ``tol ** 0.5`` times its own
        size, so that a row that breaks an exact relation of the training rows is far
        from all of them.
    random_state : int, RandomState instance or None, default=None
        Draws the subsets of ``covariance="mcd"``. Pass an int for reproducible results.

    Attributes
    ----------
    location_ : ndarray of shape (n_features,)
        The mean :math:`\mu`, in float64.
    covariance_ : ndarray of shape (n_features, n_features)
        :math:`\Sigma`, in float64; not for ``covariance="low_rank"``.
    scatter_ : ndarray of shape (n_features, n_features)
        Sum of the outer products of the centred rows, for "empirical" and "oas": with
        `location_` and `n_samples_seen_` the statistics that `merge` adds up.
    n_samples_seen_ : int or float
        Training rows, or the sum of their weights.

    See Also
    --------
    GMM : Several Gaussian clouds.
    skad.subspace.PCAReconstruction : Distance to the directions of large variance.

    Notes
    -----
    Over 25 sources of standardized tables the empirical covariance and "mcd" are as
    good as each other, mean ROC AUC 0.737 and 0.736, "mcd" better where anomalies are
    learned from (0.729 against 0.720) and worse where they are not (0.743 against
    0.754); "oas" has 0.742, but changes with the units of the features, so that it is
    not the default (``benchmarks/results/defaults_mahalanobis.tsv``).

    Take "ledoit_wolf" or "oas" for standardised features and few rows. Over ten tables
    of ADBench with 6 to 36 features, of whose normal rows n were learned from, the mean
    ROC AUC of "empirical", "ledoit_wolf" and "oas" is 0.82, 0.86 and 0.85 for n = 10,
    0.87, 0.89 and 0.89 for n = 30 and 0.90 for all three from n = 100 on. Both are
    scikit-learn's estimates, "ledoit_wolf" with the weight from fourth moments of the
    rows, "oas", which `partial_fit` and `merge` keep up, with that of a Gaussian.

    ``contamination="auto"`` takes each row out of the mean and the covariance by a
    formula of rank 1: exactly for "empirical"; with the weight and the target of the
    shrinkage kept for "ledoit_wolf" and "oas"; for "mcd" out of the rows that it
    trusts, which stay the same. Of new rows of a Gaussian in 10 features .052 are then
    flagged with "mcd" and 100 training rows, .046 with 1,000. For "low_rank" copies are
    fitted without a part of the rows.

    `fit` costs O(n d^2 + d^3), scoring O(d^2) a row. Statistics are gathered in double
    precision whatever the dtype of `X`. The score does not change when features are
    shifted, nor when each is scaled by itself, but for "ledoit_wolf" and "oas", whose
    target is one variance for all features. Tensors are fitted and scored on their own
    device, except that "ledoit_wolf" and "mcd" are scikit-learn's estimates, fitted on
    the host.

    Training rows span a subspace where they are not more than its dimensions. There
    relations between features are no evidence and are left out, as in the
    pseudo-inverse; "ledoit_wolf", "oas" and "low_rank" have a variance for them. A row
    more is a dimension more there, and what the threshold is taken from lacks one: of
    new rows of a Gaussian in 40 features .36 are flagged with 10 training rows, .14
    with 20 and .18 with 39, of which `fit` warns; with "ledoit_wolf" .11, .10 and .08.

    `sample_weight` repeats rows in every estimate but "mcd", which trusts a subset of
    rows and refuses weights.

    References
    ----------
    .. [1] P. C. Mahalanobis, "On the generalised distance in statistics", Proceedings
       of the National Institute of Sciences of India, 1936.
    .. [2] P. H. Garthwaite and I. Koch, "Evaluating the contributions of individual
       variables to a quadratic form", Australian & New Zealand Journal of Statistics,
       2016, equation (4) (the corr-max transformation).
    .. [3] O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional
       covariance matrices", Journal of Multivariate Analysis, 2004.
    .. [4] Y. Chen et al., "Shrinkage algorithms for MMSE covariance estimation", IEEE
       Transactions on Signal Processing, 2010, equation (23).
    .. [5] P. J. Rousseeuw and K. van Driessen, "A fast algorithm for the minimum
       covariance determinant estimator", Technometrics, 1999.

    Examples
    --------
    >>> from skad.density import Mahalanobis
    >>> X = [[0.0, 0.0], [1.0, 1.1], [2.0, 1.9], [3.0, 3.0], [1.0, 3.0]]
    >>> detector = Mahalanobis(contamination=0.2).fit(X)
    >>> detector.predict(X)
    array([ 1,  1,  1,  1, -1])
    >>> detector.transform([[1.0, 3.0]]).round(2)
    array([[1.3 , 2.67]])
    """

    covariance: str = "empirical"
    _: KW_ONLY
    rank: int = 10
    support_fraction: float | None = None
    tol: float = 1e-12
    random_state: Seed = None

    _map_sums_to_score = True
    _ignores_units = True
    _parameter_constraints = {
        "covariance": [
            StrOptions({"empirical", "ledoit_wolf", "oas", "mcd", "low_rank"})
        ],
        "rank": [Interval(Integral, 1, None, closed="left")],
        "support_fraction": [Interval(Real, 0, 1, closed="right"), None],
        "tol": [Interval(Real, 0, 1, closed="left")],
        "random_state": ["random_state"],
    }

    @property
    def _hiding_times(self):
        return np.inf if self.covariance == "mcd" else 1e5

    def _is_mergeable(self):
        return self.covariance in ("empirical", "oas")

    @available_if(_is_mergeable)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, sample_weight=None) -> Self:
        """Add rows to what is known as normal.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            More training data, at least one row.
        y : array-like of shape (n_samples,), default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts.

        Returns
        -------
        self : object
            The fitted detector.
        """
        return self._go_on(X, y, **weighted(sample_weight))

    @available_if(_is_mergeable)
    def merge(self, other) -> Self:
        """Return a detector fitted on this one's and another's training rows.

        Parameters
        ----------
        other : Mahalanobis
            Fitted with the same parameters on other rows with the same features.

        Returns
        -------
        merged : Mahalanobis
            As if fitted on all the rows; its threshold comes from an even sample of
            them, as after `partial_fit`.
        """
        self._check_mergeable(other)
        merged = deepcopy(self)
        merged._set_moments(merge_moments(self._moments(), other._moments()))
        merged._merge_sample(other)
        return merged

    def _check_parameters(self, X):
        if self.covariance == "low_rank" and self.rank >= min(X.shape):
            raise ValueError(
                f"rank={self.rank} must be less than the number of rows and of "
                f"features (X has shape {tuple(X.shape)})."
            )
        d = X.shape[1]
        if self.covariance != "low_rank" and d > _MANY:
            warnings.warn(
                f"A covariance of {d} features, {d} x {d}, takes minutes and gigabytes:"
                " covariance='low_rank' takes seconds, and PCAReconstruction looks for "
                "what such features have in common.",
                stacklevel=6,
            )

    def _fit(self, X, y, sample_weight=None):
        weights = sample_weight
        total = X.shape[0] if weights is None else float(weights.sum())
        if self.covariance == "low_rank":
            self.n_samples_seen_, self.location_ = total, mean_row(X, weights)
            self._low_rank_ = low_rank_whitening(X, self.location_, self.rank, weights)
        elif self._is_mergeable():
            fresh = moments(X, weights)
            known = hasattr(self, "n_samples_seen_")
            self._set_moments(merge_moments(self._moments(), fresh) if known else fresh)
        else:
            rows, whole = to_double(to_numpy(X)), None
            self.n_samples_seen_ = total
            if self.covariance == "mcd":
                if weights is not None:
                    raise ValueError(
                        "covariance='mcd' trusts a subset of the rows, for which "
                        "sample_weight has no meaning: repeat the rows instead."
                    )
                whole = np.cov(rows, rowvar=False, bias=True).reshape(2 * X.shape[1:])
                # on one scale, as the estimate cuts off small eigenvalues; powers of
                # two round nothing
                deviation = np.sqrt(np.diagonal(whole))
                unit = np.exp2(np.rint(np.log2(np.where(deviation > 0, deviation, 1))))
                estimate = TrustingCovariance(
                    support_fraction=self.support_fraction,
                    random_state=generator(self.random_state),
                ).fit(rows / unit)
                self.location_ = estimate.location_ * unit
                covariance = estimate.covariance_ * np.outer(unit, unit)
                self._trusted_ = self._trust(estimate, rows / unit)
            else:
                self.location_ = np.average(rows, axis=0, weights=weights)
                # relative to the largest deviation, whose fourth power may overflow
                unit = np.abs(rows - self.location_).max() or 1.0
                rows = (rows - self.location_) / unit
                if weights is None:
                    scaled, self._shrinkage_ = ledoit_wolf(rows)
                else:
                    scaled, self._shrinkage_ = weighted_ledoit_wolf(rows, weights)
                covariance = scaled * unit**2
            # plain sums: their rounding grows with the number of rows
            self._set_covariance(covariance, total, whole)

    def _fit_blocks(self, blocks):
        if not self._is_mergeable():
            return super()._fit_blocks(blocks)
        self._set_moments(blocks.reduce(lambda _, X: moments(X), merge_moments))

    def _moments(self):
        return self.n_samples_seen_, self.location_, self.scatter_

    def _set_moments(self, moments):
        self.n_samples_seen_, self.location_, self.scatter_ = moments
        covariance, self._shrinkage_ = self.scatter_ / self.n_samples_seen_, 0.0
        if self.covariance == "oas":
            covariance, self._shrinkage_ = shrink_oas(covariance, self.n_samples_seen_)
        self._set_covariance(covariance)

    def _set_covariance(self, covariance, roundings=1, whole=None):
        """Learn from a covariance; `whole` is that of all rows, if it is of some."""
        self.covariance_ = covariance
        xp, freedom = namespace(covariance), self.n_samples_seen_ - 1
        scale = deviations(xp.linalg.diagonal(covariance), self.location_, roundings)
        if whole is not None:
            # what only the rows that "mcd" trusts have in common is no relation
            varies = deviations(np.diagonal(whole), self.location_, roundings)
            kept = rank(covariance, scale, self.tol)
            freedom = freedom if kept == rank(whole, varies, self.tol) else 0
            scale = np.where((scale <= 0) & (varies > 0), np.inf, scale)
        self._whitening_, exact, self._floor_ = exact_whitening(
            covariance, scale, self.location_, self.tol, freedom
        )
        self._has_exact_ = exact.shape[1] > 0

    def _trust(self, estimate, rows):
        """Return how many rows "mcd" trusts, its factor, and their largest distance."""
        trusted = rows[estimate.support_]
        variance = trusted.var(axis=0).sum()
        factor = np.trace(estimate.covariance_) / variance if variance > 0 else 1.0
        return len(trusted), factor, estimate.dist_[estimate.support_].max()

    def _honest_anomaly(self, X, y, anomaly, **params):
        if self.covariance == "low_rank":
            return cross_fitted(self, X, y, params, anomaly)
        n, d = self.n_samples_seen_, self.n_features_in_
        bare = self.covariance in ("empirical", "mcd")
        few = n <= d + 1 and np.isinf(self._floor_)
        if bare and few and not self._is_copy:
            warnings.warn(
                f"Mahalanobis learned from {n:g} rows of {d} features, so few that "
                "every new row opens a direction which no other has: more than "
                f"false_alarm_rate={self.false_alarm_rate} of new normal samples may "
                "fall below its threshold. covariance='ledoit_wolf' or 'oas' have a "
                "variance for all directions.",
                stacklevel=6,
            )
        return super()._honest_anomaly(X, y, anomaly, **params)

    def _left_out(self, X, once=1.0):
        r"""Return the anomaly (b,) of training rows, each without itself.

        Without a row :math:`\mu + c` the mean is :math:`\mu - c / (n - 1)` and the
        scatter lacks :math:`c c^T n / (n - 1)`, which Sherman and Morrison's formula
        takes out of the inverse; where the row counts :math:`w < 1`, with :math:`w / (n
        - w)` for :math:`1 / (n - 1)`. The weight and the target of shrinkage stay, and
        so do the rows that "mcd" trusts; the others have not been learned from.
        """
        xp = namespace(X)
        white = to_double(self._white(X))
        if self.covariance != "mcd":
            share = once / (self.n_samples_seen_ - once)
            return self._less_itself(white, share, self._shrinkage_)
        n, factor, largest = self._trusted_
        distance = xp.sum(white**2, axis=1)
        found = self._less_itself(factor**0.5 * white, 1 / (n - 1)) / factor
        return xp.where(distance <= largest, found, distance)

    def _less_itself(self, white, share, weight=0.0):
        """Return what `_left_out` does from whitened rows (b, d).

        `share` is how much each counts beside all others, one number or (b,).
        """
        xp = namespace(white)
        distance = xp.sum(white**2, axis=1) / (1 + (1 - weight) * share)
        left = 1 - (1 - weight) * (1 + share) * share * distance
        alone = left < 1e-9
        found = (1 + share) * distance / xp.where(alone, 1.0, left)
        if xp.any(alone):
            own = share if np.ndim(share) == 0 else like(share, white)[alone]
            found[alone] = self._without_direction(white[alone], own)
        return (1 + share) * found

    def _without_direction(self, white, share):
        """Return the anomaly of rows that make up a direction, without it (Meyer 1973).

        `white` are the whitened rows (b, d). What a row has in its direction, in which
        no other row varies, counts as a broken relation.
        """
        xp = namespace(white)
        scale = xp.sqrt(xp.linalg.diagonal(self.covariance_))
        root = like(self._whitening_ * scale, white)  # symmetric
        lost = white @ root  # the direction in standardised features
        square, norm = xp.sum(white**2, axis=1), xp.sum(lost**2, axis=1)
        rest = white - (lost @ root) * (square / norm)[:, None]
        broken = square**2 / norm / self._floor_
        # a feature that nothing else moves is constant without the row
        scale, mean = like(scale, white), like(self.location_, white)
        feature = xp.argmax(xp.abs(lost), axis=1)
        for i, j in enumerate(feature):
            if lost[i, j] ** 2 > (1 - 1e-9) * norm[i]:
                own = lost[i, j] * square[i] / norm[i] * scale[j]
                moved = mean - own * (share if np.ndim(share) == 0 else share[i])
                others = xp.where(like(np.arange(len(scale)), scale) == j, 0.0, scale)
                least = least_scale(others, moved, self.tol)[j]
                broken[i] = (1 + (mean[j] - moved[j]) / own) * (own / least) ** 2
        return xp.sum(rest**2, axis=1) + broken

    # Whether some directions have a variance that was given to them.
    _has_exact_ = False

    def _white(self, X):
        if self._has_exact_:
            X = to_double(X)  # whose rounding is large in units of these directions
        return (X - like(self.location_, X)) @ like(self._whitening_, X).T

    def _map(self, X):
        if self.covariance == "low_rank":
            scale, directions, shrinkage = (like(part, X) for part in self._low_rank_)
            standard = (X - like(self.location_, X)) / scale
            along = standard @ directions  # (b, rank)
            return (standard - (along * shrinkage) @ directions.T) ** 2
        return self._white(X) ** 2

"""Conformal p-values: how rare an anomaly is among those of normal samples."""

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from scipy.stats import false_discovery_control
from sklearn.utils.validation import check_is_fitted

from skad._array import is_torch, like, namespace, to_numpy
from skad._members import inspect_of, maps_of, scores_of, take_over_features
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._rows import n_rows
from skad._sklearn import Interval, RealNotInt, StrOptions
from skad.calibration._base import DetectorAround
from skad.calibration._held import known_anomalies, scoring_parameters, takes_groups

# Of two scores nearer than this, relative and in the largest, neither is the lower: a
# sample that is scored in another batch ties with itself.
_RELATIVE, _ABSOLUTE = 1e-7, 1e-9


def largest_count(rate, n):
    """Return the largest whole `k` with ``k / (n + 1) <= rate`` in floating point."""
    k = math.floor(rate * (n + 1))
    if (k + 1) / (n + 1) <= rate:
        return k + 1
    return k if k / (n + 1) <= rate else k - 1


def lowered(scores):
    """Return scores sorted, each as low as a score may be that still ties with it."""
    scores = np.sort(scores)
    size = np.abs(scores)
    # the size of most scores, which one huge score does not change
    usual = np.median(size[size > 0]) if size.any() else 0.0
    return scores - _RELATIVE * size - _ABSOLUTE * usual


def tie_break(z):
    """Return a strictly increasing function of standardised scores, in [0, 0.99].

    It is algebraic, so that scores far out stay apart, and less than 1 by more than
    rounding, so that it never lifts a p-value to the next.
    """
    xp = namespace(z)
    half = 0.5 / (1 + xp.abs(z))
    return 0.99 * xp.where(z < 0, half, 1 - half)


@with_parameters
class ConformalDetector(DetectorAround):
    r"""Samples that are improbable as one more normal sample, whatever the detector.

    Scores :math:`s_i` of `n` normal samples that the detector has not learned from say
    how rare a score is. The conformal p-value counts those that are no higher,

    .. math:: p(x) = \frac{1 + \sum_i [s_i \le s(x)]}{n + 1},

    and samples with :math:`p \le \alpha`, the `false_alarm_rate`, are anomalies. If a
    normal sample is exchangeable with those of the calibration, it raises an alarm with
    a probability of at most :math:`\alpha`, however bad the detector is.
    ``score_samples`` is :math:`p - \epsilon(x)` where :math:`\epsilon`, less than
    :math:`1 / (n + 1)`, falls as the detector's score grows: samples of equal p-value
    rank by that score. The map is the detector's, with several fits the mean of theirs.

    Read more in the :ref:`User Guide <calibration>`.

    Parameters
    ----------
    detector : detector, default=None
        Any detector of this package or of scikit-learn, or a pipeline that ends in one.
        It is cloned; one in a ``FrozenEstimator`` is taken as it is, and `fit` gets
        samples for calibration alone. None is ``Mahalanobis()``.
    method : {"split", "cross", "jackknife+"}, default="split"
        "split" learns from some samples and calibrates with the others. "cross" does
        both with all: of `n_splits` folds each is calibrated with a detector fitted on
        the others, and :math:`s_i \le s(x)` compares scores of the detector that has
        not seen `i`. "jackknife+" is "cross" with a fold, and a fit, per sample.
    false_alarm_rate : float, default=0.05
        The rate :math:`\alpha`, at least :math:`1 / (n + 1)`.
    calibration_size : float or int, default=0.5
        Samples that "split" holds out to calibrate with: a share, or a number.
    n_splits : int, default=5
        Folds of "cross".
    random_state : int, RandomState instance or None, default=None
        Draws the samples held out, and each `random_state` of the detector that is
        None. Pass an int for reproducible results.

    Attributes
    ----------
    estimators_ : list of detectors
        The fitted detectors; one with "split".
    calibration_scores_ : list of ndarray
        For each of them the scores of the samples that it has not learned from.
    n_calibration_ : int
        Number of calibration scores `n`.

    See Also
    --------
    QuantileThreshold : A threshold on the detector's own scores, without guarantee.
    EVTThreshold : Rates below one in so many samples, with a model of the tail.

    Notes
    -----
    What is guaranteed for a normal sample, on average over training data:
    :math:`P(p \le \alpha) \le \alpha` with "split" [1]_ [2]_, and
    :math:`P(p \le \alpha) < 2 \alpha` with "jackknife+" [4]_; with "cross", `K` folds
    add :math:`2 (1 - 1/K) / (n/K + 1)` to the latter. The latter two stay near
    :math:`\alpha` in practice for all but unstable detectors. For the one calibration
    set at hand the rate of "split" varies around :math:`\alpha` with a deviation of
    about :math:`\sqrt{\alpha (1 - \alpha) / n}`.

    `detect` finds nothing in a batch of `m` samples unless at least
    :math:`m / (q (n + 1))` of them lie beyond all calibration scores, with the false
    discovery rate `q`: it needs many calibration samples, or small batches.

    Scores that differ by rounding count as equal, which can only raise a p-value.
    Known anomalies, labelled -1, are learned from where the detector does so, but do
    not calibrate. Steps of series are not exchangeable with their neighbours: around a
    detector of series, whole series of `groups` are held out, and without `groups` the
    last part ("split") or blocks ("cross"), so that rates hold approximately for
    stationary series.

    Costs are one fit with "split", `n_splits` with "cross" and one per sample with
    "jackknife+"; all of them are kept, and each of them scores.

    References
    ----------
    .. [1] R. Laxhammar and G. Falkman, "Conformal prediction for distribution-
       independent anomaly detection in streaming vessel data", StreamKDD, 2010.
    .. [2] S. Bates, E. Candes, L. Lei, Y. Romano, M. Sesia, "Testing for outliers with
       conformal p-values", The Annals of Statistics 51(1), 2023.
    .. [3] V. Vovk, "Cross-conformal predictors", Annals of Mathematics and Artificial
       Intelligence 74, 2015.
    .. [4] R. F. Barber, E. J. Candes, A. Ramdas, R. J. Tibshirani, "Predictive
       inference with the jackknife+", The Annals of Statistics 49(1), 2021, theorems 1
       and 4 (for intervals; their proofs compare pairs of samples by any score).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.calibration import ConformalDetector
    >>> from skad.neighbors import KNN
    >>> rng = np.random.default_rng(0)
    >>> X, X_new = rng.normal(size=(1000, 2)), rng.normal(size=(2000, 2))
    >>> detector = ConformalDetector(KNN(), random_state=0).fit(X)
    >>> print(f"{np.mean(detector.predict(X_new) == -1):.3f}")
    0.042
    >>> detector.p_values([[0.0, 0.0], [3.0, 3.0]]).round(3)
    array([0.992, 0.002])
    >>> batch = X_new[:200] + 8 * (np.arange(200) < 20)[:, None]
    >>> found = np.flatnonzero(detector.detect(batch, false_discovery_rate=0.2) == -1)
    >>> len(found), int(np.sum(found < 20))
    (24, 20)
    """

    _map_sums_to_score = False
    _parameter_constraints = {
        "method": [StrOptions({"split", "cross", "jackknife+"})],
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
        "calibration_size": [
            Interval(RealNotInt, 0, 1, closed="neither"),
            Interval(Integral, 1, None, closed="left"),
        ],
        "n_splits": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    method: str = "split"
    false_alarm_rate: float = 0.05
    calibration_size: float = 0.5
    n_splits: int = 5
    random_state: Seed = None

    def p_values(self, X, **params) -> Any:
        """Return the probability that a normal sample scores no higher.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            The samples.
        params : dict
            Passed to the detector (`groups` of series).

        Returns
        -------
        p_values : ndarray or tensor of shape (n_samples,), float64
            At least ``1 / (n_calibration_ + 1)``, at most 1.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        counts, _ = self._counts(self._members_scores(X, params))
        return (counts + 1) / (self.n_calibration_ + 1)

    def detect(self, X, *, false_discovery_rate=0.1, dependence="positive", **params):
        """Return labels of a batch, of whose alarms a stated share is false.

        Parameters
        ----------
        X : array-like, tensor, pictures or series
            The samples, judged together: unlike `predict`, a label depends on them all.
        false_discovery_rate : float, default=0.1
            Expected share of normal samples among those labelled -1.
        dependence : {"positive", "any"}, default="positive"
            "positive" is the procedure of Benjamini and Hochberg, which is proved for
            the p-values of "split" (Bates et al. 2023). "any" is that of Benjamini and
            Yekutieli, for p-values that depend on one another in any way; it finds
            less.
        params : dict
            Passed to the detector (`groups` of series).

        Returns
        -------
        labels : ndarray or tensor of shape (n_samples,), int64
            1 for normal samples and -1 for anomalies.
        """
        if not 0 < false_discovery_rate < 1:
            raise ValueError(
                f"false_discovery_rate={false_discovery_rate} must lie between 0 and 1."
            )
        if dependence not in ("positive", "any"):
            raise ValueError(f"dependence={dependence!r}: must be 'positive' or 'any'.")
        p_values = self.p_values(X, **params)
        adjusted = false_discovery_control(
            to_numpy(p_values), method="bh" if dependence == "positive" else "by"
        )
        labels = np.where(adjusted <= false_discovery_rate, -1, 1)
        return like(labels, p_values, dtype="keep") if is_torch(p_values) else labels

    # ----------------------------------------------------------------------- the method

    def _check_parameters(self, X):
        if self._is_frozen() and self.method != "split":
            raise ValueError(
                f"method={self.method!r} fits the detector anew, and a FrozenEstimator "
                "is not fitted: take method='split'."
            )

    def _calibrate(self, X, y, params):
        n = n_rows(X)
        if n < 2 and not self._is_frozen():
            self._fitted_clone(X, y, params)  # which may refuse X for a better reason
            raise ValueError(
                f"Found array with {n} sample(s) while a minimum of 2 is required: to "
                "learn from some and to calibrate with others."
            )
        known = known_anomalies(self._head(), y, n, params)
        scoring = scoring_parameters(self._head(), params)
        random = generator(self.random_state)
        folds = self._folds(n, known, scoring.get("groups"), random)
        n_scores = sum(int((~known[held]).sum()) for held in folds)
        if largest_count(self.false_alarm_rate, n_scores) == 0:
            self._fitted_clone(X, y, params)  # which may refuse X for a better reason
            raise ValueError(self._too_few(n_scores))
        reason = f"method={self.method!r}"
        if self.method == "split":
            reason = f"calibration_size={self.calibration_size}"
        self.estimators_, self.calibration_scores_ = [], []
        for held in folds:
            if self._is_frozen():
                member = self._fitted_clone(X, y, params)
            else:
                rows = np.delete(np.arange(n), held)
                member = self._fitted_on(rows, X, y, params, reason, random)
            scores = self._scores_on(held, member, X, scoring)
            self.estimators_.append(member)
            self.calibration_scores_.append(scores[~known[held]])
        take_over_features(self, self.estimators_[0])
        self._cuts_ = [lowered(scores) for scores in self.calibration_scores_]
        scores = np.concatenate(self.calibration_scores_)
        centre = float(np.median(scores))
        # means of distances, since squares may overflow
        scale = float(np.mean(np.abs(scores - centre))) or abs(centre) or 1.0
        self.n_calibration_, self._location_ = len(scores), (centre, scale)

    def _folds(self, n, known, groups, random):
        """Return the samples that each fit leaves out, as arrays of indices."""
        if self._is_frozen():
            return [np.arange(n)]
        in_order = takes_groups(self._head()) and groups is None
        if in_order and self.method == "jackknife+":
            raise ValueError(
                "method='jackknife+' cannot leave one step out of a series: pass "
                "groups, or take method='cross'."
            )
        if groups is not None:
            units = np.unique(to_numpy(groups), return_inverse=True)[1]
        elif in_order:
            units = np.arange(n)
        else:  # all known anomalies are learned from
            units = np.where(known, -1, np.cumsum(~known) - 1)
        n_units = int(units.max()) + 1
        order = np.arange(n_units) if in_order else random.permutation(n_units)
        return [np.flatnonzero(np.isin(units, part)) for part in self._parts(order)]

    def _parts(self, order):
        """Return the parts of the units, in `order`, that each fit leaves out."""
        n = len(order)
        if self.method == "split":
            size = self.calibration_size
            held = size if isinstance(size, Integral) else math.ceil(size * n)
            if not 0 < held < n:
                raise ValueError(
                    f"calibration_size={size} leaves nothing to learn from, or nothing "
                    f"to calibrate with, of {n} normal samples (or series)."
                )
            return [order[n - held :]]
        n_folds = self.n_splits if self.method == "cross" else n
        if not 2 <= n_folds <= n:
            raise ValueError(
                f"n_splits={n_folds} with method={self.method!r} needs as many normal "
                f"samples (or series), at least 2; there are {n}."
            )
        return np.array_split(order, n_folds)

    def _too_few(self, n):
        return (
            f"false_alarm_rate={self.false_alarm_rate} needs at least "
            f"{math.ceil(1 / self.false_alarm_rate) - 1} normal samples to calibrate "
            f"with, and there are {n}: the smallest rate possible with these is "
            f"{1 / (n + 1):.4g}."
        )

    def _fit_offset(self, X, y, anomaly, **params):
        # a whole count, unlike `upper_limit`: its promise holds for ties as well
        n = self.n_calibration_
        return largest_count(self.false_alarm_rate, n) / (n + 1)

    def _counts(self, found):
        """Return how many calibration scores are no higher, (n,), and the mean score.

        Parameters
        ----------
        found : iterable of arrays or tensors of shape (n,)
            Scores by each detector: every calibration score is compared with that of
            the same one.
        """
        counts = total = 0
        for scores, cuts in zip(found, self._cuts_, strict=True):
            xp = namespace(scores)
            below = xp.searchsorted(like(cuts, scores), scores, side="right")
            counts = counts + xp.astype(below, scores.dtype)
            total = total + scores / len(self.estimators_)
        return counts, total

    def _members_scores(self, X, params):
        return (scores_of(member, X, **params) for member in self.estimators_)

    def _scores(self, X, params):
        return self._conformal_scores(self._members_scores(X, params))

    def _conformal_scores(self, found):
        """Return scores (n,) from those of each detector."""
        counts, mean = self._counts(found)
        centre, scale = self._location_
        return (counts + tie_break((mean - centre) / scale)) / (self.n_calibration_ + 1)

    def _maps(self, X, params):
        total = sum(maps_of(member, X, **params) for member in self.estimators_)
        return total / len(self.estimators_)

    def _scores_and_maps(self, X, params):
        found, total = [], 0
        for member in self.estimators_:
            scores, maps = inspect_of(member, X, **params)
            found.append(scores)
            total = total + maps
        return self._conformal_scores(found), total / len(self.estimators_)

    def _fitted(self):
        return self.estimators_[0]

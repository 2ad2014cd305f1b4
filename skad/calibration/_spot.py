"""Thresholds of streams by extreme value theory, for a stated risk of false alarms."""

from abc import ABCMeta, abstractmethod
from collections import deque
from copy import deepcopy
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skad._sklearn import Interval, _fit_context
from skad.calibration._gpd_tail import TailOfStream, score_column


class _StreamThreshold(BaseEstimator, metaclass=ABCMeta):
    """What is the same for scores that drift and scores that do not."""

    _parameter_constraints = {
        "risk": [Interval(Real, 0, 1, closed="neither")],
        "level": [Interval(Real, 0, 1, closed="neither")],
        "max_peaks": [Interval(Integral, 10, None, closed="left"), None],
    }

    @abstractmethod
    def _start(self, scores):
        """Return the values whose tail is fitted, of the first scores."""

    @abstractmethod
    def _baseline(self):
        """Return what is taken off the next score."""

    def _remember(self, score):
        """Take a normal score in."""

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, anomaly_score, y=None) -> Self:
        """Learn the tail of the first scores, which should be normal ones.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_timesteps,)
            Higher = more anomalous, in the order of time.
        y : object
            Ignored.

        Returns
        -------
        self : object
            The fitted threshold.
        """
        if self.risk + self.level >= 1:
            raise ValueError(
                f"risk={self.risk} must be less than 1 - level={1 - self.level:.3g}: "
                "the threshold lies in the tail."
            )
        values = self._start(score_column(anomaly_score))
        self._tail_ = TailOfStream(values, self.level, self.risk, self.max_peaks)
        return self

    def step(self, anomaly_score):
        """Judge the next score and learn from it.

        Parameters
        ----------
        anomaly_score : float
            The score.

        Returns
        -------
        label : int
            1 for a normal score, -1 for an alarm.
        """
        check_is_fitted(self)
        return -1 if self._judge(score_column([anomaly_score])[0]) else 1

    def partial_fit(self, anomaly_score, y=None) -> Self:
        """Take scores of the stream in, as `step` does one by one.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_timesteps,)
            Higher = more anomalous, in the order of time. The first call is `fit`.
        y : object
            Ignored.

        Returns
        -------
        self : object
            The fitted threshold.
        """
        if not hasattr(self, "_tail_"):
            return self.fit(anomaly_score)
        for score in score_column(anomaly_score):
            self._judge(score)
        return self

    def predict(self, anomaly_score) -> Any:
        """Judge the scores that come next; the state stays as it is.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_timesteps,)
            Higher = more anomalous, in the order of time.

        Returns
        -------
        labels : ndarray of shape (n_timesteps,)
            1 for a normal score, -1 for an alarm: what `step` would return.
        """
        scores = score_column(anomaly_score)
        return np.where(scores > self.thresholds(scores), -1, 1)

    def thresholds(self, anomaly_score):
        """Return the threshold that each of the next scores meets, for plots.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_timesteps,)
            Higher = more anomalous, in the order of time.

        Returns
        -------
        thresholds : ndarray of shape (n_timesteps,)
            The state stays as it is.
        """
        check_is_fitted(self)
        scores = score_column(anomaly_score)
        ahead = deepcopy(self)
        thresholds = np.empty(len(scores))
        for i, score in enumerate(scores):
            thresholds[i] = ahead.threshold_
            ahead._judge(score)
        return thresholds

    def _judge(self, score):
        # compared as `predict` compares, so that rounding cannot tell them apart
        alarm = score > self.threshold_
        if not alarm:
            self._tail_.learn(score - self._baseline())
            self._remember(score)
        return alarm

    @property
    def threshold_(self):
        return self._baseline() + self._tail_.threshold

    @property
    def level_(self):
        return self._tail_.level

    @property
    def shape_(self):
        return self._tail_.shape

    @property
    def scale_(self):
        return self._tail_.scale

    @property
    def n_seen_(self):
        return self._tail_.n_seen

    @property
    def n_peaks_(self):
        return self._tail_.n_peaks


class SPOT(_StreamThreshold):
    r"""A threshold that a normal score exceeds with a stated probability, for streams.

    Peaks over a high level `t` are fitted with a generalised Pareto distribution (shape
    :math:`\gamma`, scale :math:`\sigma`), whatever the distribution of the scores; the
    threshold is the quantile

    .. math:: z_q = t + \frac{\sigma}{\gamma}
        \left(\left(\frac{q n}{N_t}\right)^{-\gamma} - 1\right)

    with `N_t` of `n` scores over `t` and the risk `q`. A score over the threshold is an
    alarm and is not learned from; any other score moves the counts, and a peak the fit.

    Read more in the :ref:`User Guide <stream_thresholds>`.

    Parameters
    ----------
    risk : float, default=0.0001
        Probability `q` that a normal score raises an alarm, less than ``1 - level``.
    level : float, default=0.98
        Quantile of the first scores over which the tail begins.
    max_peaks : int or None, default=2000
        The fit uses that many of the latest peaks, so that a step of an endless stream
        costs no more than the one before. None keeps all, as the paper does.

    Attributes
    ----------
    threshold_ : float
        Scores over it are alarms, now.
    level_ : float
        The level `t`.
    shape_ : float
        Shape of the tail; negative for a tail that ends.
    scale_ : float
        Scale of the tail.
    n_seen_ : int
        Scores learned from, `n`.
    n_peaks_ : int
        Scores over the level, :math:`N_t`.

    See Also
    --------
    DSPOT : For scores that drift.

    Notes
    -----
    The maximum of the likelihood is found among all roots of Grimshaw's equation.
    Scores should be independent and from one distribution; a score that is smoothed
    over windows raises its false alarms in bursts. Since alarms are not learned from,
    the tail lacks its farthest scores: streams of normal scores alone (Gaussian,
    exponential, Student) raised alarms at 1.5 to 2.5 times a risk of 0.001. A fit needs
    ten peaks, 500 scores at the default level; the papers begin with 1,000 to 2,000.

    References
    ----------
    .. [1] A. Siffer, P.-A. Fouque, A. Termier, C. Largouet, "Anomaly Detection in
       Streams with Extreme Value Theory", KDD 2017, algorithms 1 and 2.
    .. [2] S. Grimshaw, "Computing Maximum Likelihood Estimates for the Generalized
       Pareto Distribution", Technometrics 35(2), 1993.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.calibration import SPOT
    >>> rng = np.random.default_rng(0)
    >>> spot = SPOT(risk=1e-3).fit(rng.exponential(size=2000))
    >>> print(f"{spot.threshold_:.1f}")  # the true quantile is 6.9
    7.3
    >>> spot.step(2.0), spot.step(30.0)
    (1, -1)
    >>> spot.predict([1.0, 30.0])
    array([ 1, -1])
    """

    def __init__(self, risk=1e-4, level=0.98, max_peaks=2000):
        self.risk = risk
        self.level = level
        self.max_peaks = max_peaks

    def _start(self, scores):
        return scores

    def _baseline(self):
        return 0.0


class DSPOT(_StreamThreshold):
    r"""SPOT on the difference to a moving average, for scores that drift.

    The score less the mean of the last `depth` normal scores goes to `SPOT`, so that
    the threshold follows the mean. Alarms enter neither the mean nor the tail.

    Read more in the :ref:`User Guide <stream_thresholds>`.

    Parameters
    ----------
    depth : int, default=450
        Normal scores in the moving average, at least 1. The paper's experiments take
        200 and 450.
    risk : float, default=0.0001
        Probability that a normal score raises an alarm, less than ``1 - level``.
    level : float, default=0.98
        Quantile of the first differences over which the tail begins.
    max_peaks : int or None, default=2000
        The fit uses that many of the latest peaks; None keeps all.

    Attributes
    ----------
    threshold_ : float
        Scores over it are alarms, now.
    level_ : float
        The level over which the tail of the differences begins.
    shape_ : float
        Shape of the tail; negative for a tail that ends.
    scale_ : float
        Scale of the tail.
    n_seen_ : int
        Differences learned from.
    n_peaks_ : int
        Differences over the level.

    See Also
    --------
    SPOT : For scores that do not drift, with the formula.

    References
    ----------
    .. [1] A. Siffer, P.-A. Fouque, A. Termier, C. Largouet, "Anomaly Detection in
       Streams with Extreme Value Theory", KDD 2017, algorithm 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.calibration import DSPOT
    >>> rng = np.random.default_rng(0)
    >>> scores = rng.normal(size=4000) + 0.01 * np.arange(4000)
    >>> dspot = DSPOT(depth=50, risk=1e-3).fit(scores[:2000])
    >>> stream = np.append(scores[2000:], scores[-1] + 20)
    >>> int(np.sum(dspot.predict(stream) == -1)), dspot.predict(stream)[-1]
    (3, np.int64(-1))
    """

    _parameter_constraints = {
        "depth": [Interval(Integral, 1, None, closed="left")],
        **_StreamThreshold._parameter_constraints,
    }

    def __init__(self, depth=450, risk=1e-4, level=0.98, max_peaks=2000):
        self.depth = depth
        self.risk = risk
        self.level = level
        self.max_peaks = max_peaks

    def _start(self, scores):
        if len(scores) <= self.depth:
            raise ValueError(
                f"anomaly_score has {len(scores)} values, depth={self.depth} takes "
                "more."
            )
        self._recent_ = deque(scores[-self.depth :].tolist(), maxlen=self.depth)
        windows = np.lib.stride_tricks.sliding_window_view(scores, self.depth)
        return scores[self.depth :] - windows[:-1].mean(axis=1)

    def _baseline(self):
        return sum(self._recent_) / len(self._recent_)

    def _remember(self, score):
        self._recent_.append(float(score))

"""Telemanom's threshold: the one that removes most spread for the fewest alarms."""

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from scipy.signal import lfilter
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skad._sklearn import Interval, _fit_context
from skad.calibration._gpd_tail import score_column

# Thresholds tried, in standard deviations over the mean, and the one without a winner.
_TRIED = np.arange(2.5, 12.0, 0.5)
_OTHERWISE = 12.0
_MOST_SEQUENCES = 5


class TelemanomThreshold(BaseEstimator):
    r"""A threshold without a distribution, from the latest scores, for streams.

    Scores are smoothed. In each window, of :math:`\epsilon = \mu + z \sigma` for
    `z` = 2.5, 3, ..., 11.5 the one is taken that maximises

    .. math:: \frac{\Delta\mu / \mu + \Delta\sigma / \sigma}{|e|^2 + |a|}

    where the numerator is what mean and standard deviation lose when the scores over
    :math:`\epsilon` are left out, `a` are these scores with `error_buffer` around them
    and `e` the sequences that they form. Sequences whose maxima do not stand out are
    pruned: in the falling order of maxima, with the highest normal score last, those
    after the last fall of `min_decrease` are normal.

    Read more in the :ref:`User Guide <stream_thresholds>`.

    Parameters
    ----------
    window_size : int, default=2100
        Latest scores that a decision looks at.
    step_size : int, default=70
        New scores that are judged at once.
    error_buffer : int, default=100
        Scores around one over the threshold, it included, that count with it.
    min_decrease : float, default=0.13
        Least relative fall `p` between maxima that separates anomalies from the rest.
    smoothing_span : float, default=105
        Span of the exponentially weighted mean, at least 1 (no smoothing).
    both_sides : bool, default=False
        Whether sudden dips raise alarms too, as in the authors' code.

    Attributes
    ----------
    threshold_ : float
        The threshold of the last window, on smoothed scores.
    labels_ : ndarray of shape (n_timesteps,)
        Labels of the scores given to `fit`.

    See Also
    --------
    SPOT : States the risk of a false alarm.

    Notes
    -----
    The first window is judged as a whole, later ones in their newest `step_size`
    scores. Beside the paper's condition that less than half of a window and at most
    five sequences are anomalous there is nothing that keeps noise from raising alarms.
    The authors' code also skips windows in which errors are small against the values of
    the telemetry, which scores alone do not tell, and the warm-up of its network.

    References
    ----------
    .. [1] K. Hundman, V. Constantinou, C. Laporte, I. Colwell, T. Soderstrom,
       "Detecting Spacecraft Anomalies Using LSTMs and Nonparametric Dynamic
       Thresholding", KDD 2018, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.calibration import TelemanomThreshold
    >>> scores = np.abs(np.random.default_rng(0).normal(size=1000))
    >>> scores[600:620] += 8
    >>> threshold = TelemanomThreshold(smoothing_span=1, error_buffer=10).fit(scores)
    >>> np.flatnonzero(threshold.labels_ == -1)[[0, -1]]
    array([591, 628])
    """

    _parameter_constraints = {
        "window_size": [Interval(Integral, 2, None, closed="left")],
        "step_size": [Interval(Integral, 1, None, closed="left")],
        "error_buffer": [Interval(Integral, 1, None, closed="left")],
        "min_decrease": [Interval(Real, 0, 1, closed="both")],
        "smoothing_span": [Interval(Real, 1, None, closed="left")],
        "both_sides": ["boolean"],
    }

    def __init__(
        self,
        window_size=2100,
        step_size=70,
        error_buffer=100,
        min_decrease=0.13,
        smoothing_span=105,
        both_sides=False,
    ):
        self.window_size = window_size
        self.step_size = step_size
        self.error_buffer = error_buffer
        self.min_decrease = min_decrease
        self.smoothing_span = smoothing_span
        self.both_sides = both_sides

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, anomaly_score, y=None) -> Self:
        """Judge the scores and keep the last window for those that follow.

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
        if self.step_size > self.window_size:
            raise ValueError(
                f"step_size={self.step_size} must be at most "
                f"window_size={self.window_size}."
            )
        scores = _errors(anomaly_score)
        if len(scores) < 2:
            raise ValueError("anomaly_score has 1 value; a threshold needs 2.")
        empty = np.empty(0)
        start = (np.zeros(2), empty, empty.astype(bool))
        self.labels_, self._state_, self.threshold_ = self._run(scores, start)
        return self

    def fit_predict(self, anomaly_score, y=None) -> Any:
        """Fit to scores and return their labels.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_timesteps,)
            Higher = more anomalous, in the order of time.
        y : object
            Ignored.

        Returns
        -------
        labels : ndarray of shape (n_timesteps,)
            1 for normal scores, -1 for alarms.
        """
        return self.fit(anomaly_score).labels_

    def partial_fit(self, anomaly_score, y=None) -> Self:
        """Move on by scores of the stream, as if `fit` had seen them too.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_timesteps,)
            Higher = more anomalous, in the order of time. The first call is `fit`.
        y : object
            Ignored.

        Returns
        -------
        self : object
            The fitted threshold; `labels_` are those of these scores.
        """
        if not hasattr(self, "_state_"):
            return self.fit(anomaly_score)
        self.labels_, self._state_, self.threshold_ = self._run(
            _errors(anomaly_score), self._state_
        )
        return self

    def predict(self, anomaly_score) -> Any:
        """Judge the scores that come next; the state stays as it is.

        Parameters
        ----------
        anomaly_score : array-like of shape (n_timesteps,)
            Higher = more anomalous, in the order of time, following those of `fit`.

        Returns
        -------
        labels : ndarray of shape (n_timesteps,)
            1 for normal scores, -1 for alarms.
        """
        check_is_fitted(self)
        return self._run(_errors(anomaly_score), self._state_)[0]

    def _run(self, scores, state):
        """Return labels, the state after the scores, and the last threshold."""
        smoothing, window, alarms = state
        smooth, smoothing = _smooth(scores, self.smoothing_span, smoothing)
        found = []
        first = self.window_size if len(window) == 0 else self.step_size
        begin, end = 0, min(first, len(scores))
        while begin < len(scores):
            fresh = smooth[begin:end]
            window = np.append(window, fresh)[-self.window_size :]
            alarms = np.append(alarms, np.zeros(len(fresh), dtype=bool))
            alarms = alarms[-self.window_size :]
            flagged, threshold = self._judge(window, alarms, len(fresh))
            alarms[-len(fresh) :] = flagged
            found.append(flagged)
            begin, end = end, min(end + self.step_size, len(scores))
        labels = np.where(np.concatenate(found), -1, 1)
        return labels, (smoothing, window, alarms), threshold

    def _judge(self, window, alarms, n_fresh):
        """Return which of the newest scores are alarms, and the threshold."""
        flagged, threshold = self._above(window, alarms, n_fresh)
        if self.both_sides:
            flagged |= self._above(2 * window.mean() - window, alarms, n_fresh)[0]
        return flagged, threshold

    def _above(self, window, alarms, n_fresh):
        threshold = _epsilon(window, self.error_buffer)
        fresh = np.zeros(len(window), dtype=bool)
        fresh[-n_fresh:] = True
        flagged = _dilate(window > threshold, self.error_buffer) & fresh
        highest_normal = window[~(flagged | alarms)].max(initial=0.0)
        _prune(flagged, window, highest_normal, self.min_decrease)
        return flagged[-n_fresh:], threshold


def _errors(anomaly_score):
    scores = score_column(anomaly_score)
    if scores.min() < 0:
        raise ValueError(
            "anomaly_score has negative values; the rule divides by the mean and takes "
            "errors or distances, at least 0."
        )
    return scores


def _smooth(scores, span, state):
    """Return the exponentially weighted mean (each weight sum 1) and its state."""
    keep = 1 - 2 / (span + 1)
    sums, first = lfilter([1.0], [1.0, -keep], scores, zi=state[:1])
    weights, second = lfilter([1.0], [1.0, -keep], np.ones(len(scores)), zi=state[1:])
    return sums / weights, np.concatenate([first, second])


def _dilate(mask, size):
    """Return where a True lies fewer than `size` steps away."""
    counts = np.concatenate([[0], np.cumsum(mask)])
    index = np.arange(len(mask))
    low = np.maximum(index - size + 1, 0)
    high = np.minimum(index + size, len(mask))
    return counts[high] > counts[low]


def _sequences(mask):
    """Return (begin, end) of every run of True, of shape (m, 2)."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2)


def _epsilon(window, error_buffer):
    """Return the threshold that removes most spread for the fewest alarms."""
    mean, deviation = window.mean(), window.std()
    if deviation <= 1e-10 * mean:  # constant but for rounding
        return float(window.max())
    best, chosen = 0.0, _OTHERWISE
    for z in _TRIED:
        over = window > mean + z * deviation
        if not over.any():
            break  # nor is anything over the thresholds that follow
        rest = window[~over]
        anomalous = _dilate(over, error_buffer)
        n_sequences = len(_sequences(anomalous))
        gain = (mean - rest.mean()) / mean + (deviation - rest.std()) / deviation
        gain /= n_sequences**2 + anomalous.sum()
        few = n_sequences <= _MOST_SEQUENCES and anomalous.sum() < len(window) / 2
        if few and gain >= best:
            best, chosen = gain, z
    return float(mean + chosen * deviation)


def _prune(flagged, window, highest_normal, min_decrease):
    """Clear the sequences after the last fall of `min_decrease` between maxima."""
    sequences = _sequences(flagged)
    if len(sequences) == 0:
        return
    maxima = np.array([window[begin:end].max() for begin, end in sequences])
    order = np.argsort(-maxima, kind="stable")
    falling = np.append(maxima[order], highest_normal)
    falls = (falling[:-1] - falling[1:]) / falling[:-1] >= min_decrease
    n_kept = np.flatnonzero(falls)[-1] + 1 if falls.any() else 0
    for begin, end in sequences[order[n_kept:]]:
        flagged[begin:end] = False

"""A threshold at a quantile of the scores."""

from numbers import Real

import numpy as np

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.calibration._threshold import Threshold


@with_parameters
class QuantileThreshold(Threshold):
    """Samples with a score below a quantile of those of normal samples.

    The scores and maps are those of `detector`, and the threshold is the
    `false_alarm_rate` quantile of scores that the detector gives to normal samples as
    if it had not learned from them.

    Read more in the :ref:`User Guide <calibration>`.

    Parameters
    ----------
    false_alarm_rate : float, default=0.05
        Share of normal samples that raise an alarm.

    Attributes
    ----------
    calibration_scores_ : ndarray of shape (n_scores,)
        The scores whose quantile is taken.

    See Also
    --------
    ConformalDetector : Exceeds the rate for no detector, on average over the data.
    EVTThreshold : Reaches rates that the samples are too few to show.

    Notes
    -----
    Detectors of this package need nothing around them: their default,
    ``contamination="auto"``, takes the same scores, and a bound for a new sample where
    these are few. The quantile here is the plain one of the scores at hand, for any
    detector, and for any splitter. With ``cv=None`` it is what a number as
    `contamination` does inside of detectors: training scores are higher than those of
    new samples wherever a detector follows its training data closely, and the rate of
    false alarms is then larger than stated. Scores of copies that learned from fewer
    samples stand for the final detector's. Rows labelled -1 are left out of the
    quantile.

    References
    ----------
    .. [1] R. J. Hyndman and Y. Fan, "Sample quantiles in statistical packages", The
       American Statistician 50(4), 1996, definition 7.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.calibration import QuantileThreshold
    >>> from skad.density import Mahalanobis
    >>> rng = np.random.default_rng(0)
    >>> X, X_new = rng.normal(size=(200, 20)), rng.normal(size=(1000, 20))
    >>> detector = QuantileThreshold(Mahalanobis()).fit(X)
    >>> print(f"{np.mean(detector.predict(X_new) == -1):.2f}")
    0.07
    >>> flattered = QuantileThreshold(Mahalanobis(), cv=None).fit(X)
    >>> print(f"{np.mean(flattered.predict(X_new) == -1):.2f}")
    0.18
    """

    false_alarm_rate: float = 0.05

    _parameter_constraints = {
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
    }

    def _threshold(self, scores):
        return np.quantile(scores, self.false_alarm_rate)

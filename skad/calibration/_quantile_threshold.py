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
    `false_alarm_rate` quantile of the training scores, or with `cv` of scores that no
    detector gives to samples it has learned from.

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
    With ``cv=None`` this is what a number as `contamination` does inside of detectors.
    Their default, ``contamination="auto"``, needs nothing around them: it takes scores
    of samples that were not learned from, at less cost than `cv` where a method can
    leave a sample out, and a bound for a new sample where these are few. The quantile
    here is the plain one of the scores at hand.

    Training scores are higher than those of new samples wherever the detector follows
    its training data closely, and the rate of false alarms is then larger than stated:
    a detector with many parameters and few rows needs `cv` or rows of its own for the
    threshold. With `cv`, scores of slightly smaller training sets stand for the final
    detector's. Rows labelled -1 are left out of the quantile.

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
    >>> inside = QuantileThreshold(Mahalanobis()).fit(X)
    >>> print(f"{np.mean(inside.predict(X_new) == -1):.2f}")
    0.18
    >>> outside = QuantileThreshold(Mahalanobis(), cv=10).fit(X)
    >>> print(f"{np.mean(outside.predict(X_new) == -1):.2f}")
    0.07
    """

    false_alarm_rate: float = 0.05

    _parameter_constraints = {
        "false_alarm_rate": [Interval(Real, 0, 1, closed="neither")],
    }

    def _threshold(self, scores):
        return np.quantile(scores, self.false_alarm_rate)

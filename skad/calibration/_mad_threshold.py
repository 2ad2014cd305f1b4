"""A threshold some robust deviations away from the median score."""

from numbers import Real

import numpy as np

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.calibration._threshold import Threshold

# The median absolute deviation of a Gaussian times this is its standard deviation.
GAUSSIAN = 1.482602218505602


@with_parameters
class MADThreshold(Threshold):
    r"""Samples whose score lies many robust deviations below the median.

    With the anomalies :math:`a_i = -s_i` of training samples the alarm begins over

    .. math:: \mathrm{med}(a) + k \cdot 1.4826 \, \mathrm{med}_i |a_i - \mathrm{med}(a)|

    where the factor makes the median absolute deviation the standard deviation of a
    Gaussian. Neither median moves far while less than half of the samples are
    anomalies. Scores and maps are those of `detector`.

    Read more in the :ref:`User Guide <calibration>`.

    Parameters
    ----------
    n_deviations : float, default=3.0
        Deviations `k`. The paper calls 3 very conservative, 2.5 moderately and 2 poorly
        conservative.

    Attributes
    ----------
    calibration_scores_ : ndarray of shape (n_scores,)
        The scores whose medians are taken.

    See Also
    --------
    QuantileThreshold : Flags a share of the samples, anomalies or not.

    Notes
    -----
    No rate of false alarms is promised: it depends on the distribution of the scores.
    For Gaussian scores it is 0.13 % at three deviations; a squared distance in two
    dimensions, which has an exponential tail, gives 5.9 %. If more than half of the
    scores are equal, the deviation is zero and any lower score is an alarm. Rows
    labelled -1 are left out of the medians.

    References
    ----------
    .. [1] C. Leys, C. Ley, O. Klein, P. Bernard, L. Licata, "Detecting outliers: do not
       use standard deviation around the mean, use absolute deviation around the
       median", Journal of Experimental Social Psychology 49(4), 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.calibration import MADThreshold
    >>> from skad.density import Mahalanobis
    >>> X = np.random.default_rng(0).normal(size=(500, 50))
    >>> X[:3] += 2
    >>> detector = MADThreshold(Mahalanobis(), n_deviations=5).fit(X)
    >>> np.flatnonzero(detector.predict(X) == -1)
    array([0, 1, 2])
    """

    n_deviations: float = 3.0

    _parameter_constraints = {
        "n_deviations": [Interval(Real, 0, None, closed="neither")],
    }

    def _threshold(self, scores):
        median = np.median(scores)
        deviation = np.median(np.abs(scores - median))
        return median - self.n_deviations * GAUSSIAN * deviation

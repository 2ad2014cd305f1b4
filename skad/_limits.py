"""From anomalies of normal samples to the limit that few new ones will pass.

The anomalies are honest: of samples that the detector has not learned from, or as if it
had not. A plain quantile of few of them is passed too often (the largest of five is by
one new sample in six), so the limit is one for a new sample.
"""

import math

import numpy as np
from scipy.special import stdtrit


def upper_limit(anomaly, rate):
    r"""Return what a new sample passes with probability `rate`.

    With at least :math:`1 / rate - 1` samples it is the order statistic of rank
    :math:`(m + 1)(1 - rate)`, between two ranks interpolated, which a new sample of the
    same distribution passes with exactly that probability, whatever the distribution.
    With fewer no sample is large enough; then it is Student's bound for one new value,
    :math:`\bar z + t_{m - 1, 1 - rate} \, s \sqrt{1 + 1 / m}`, of the logarithms where
    all anomalies are positive. In simulations with m = 3 to 18 it was passed by .01
    (squares of normal values) to .07 (extremes) of new values for a rate of .05.

    Parameters
    ----------
    anomaly : ndarray of shape (m,)
        Honest anomalies of normal samples; a single one is its own limit.
    rate : float
        In (0, 0.5].

    Returns
    -------
    limit : float
    """
    ordered = np.sort(np.asarray(anomaly, dtype=np.float64))
    m = len(ordered)
    if m == 1:
        return float(ordered[0])
    rank = (m + 1) * (1 - rate)
    if rank <= m:
        below = math.floor(rank)
        share = rank - below
        return float(
            (1 - share) * ordered[below - 1] + share * ordered[min(below, m - 1)]
        )
    positive = ordered[0] > 0
    z = np.log(ordered) if positive else ordered
    deviation = z.std(ddof=1) * math.sqrt(1 + 1 / m)
    bound = z.mean() + stdtrit(m - 1, 1 - rate) * deviation
    if positive:
        bound = math.exp(min(bound, math.log(np.finfo(np.float64).max)))
    return float(max(bound, ordered[-1]))


def thinned(anomaly, most=500):
    """Return the values (m,) in order, `most` evenly spread ones where there are more.

    The share of them beyond a limit is that of all to 1 / `most`.
    """
    ordered = np.sort(np.asarray(anomaly, dtype=np.float64))
    if len(ordered) <= most:
        return ordered
    return ordered[np.linspace(0, len(ordered) - 1, most).round().astype(np.int64)]

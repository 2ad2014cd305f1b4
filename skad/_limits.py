"""From anomalies of normal samples to the limit that few new ones will pass.

The anomalies are honest: of samples that the detector has not learned from, or as if it
had not. A plain quantile of few of them is passed too often (the largest of five is by
one new sample in six), so the limit is one for a new sample.
"""

import math
import warnings

import numpy as np
from scipy.special import stdtrit

# So many effective values a series is worth at least.
_FEWEST = 5
# What scores in float64 are rounded to, and more, as a share of their size.
_ROUNDING = 1e-9


def at_positions(ordered, weights, positions):
    """Return what stands at `positions`, from 0, of values that repeat by weight.

    With whole `weights` these are elements of ``np.repeat(ordered, weights)``; None is
    once each.
    """
    if weights is None:
        index = np.asarray(positions).astype(np.intp)
    else:
        index = np.searchsorted(np.cumsum(weights), positions, side="right")
    return ordered[np.minimum(index, len(ordered) - 1)]


def in_order(values, weights=None):
    """Return values (m,) in order, and their weights with them; None stays None."""
    if weights is None:
        return np.sort(values), None  # ten times as fast as by the order of each
    order = np.argsort(values, kind="stable")
    return values[order], weights[order]


def weighted_quantile(values, share, weights):
    """Return ``np.quantile(np.repeat(values, weights), share)``, for any weights."""
    position = (weights.sum() - 1) * share
    below = math.floor(position)
    ends = at_positions(*in_order(values, weights), [below, below + 1])
    # rounded to float32 it could lie beyond both
    return float(np.quantile(ends.astype(np.float64), position - below))


def effective_size(values):
    r"""Return how many independent values a stationary series (m,) is worth.

    It is :math:`m / \tau` with :math:`\tau = 1 + 2 \sum_k \rho_k` of the
    autocorrelations, summed as long as those of two lags in a row are positive together
    (Geyer, "Practical Markov chain Monte Carlo", Statistical Science, 1992, section
    3.3). At most `m`; and at least 5, where there are, since a series that does not go
    to and fro so often cannot tell.
    """
    values = np.asarray(values, dtype=np.float64)
    m = len(values)
    fewest = min(m, _FEWEST)
    centred = values - values.mean() if m else values
    size = np.max(np.abs(centred), initial=0.0)
    if m <= fewest or not 0 < size < np.inf:
        return float(m)
    spectrum = np.fft.rfft(centred / size, 2 * m)
    correlations = np.fft.irfft(spectrum * spectrum.conj(), 2 * m)[:m]
    correlations /= correlations[0]
    pairs = correlations[: m - m % 2].reshape(-1, 2).sum(axis=1)
    stop = np.flatnonzero(pairs <= 0)
    total = 2 * pairs[: stop[0] if len(stop) else None].sum() - 1
    return float(np.clip(m / max(total, 1.0), fewest, m))


def upper_limit(anomaly, rate, weights=None, n_effective=None):
    r"""Return what a new sample passes with probability `rate`.

    With at least :math:`1 / rate - 1` samples it is the order statistic of rank
    :math:`(m + 1)(1 - rate)`. Where that rank is whole, a new sample of the same
    distribution passes it with exactly that probability, whatever the (continuous)
    distribution. Between two ranks it is interpolated, and passed with a probability
    between theirs, which differ by :math:`1 / (m + 1)`.

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
    weights : ndarray of shape (m,), default=None
        How often each sample counts, at least twice in all; `m` is then their sum.
    n_effective : float, default=None
        How many independent ones anomalies are worth that depend on one another, see
        `effective_size`; it takes the place of `m`. Without `weights`.

    Returns
    -------
    limit : float
    """
    anomaly = np.asarray(anomaly, dtype=np.float64)
    n = float(len(anomaly) if weights is None else weights.sum())
    m = n if n_effective is None else float(n_effective)
    if m <= 1:
        return float(anomaly.max())
    rank = (m + 1) * (1 - rate)
    # from 0, among all values; each of `m` stands for as many of them
    place = (min(rank, m) - 0.5) * (n / m) - 0.5
    below = math.floor(place)
    share = place - below
    if weights is None:  # two of the values take a tenth of the time of their order
        ends = np.minimum([below, below + 1], len(anomaly) - 1)
        anomaly = np.partition(anomaly, ends)
    else:
        anomaly, weights = in_order(anomaly, weights)
    low, high = at_positions(anomaly, weights, [below, below + 1])
    limit = float((1 - share) * low + share * high if share else low)
    if rank <= m:
        return limit
    positive = anomaly.min() > 0
    z = np.log(anomaly) if positive else anomaly
    weights = m / len(z) if weights is None else weights
    mean = np.sum(weights * z) / m
    variance = np.sum(weights * (z - mean) ** 2) / (m - 1)
    deviation = math.sqrt(variance) * math.sqrt(1 + 1 / m)
    bound = mean + stdtrit(m - 1, 1 - rate) * deviation
    if positive:
        bound = math.exp(min(bound, math.log(np.finfo(np.float64).max)))
    return float(max(bound, limit))


def limit_of_seen(anomaly, rate):
    """Return `upper_limit` of training samples, as new ones are scored, and a little.

    One of them may set it, and is not to pass it by what scores are rounded to where
    others are scored with them.
    """
    limit = upper_limit(anomaly, rate)
    return limit + _ROUNDING * max(abs(limit), float(np.median(np.abs(anomaly))))


def thinned(anomaly, weights=None, most=500):
    """Return the values (m,) in order, `most` evenly spread ones where there are more.

    The share of them beyond a limit is that of all to 1 / `most`. With `weights` (m,)
    each value is there as often, to a whole number in all.
    """
    anomaly = np.asarray(anomaly, dtype=np.float64)
    total = max(1, round(len(anomaly) if weights is None else weights.sum()))
    places = np.linspace(0, total - 1, min(total, most)).round()
    return at_positions(*in_order(anomaly, weights), places)


def warn_of_equal_scores(detector, anomaly):
    """Warn where the training anomalies (m,) are equal up to rounding.

    Two are no sign of it: each may have only the other to be compared with. What is
    fitted inside of another detector says nothing.
    """
    if len(anomaly) < 3 or detector._is_copy:
        return
    largest, smallest = float(np.max(anomaly)), float(np.min(anomaly))
    size = max(abs(largest), abs(smallest))
    if largest - smallest <= 8 * np.finfo(np.float64).eps * size:
        name = type(detector).__name__
        warnings.warn(
            f"All {len(anomaly)} training samples got the score {-largest:.6g}: this "
            f"{name} tells none of them from the others. Either X is constant (or the "
            "features that count are), or there are too few samples, or they differ on "
            f"a scale that {name} cannot resolve with these parameters: scale the "
            "features first (StandardScaler).",
            stacklevel=7,
        )

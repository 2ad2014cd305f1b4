"""The period of a series, which is the window that a person would choose."""

import warnings

import numpy as np
from scipy.signal import detrend, find_peaks

from skad._array import is_torch, to_numpy
from skad._moments import deviations

# Steps of a series that are looked at.
_STEPS = 20_000
# What stands for a period where none is found (the protocol of TSB-AD).
NO_PERIOD = 125
# Of TSB-AD's rule: the lags in which a period is looked for, and periods it believes.
_SHORTEST_LAG, _LONGEST_LAG = 3, 400
_SHORTEST_PERIOD, _LONGEST_PERIOD = 6, 303
# A share of the values at both ends that is cut off, so that no event makes a period.
_CUT_OFF = 0.01
# Parts of the series whose moving means are taken off where it wanders.
_PARTS = (10, 40)
# A peak stands out by so much, and by so many deviations of what noise makes.
_LEAST_PROMINENCE, _DEVIATIONS = 0.1, 5.0
# Beside the highest and most prominent peak one comes first that has these shares.
_OF_HEIGHT, _OF_PROMINENCE = 0.8, 0.5
# It comes again at its multiples, this near and this prominent; or it is this high.
_NEAR, _AGAIN, _ALONE = 0.06, 0.4, 0.5


def dominant_period(X, groups=None, *, rule="prominent"):
    """Return the number of steps after which a series repeats itself.

    Parameters
    ----------
    X : array-like or tensor of shape (n_timesteps,) or (n_timesteps, n_channels)
        The series. Steps that are missing (NaN) are interpolated.
    groups : array-like of shape (n_timesteps,), default=None
        Which series each row belongs to; None is one series.
    rule : {"prominent", "tsb"}, default="prominent"
        "prominent" is the first prominent peak of the autocorrelation of a channel, up
        to a third of its length: of the steps without a straight line, or where that
        has none without a moving mean. It has at least half of the prominence and four
        fifths of the height of the best peak, stands out of what noise of that memory
        makes, and comes again at its multiples. All channels of all series vote, with
        their steps times the height.

        "tsb" is TSB-AD's rule [1]_, so that its figures can be compared with: the lag
        of the highest local maximum of the mean autocorrelation of the channels of the
        longest series, between 6 and 303, else 125.

    Returns
    -------
    period : int
        Time steps; 125, with a warning, where no period is found.

    References
    ----------
    .. [1] Q. Liu and J. Paparrizos, "The elephant in the room: towards a reliable
       time-series anomaly detection benchmark", NeurIPS Datasets and Benchmarks, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.embedding import dominant_period
    >>> dominant_period(np.sin(2 * np.pi * np.arange(500) / 24))
    24
    """
    if rule not in ("prominent", "tsb"):
        raise ValueError(f"rule={rule!r} must be 'prominent' or 'tsb'.")
    x = np.asarray(to_numpy(X) if is_torch(X) else X, dtype=np.float64)
    x = x.reshape(len(x), -1)
    if np.isinf(x).any():
        raise ValueError("X contains infinity; a period needs finite steps.")
    series = [x]
    if groups is not None:
        groups = np.asarray(groups)
        if len(groups) != len(x):
            raise ValueError(f"groups has {len(groups)} labels for {len(x)} steps.")
        series = [x[groups == label] for label in np.unique(groups)]
    period = period_of(series, rule)
    if period is None:
        warnings.warn(f"No period was found: {NO_PERIOD} stands for it.", stacklevel=2)
        return NO_PERIOD
    return period


def period_of(series, rule="prominent"):
    """Return the period of a list of series (t, c), or None."""
    if rule == "tsb":
        return _tsb_period(_channels(max(series, key=len)))
    votes = []
    for x in series:
        for channel in _channels(x).T:
            found = _channel_period(channel)
            if found is not None:
                period, height = found
                votes.append((period, height * len(channel)))
    if not votes:
        return None
    periods, weights = (np.array(column) for column in zip(*votes, strict=True))
    alike = abs(periods[:, None] - periods) <= 0.1 * periods[:, None]
    order = np.lexsort((-periods, weights, alike @ weights))
    return int(periods[order[-1]])


def _channels(x):
    """Return the first steps of the channels that vary, scaled and without gaps."""
    x = np.asarray(to_numpy(x), dtype=np.float64)[:_STEPS]
    x = x[:, np.isfinite(x).any(axis=0)]
    steps = np.arange(len(x))
    gaps = np.isnan(x)
    for i in np.flatnonzero(gaps.any(axis=0)):
        there = ~gaps[:, i]
        x[gaps[:, i], i] = np.interp(steps[gaps[:, i]], steps[there], x[there, i])
    # relative to the largest value, whose square may overflow
    reach = np.abs(x).max(axis=0, initial=0)
    x = x / np.where(reach > 0, reach, 1)
    varies = deviations(x.var(axis=0), x.mean(axis=0), roundings=max(1, len(x))) > 0
    return x[:, varies]


def _products(x):
    """Return the sums of products of centred channels (t, c) with themselves later."""
    spectrum = np.fft.rfft(x, n=2 * len(x), axis=0)
    return np.fft.irfft(np.abs(spectrum) ** 2, axis=0)[: len(x)]


def _channel_period(x):
    """Return the period of a channel (t,), and how high its peak is; or None."""
    if len(x) < 2 * _SHORTEST_PERIOD:
        return None
    within = np.clip(x, *np.quantile(x, [_CUT_OFF, 1 - _CUT_OFF]))
    x = detrend(x if np.ptp(within) == 0 else within)
    found = _first_peak(x, len(x) // 3)
    for n_parts in _PARTS:
        most = len(x) // n_parts
        if found is None and most >= _SHORTEST_PERIOD:
            found = _first_peak(x - _moving_mean(x, 2 * most), most)
    return found


def _moving_mean(x, size):
    """Return the mean (t,) of the `size` steps around each, fewer at the ends."""
    total = np.cumsum(np.append(0.0, x))
    steps = np.arange(len(x))
    first = np.maximum(steps - size // 2, 0)
    last = np.minimum(steps + size // 2 + 1, len(x))
    return (total[last] - total[first]) / (last - first)


def _first_peak(x, longest):
    """Return lag and height of the first prominent peak up to `longest`, or None."""
    n = len(x)
    products = _products(x)
    if products[0] <= 0:
        return None
    lags = np.arange(2 * n // 3 + 1)
    correlation = products[lags] / products[0] * n / (n - lags)
    correlation[1:-1] = (correlation[:-2] + 2 * correlation[1:-1] + correlation[2:]) / 4
    # by Bartlett's formula, of noise that forgets as this series does at first
    memory = correlation[1:][: np.argmax(np.append(correlation[1:], -1) <= 0)]
    noise = np.sqrt((1 + 2 * np.sum(memory**2)) / n)
    peaks, found = find_peaks(
        correlation, prominence=max(_LEAST_PROMINENCE, _DEVIATIONS * noise)
    )
    heights, prominences = correlation[peaks], found["prominences"]
    short = peaks <= longest
    if not short.any():
        return None
    good = short & (heights >= _OF_HEIGHT * heights[short].max())
    good &= prominences >= _OF_PROMINENCE * prominences[short].max()
    for i in np.flatnonzero(good):
        if _comes_again(peaks, prominences, i, heights[i], len(lags)):
            return int(peaks[i]), float(heights[i])
    return None


def _comes_again(peaks, prominences, i, height, n_lags):
    """Tell whether there are peaks at twice and three times the lag of peak i."""
    for factor in (2, 3):
        lag = factor * peaks[i]
        if lag > 0.97 * n_lags:  # too near to the end to be seen
            return height >= _ALONE
        near = abs(peaks - lag) <= max(factor, _NEAR * lag)
        if prominences[near].max(initial=0) < _AGAIN * prominences[i]:
            return False
    return True


def _tsb_period(x):
    """Return TSB-AD's period of a series (t, c) of channels that vary, or None."""
    if len(x) < _SHORTEST_LAG + 3 or x.shape[1] == 0:
        return None
    products = _products(x - x.mean(axis=0))[: _LONGEST_LAG + 1]
    correlation = (products / products[0]).mean(axis=1)
    inner = correlation[_SHORTEST_LAG + 1 : -1]
    peaks = (inner > correlation[_SHORTEST_LAG:-2]) & (
        inner > correlation[_SHORTEST_LAG + 2 :]
    )
    if not peaks.any():
        return None
    lag = int(np.where(peaks, inner, -np.inf).argmax()) + _SHORTEST_LAG + 1
    return lag if _SHORTEST_PERIOD <= lag <= _LONGEST_PERIOD else None

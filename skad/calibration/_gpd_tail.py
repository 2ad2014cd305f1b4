"""The tail of a distribution: a generalised Pareto fit to what exceeds a high level."""

import numpy as np
from scipy.optimize import brentq
from sklearn.utils.validation import check_array, column_or_1d

from skad._array import is_torch, to_numpy

# Least number of excesses that say anything about a tail.
MIN_PEAKS = 10


def score_column(anomaly_score):
    """Return finite float64 scores of shape (n,), or raise."""
    if is_torch(anomaly_score):
        anomaly_score = to_numpy(anomaly_score)
    scores = check_array(
        anomaly_score, ensure_2d=False, dtype=np.float64, input_name="anomaly_score"
    )
    return column_or_1d(scores)


def fit_gpd(excesses):
    r"""Return shape and scale of the generalised Pareto of the largest likelihood.

    With :math:`\theta = \gamma / \sigma` the likelihood has one dimension
    (Grimshaw 1993): its stationary points are the roots of
    :math:`(1 + \overline{\log(1 + \theta y)}) \overline{1 / (1 + \theta y)} = 1`.
    The exponential (:math:`\gamma = 0`) and the uniform (:math:`\gamma = -1`), beyond
    which the likelihood has no bound, are candidates as well.
    """
    unit = excesses.mean()
    y = excesses / unit
    top = y.max()
    candidates = [(-1.0, 0.0, 1.0), (-np.log(top), -1.0, top)]
    for theta in _stationary_points(y, top):
        shape = np.log1p(theta * y).mean()
        scale = shape / theta
        if shape > -1 and scale > 0:
            candidates.append((-np.log(scale) - shape - 1, shape, scale))
    _, shape, scale = max(candidates)
    return float(shape), float(scale * unit)


def _stationary_points(y, top):
    """Return the roots other than 0, where the profile likelihood may have its maximum.

    `y` has mean 1. Roots lie between -1/max(y) and Grimshaw's upper bound.
    """

    def gap(theta):
        return (1 + np.log1p(theta * y).mean()) * (1 / (1 + theta * y)).mean() - 1

    lowest = y.min()
    upper = 2 * (1 - lowest) / lowest**2 if lowest > 1e-6 else 2e12
    negative = -(1 - np.geomspace(1e-8, 1 - 1e-5, 24)) / top
    grids = [negative]
    if upper > 1e-5:
        grids.append(np.geomspace(1e-5, upper, 32))
    roots = []
    for grid in grids:
        product = grid[:, None] * y
        values = (1 + np.log1p(product).mean(axis=1)) * (1 / (1 + product)).mean(axis=1)
        signs = np.sign(values - 1)
        for i in np.flatnonzero(signs[1:] * signs[:-1] < 0):
            roots.append(brentq(gap, grid[i], grid[i + 1], xtol=1e-14, rtol=1e-12))
    return roots


def gpd_quantile(risk, level, share, shape, scale):
    """Return the value that is exceeded with probability `risk`.

    `share` is the probability of exceeding `level`, where the tail begins.
    """
    ratio = risk / share
    if abs(shape) < 1e-8:
        return level - scale * np.log(ratio)
    return level + scale / shape * np.expm1(-shape * np.log(ratio))


def gpd_risk(values, level, share, shape, scale):
    """Return the probability of exceeding each value of the tail, at most `share`."""
    excess = np.maximum(np.asarray(values) - level, 0) / scale
    if abs(shape) < 1e-8:
        return share * np.exp(-excess)
    with np.errstate(divide="ignore"):  # beyond the end of a bounded tail: 0
        return share * np.exp(-np.log(np.maximum(1 + shape * excess, 0)) / shape)


class TailOfStream:
    """Peaks over a level, their fit and the quantile that follows, kept up to date."""

    def __init__(self, values, level, risk, max_peaks, min_peaks=MIN_PEAKS):
        self.level = float(np.quantile(values, level))
        excesses = values[values > self.level] - self.level
        if len(excesses) < min_peaks:
            raise ValueError(
                f"{len(excesses)} of {len(values)} scores exceed their quantile "
                f"level={level}; a tail needs at least {min_peaks}. Pass more scores "
                "(or scores that are not constant), or a lower level."
            )
        self.risk = risk
        self.n_seen = len(values)
        self.n_peaks = len(excesses)
        self._max_peaks = max_peaks
        self._excesses = excesses if max_peaks is None else excesses[-max_peaks:]
        self._refit()

    def _refit(self):
        self.shape, self.scale = fit_gpd(self._excesses)
        share = self.n_peaks / self.n_seen
        self.threshold = gpd_quantile(
            self.risk, self.level, share, self.shape, self.scale
        )

    def learn(self, value):
        """Take a value that is no alarm in."""
        self.n_seen += 1
        if value > self.level:
            self.n_peaks += 1
            kept = self._excesses
            if self._max_peaks is not None:
                kept = kept[max(len(kept) + 1 - self._max_peaks, 0) :]
            self._excesses = np.append(kept, value - self.level)
            self._refit()

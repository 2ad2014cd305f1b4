"""What seasons and a trend leave of a series."""

from numbers import Integral
from typing import Any

import numpy as np
from scipy.ndimage import median_filter

from skad._needed import need
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.embedding._period import period_of
from skad.series._group_transformer import GroupTransformer
from skad.series._missing import any_missing, channel_means, held, interpolated


def decomposed(x, periods, robust):
    """Return the seasons (m, t) and the trend (t,) of a series (t,), by loess."""
    module = need("statsmodels.tsa.seasonal", "SeasonalTrendResiduals")
    if len(periods) == 1:
        found = module.STL(x, period=periods[0], robust=robust).fit()
        return np.asarray(found.seasonal)[None], np.asarray(found.trend)
    found = module.MSTL(x, periods=periods, stl_kwargs={"robust": robust}).fit()
    return np.asarray(found.seasonal).T, np.asarray(found.trend)


def repeated(cycles, n):
    """Return the sum (n, c) of cycles (p, c) of several lengths, again and again."""
    steps = np.arange(n)
    return sum(cycle[steps % len(cycle)] for cycle in cycles)


def median_before(values, n_before):
    """Return the median (t - w, c) of the `w` values (t, c) before each but the first.

    `w` is `n_before`, which is odd.
    """
    n = len(values) - n_before
    half = n_before // 2
    columns = [median_filter(column, size=n_before) for column in values.T]
    return np.stack(columns, axis=1)[half : half + n]


@with_parameters(kw_only=False)
class SeasonalTrendResiduals(GroupTransformer):
    r"""Series without their seasons and their trend.

    Each channel is a trend, seasons of one or several periods, and a rest [1]_ [2]_,

    .. math:: x(t) = T(t) + \sum_{j=1}^{m} S_j(t) + r(t),

    which local regressions (loess) find in the training series; the transform is
    :math:`r`. So a detector behind it, also one that looks at single steps, sees what
    day, week and growth do not explain.

    **New steps** follow the training series of their group: the season of a step is
    that of the same phase in the last period of the training. Its trend is the median,
    over the longest period before it (one step more, where that is even), of the steps
    without their seasons, and what the trend of the training grew by on average in half
    of that, which the median is late by. So the residual of a new step depends on no
    later step, and on earlier ones by their median alone.

    **The training series** is known again by its first steps, the longest period of
    them: the residual of a step that has its place there is the step minus the trend
    and the seasons that the decomposition found in that place, which depend on the
    steps of the training on both sides; later steps continue it. Any other series
    begins where the training series ended.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    periods : int, sequence of int or None, default=None
        Steps of each season, at least 2 and at most half of the shortest series. None
        is the one period that :func:`skad.embedding.dominant_period` finds.
    robust : bool, default=True
        Whether steps far from trend and seasons count less when these are found, so
        that anomalies in the training series hardly bend them. It takes several times
        as long.

    Attributes
    ----------
    periods_ : list of int
        The periods, the shortest first.
    expected_ : dict
        Trend and seasons (t, c) of each training series, by label.
    cycles_ : dict
        The last cycle (p, c) of each season, a list for each training series.

    See Also
    --------
    SpectralResidual : Takes periods and trends away by the spectrum, as a detector.
    RegressionForecaster : Forecasts from lags, which follow more than seasons.
    GroupScaler : A scale for each series.

    Notes
    -----
    Needs statsmodels: ``pip install 'skad[season]'``. With one period its STL, with
    several its MSTL decomposes the series, with their defaults but for `robust`.

    Pass all new steps since the training in one call: a second call begins at the end
    of the training series again. A new level is an anomaly for half of the longest
    period. A group that `fit` has not seen is an error.

    Missing values (NaN) are interpolated where seasons and trend are found, and stay
    missing: the `missing` of the detector says what becomes of them.

    The trend and seasons of the training series have seen its steps, and those of new
    steps have not: residuals of the training are smaller. With two seasons and 500 to
    1,000 steps of training a threshold from them flagged .14 to .18 of new steps for
    .05. Take one from later normal steps: :class:`skad.calibration.QuantileThreshold`
    around the fitted pipeline in a ``FrozenEstimator``.

    References
    ----------
    .. [1] R. B. Cleveland, W. S. Cleveland, J. E. McRae, I. Terpenning, "STL: a
       seasonal-trend decomposition procedure based on loess", Journal of Official
       Statistics, 1990.
    .. [2] K. Bandara, R. J. Hyndman, C. Bergmeir, "MSTL: a seasonal-trend decomposition
       algorithm for time series with multiple seasonal patterns", International Journal
       of Operational Research, 2025 (arXiv 2107.13462).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.pipeline import make_pipeline
    >>> from skad.series import SeasonalTrendResiduals, ZScore
    >>> t = np.arange(600)
    >>> rng = np.random.default_rng(0)
    >>> X = np.sin(t / 24 * 2 * np.pi)[:, None] + 0.01 * t[:, None]
    >>> X += 0.05 * rng.normal(size=X.shape)
    >>> X[550] += 0.5
    >>> detector = make_pipeline(SeasonalTrendResiduals(24), ZScore()).fit(X[:400])
    >>> int(detector.score_samples(X).argmin())
    550
    """

    periods: Any = None
    robust: bool = True

    _parameter_constraints = {
        "periods": [Interval(Integral, 2, None, closed="left"), "array-like", None],
        "robust": ["boolean"],
    }

    def _begin(self, X, parts):
        need("statsmodels.tsa.seasonal", "SeasonalTrendResiduals")
        self._means_ = channel_means(X) if any_missing(X) else X.mean(axis=0)
        self.periods_ = self._found_periods([X[own] for own in parts.values()])
        lengths = [len(X[own]) for own in parts.values()]
        if 2 * self.periods_[-1] > min(lengths):
            raise ValueError(
                f"periods={self.periods_} need {2 * self.periods_[-1]} time steps of "
                f"each series, and the shortest has n_samples={min(lengths)}."
            )
        self.expected_, self.cycles_ = {}, {}
        self._begins_, self._tails_, self._late_ = {}, {}, {}

    def _found_periods(self, series):
        """Return the periods, the shortest first."""
        if self.periods is None:
            found = period_of(series)
            if found is None:
                raise ValueError(
                    "The series have no period that could be seen: pass the steps of "
                    "their seasons as periods."
                )
            return [found]
        asked = np.atleast_1d(self.periods)
        whole = (
            asked.ndim == 1 and asked.size and np.issubdtype(asked.dtype, np.integer)
        )
        if not whole or asked.min() < 2 or len(np.unique(asked)) < len(asked):
            raise ValueError(
                f"periods={self.periods!r} must be whole numbers of at least 2 steps, "
                "each of them once."
            )
        return sorted(asked.tolist())

    def _fit_group(self, label, x):
        longest = self.periods_[-1]
        self._begins_[label] = x[:longest].copy()
        x = np.asarray(interpolated(x, [slice(None)], self._means_), dtype=np.float64)
        seasons, trend = [], []
        for column in x.T:
            found = decomposed(column, self.periods_, self.robust)
            seasons.append(found[0])
            trend.append(found[1])
        seasons, trend = np.stack(seasons, axis=2), np.stack(trend, axis=1)
        self.expected_[label] = seasons.sum(axis=0) + trend  # of (m, t, c) and (t, c)
        growth = np.polynomial.polynomial.polyfit(np.arange(len(x)), trend, 1)[1]
        self._late_[label] = growth * (self._n_before() + 1) / 2
        cycles = zip(seasons, self.periods_, strict=True)
        self.cycles_[label] = [own[-period:].copy() for own, period in cycles]
        rest = x - seasons.sum(axis=0)
        self._tails_[label] = rest[-self._n_before() :].copy()

    def _n_before(self):
        """Return how many steps before a new one its trend is the median of."""
        return self.periods_[-1] // 2 * 2 + 1

    def _transform_group(self, label, x):
        begin = self._begins_[label]
        n_known = 0
        if len(x) >= len(begin) and np.array_equal(
            x[: len(begin)], begin, equal_nan=True
        ):
            n_known = min(len(x), len(self.expected_[label]))
        known, new = x[:n_known], x[n_known:]
        residuals = known - self.expected_[label][:n_known]
        return np.concatenate([residuals, new - self._continued(label, new)])

    def _continued(self, label, x):
        """Return trend and seasons (t, c) of steps that follow the training series."""
        seasons = repeated(self.cycles_[label], len(x))
        tail, rest = self._tails_[label], x - seasons
        if any_missing(rest):
            rest = held(rest, tail[-1])
        trend = median_before(np.concatenate([tail, rest]), self._n_before())
        return seasons + trend + self._late_[label]

"""Forecasts of any regressor from lags, judged by errors on steps it has not seen."""

from functools import partial
from numbers import Integral
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.utils import get_tags

from skad._array import like, namespace, to_double, to_numpy
from skad._cross_fitting import scored_as_seen
from skad._moments import deviations
from skad._parameters import with_parameters
from skad._sklearn import HasMethods, Interval, StrOptions
from skad._stretches import remaining, time_folds
from skad.embedding._windows import evenly, sliding
from skad.series._forecasting import ForecastDetector, forecast_errors
from skad.series._windowed import most_windows


def lags_and_targets(series, size, horizon, stride=1, most=None):
    """Return the rows (n, l * c) before, and (n, k * c) of, the steps to forecast.

    Parameters
    ----------
    series : list of arrays of shape (t, c)
        Rows never reach from one to another.
    size, horizon : int
        Steps `l` before, and `k` of them to forecast.
    stride : int, default=1
        Steps between the rows.
    most : int, default=None
        Of more rows as many are taken, evenly; None takes all.
    """
    views = [sliding(to_numpy(x), size + horizon, stride) for x in series]
    counts = [len(view) for view in views]
    picked = evenly(counts, sum(counts) if most is None else most)
    windows = [view[own] for view, own in zip(views, picked, strict=True)]
    windows = np.concatenate(windows)  # (n, l + k, c)
    n = len(windows)
    return windows[:, :size].reshape(n, -1), windows[:, size:].reshape(n, -1)


def errors_of(regressor, windows, size, horizon, n_steps):
    """Return the errors (b, n_steps, k, c) of the last steps of windows, in float64."""
    values = to_numpy(windows)
    b, n_all, c = values.shape
    n_origins = n_all - size
    lags = np.lib.stride_tricks.sliding_window_view(values[:, :-1], size, axis=1)
    rows = lags.transpose(0, 1, 3, 2).reshape(b * n_origins, size * c)
    with config_context(transform_output="default"):
        found = np.asarray(regressor.predict(rows), dtype=np.float64)
    forecasts = like(found.reshape(b, n_origins, horizon, c), to_double(windows[:1]))
    return forecast_errors(to_double(windows[:, size - 1 :]), forecasts, n_steps)


@with_parameters(kw_only=False)
class RegressionForecaster(ForecastDetector):
    r"""Time steps that a regressor forecasts badly from those before.

    From the `l` steps before, each with its `c` channels, `regressor` learns to tell
    the next `k` steps. So a step has been forecast `k` times, with errors
    :math:`e_{ji}(t) = x_i(t) - \hat x_i^{(j)}(t)` for channel `i` of the forecast made
    at step :math:`t - j`. The anomaly is

    .. math:: a(t) = \sum_{j=1}^{k} \sum_{i=1}^{c}
        \left(\frac{e_{ji}(t)}{\sigma_{ji}}\right)^2,

    and depends on no later step. The deviation :math:`\sigma_{ji}` is the root of the
    mean squared error on steps that the regressor was fitted without, so that one which
    follows its training data closely does not make new normal steps look strange.
    ``score_samples`` is :math:`-a`. The map has the channels' sums over `j`; it sums to
    the anomaly.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    regressor : regressor, default=None
        Any regressor of scikit-learn, or a pipeline that ends in one. It is cloned; one
        for single targets is cloned for each channel and each of the `k` forecasts.
        None is ``Ridge()``.
    window_size : int, "auto" or "tsb", default="auto"
        Steps `l` before a forecast, the lags. "auto" and "tsb" are the period, see
        :class:`WindowDetector`.
    horizon : int, default=1
        Forecasts `k` of each step, made 1 to `k` steps before it. More than one tells
        anomalies that the regressor would follow at once, such as a new level.
    stride : int, default=1
        Steps between the rows to learn from, at most `window_size`. Every step is
        scored, whatever the stride.
    max_windows : int or "auto", default="auto"
        Rows to learn from; of more, as many are taken evenly over all series. "auto" is
        as many as hold 2**25 values.

    Attributes
    ----------
    regressor_ : regressor
        The regressor, fitted on rows of `l` steps by `c` channels, step by step.
    scale_ : ndarray of shape (horizon, n_features_in_)
        The deviations :math:`\sigma_{ji}`, 1 where there is no error.

    See Also
    --------
    LSTMForecaster : A recurrent network, and the covariance of its errors.
    DeepAnT : A convolutional network, and the distance to its forecast.

    Notes
    -----
    `fit` costs a fit of the regressor on all steps and, for the deviations and the
    threshold of ``contamination="auto"``, others without some of them: up to five where
    steps are few, one without a fifth of them where they are many. Rows have `l` times
    `c` features. Channels should be on one scale where the regressor asks for it, as
    ``Ridge`` does. The first ``l + k - 1`` steps of a series, and those after a gap of
    ``missing="skip"``, have no forecast from as many steps before them: they count as
    steps with the mean squared error, `k` in each channel of the map, and are no
    anomalies.

    The defaults stand on 84 made series (``defaults_regressionforecaster.tsv``), where
    the mean ROC AUC was .714 and .81 of the changes were found: `window_size` of 5 to
    25 had .62 to .69, and more forecasts or neighbours as the regressor found fewer.
    Where features are standardized a larger penalty is a little better in all kinds of
    series, .724 and .83 with ``Ridge(10)``.

    Errors of several channels or forecasts are added up as if they were independent;
    :class:`LSTMForecaster` takes their covariance.

    References
    ----------
    .. [1] A. J. Fox, "Outliers in time series", Journal of the Royal Statistical
       Society B 34(3), 1972 (of autoregressions, which a linear regressor makes).
    .. [2] P. Malhotra, L. Vig, G. Shroff, P. Agarwal, "Long short term memory networks
       for anomaly detection in time series", ESANN, 2015, section 2 (several forecasts
       of a step).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import Ridge
    >>> from skad.series import RegressionForecaster
    >>> rng = np.random.default_rng(0)
    >>> X = np.sin(np.arange(500) / 4)[:, None] + 0.1 * rng.normal(size=(500, 1))
    >>> X[400] += 1
    >>> detector = RegressionForecaster(Ridge(), window_size=30).fit(X[:300])
    >>> int(detector.score_samples(X).argmin())
    400
    """

    regressor: Any = None
    horizon: int = 1
    max_windows: int | str = "auto"

    _map_sums_to_score = True
    _parameter_constraints = {
        "regressor": [HasMethods(["fit", "predict"]), None],
        "horizon": [Interval(Integral, 1, None, closed="left")],
        "max_windows": [
            Interval(Integral, 2, None, closed="left"),
            StrOptions({"auto"}),
        ],
    }

    # ----------------------------------------------------------------------- forecasts

    def _scored_steps(self):
        return self.horizon

    def _context_steps(self):
        return self.window_size_ + self.horizon - 1

    def _min_steps(self):
        least = self.window_size_ + self.horizon
        return least, f"window_size={self.window_size_} and horizon={self.horizon} need"

    def _reach(self):
        return self._context_steps()

    def _row_elements(self):
        size, k = self.window_size_, self.horizon
        return 4 * self.n_features_in_ * (2 * k * size + 2 * k * k)

    def _errors(self, windows, regressor=None):
        """Return the errors (b, k, k, c) of the last `k` steps of windows."""
        regressor = self.regressor_ if regressor is None else regressor
        return errors_of(
            regressor, windows, self.window_size_, self.horizon, self.horizon
        )

    # ------------------------------------------------------------------------ training

    def _fit_windows(self, series, labels):
        lengths, least = [len(x) for x in series], self._min_steps()[0]
        folds = time_folds(lengths, least)
        self._too_few_ = None if folds else "any fold leaves less than a window"
        held = []
        for fold in self._steps([[], *folds], "fit regressors", 1 + len(folds)):
            if not fold:
                self.regressor_ = self._fitted_regressor(series)
                continue
            kept = [series[i][a:b] for i, a, b in remaining(lengths, fold, least)]
            try:
                regressor = self._fitted_regressor(kept)
                held += self._held_errors(regressor, series, fold)
            except ValueError as error:
                held, self._too_few_ = [], str(error)
                break
        first = self._context_steps()
        if not held and self._too_few_ is None:
            self._too_few_ = "no step of a fold has a window before it"
        known = held or [self._forecast(self._errors, x, first) for x in series]
        errors = np.concatenate([to_numpy(part) for part in known])  # (n, k, c)
        largest = np.max([np.abs(to_numpy(x)).max(axis=0) for x in series], axis=0)
        variance = np.mean(errors**2, axis=0)
        largest = np.broadcast_to(largest, variance.shape)
        scale = deviations(variance, largest, roundings=len(errors))
        self.scale_ = np.where(scale > 0, scale, 1.0)
        self._held_out_ = ((errors / self.scale_) ** 2).sum((1, 2))

    def _fitted_regressor(self, series):
        """Return the regressor, fitted on series (t, c)."""
        size, c = self.window_size_, self.n_features_in_
        most = most_windows(self.max_windows, (size + self.horizon) * c)
        lags, targets = lags_and_targets(series, size, self.horizon, self.stride, most)
        regressor = clone(Ridge() if self.regressor is None else self.regressor)
        if targets.shape[1] == 1:
            targets = targets[:, 0]
        elif not get_tags(regressor).target_tags.multi_output:
            regressor = MultiOutputRegressor(regressor)
        try:
            # outer parameters are checked by now, the regressor's are not
            with config_context(skip_parameter_validation=False):
                return regressor.fit(lags, targets)
        except ValueError as error:
            raise ValueError(
                f"{type(regressor).__name__} cannot be fitted on the {len(lags)} rows "
                f"of window_size={size} steps: {error}"
            ) from error

    def _held_errors(self, regressor, series, fold):
        """Return errors (t, k, c) of the stretches that a regressor has not seen."""
        errors, context = partial(self._errors, regressor=regressor), self._reach()
        found = []
        for i, a, b in fold:
            start = max(a, context)  # of earlier steps there is no forecast
            if start < b:
                x = series[i][start - context : b]
                found.append(self._forecast(errors, x, context))
        return found

    def _honest_anomaly(self, X, y, anomaly, groups=None):
        if self._too_few_ is not None:
            return scored_as_seen(self, X, X.shape[0], anomaly, self._too_few_)
        return self._held_out_

    def _fit_offset(self, X, y, anomaly, **params):
        offset = super()._fit_offset(X, y, anomaly, **params)
        del self._held_out_, self._too_few_
        return offset

    # ------------------------------------------------------------------------- scoring

    def _window_map(self, windows):
        errors = self._errors(windows)
        return namespace(errors).sum((errors / like(self.scale_, errors)) ** 2, axis=2)

    def _anomaly_from(self, x, begin):
        return namespace(x).sum(self._map_from(x, begin), axis=1)

    def _inspect(self, x):
        maps = self._map(x)
        return namespace(x).sum(maps, axis=1), maps

    def _map(self, x):
        return self._map_from(x, 0)

    def _map_from(self, x, begin):
        """Return the map (t - begin, c) of the steps of `x` from `begin` on."""
        maps = self._forecast(self._window_map, x, begin)
        # without a forecast from lags the errors are as large as those of most steps
        maps[: max(0, self._context_steps() - begin)] = self.horizon
        return maps

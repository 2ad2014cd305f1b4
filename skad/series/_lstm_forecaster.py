"""Recurrent forecaster with a Gaussian on its errors."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral

import torch
from torch import nn

from skad._array import slices
from skad._moments import deviations, merge_moments, moments
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import from_parameters
from skad.density._covariance import shrink_oas, whitening_matrix
from skad.embedding._windows import sliding
from skad.nn.network import Network
from skad.series._forecaster import Forecaster
from skad.series._forecasting import forecast_errors
from skad.series._network import as_tensor


def error_gaussian(n, mean, scatter):
    r"""Return the scale (d,) and :math:`W` with :math:`W^T W = \Sigma^{-1}`, (d, d).

    :math:`\Sigma` has the variances of maximum likelihood and the correlations of the
    oracle approximating shrinkage, which no direction leaves without variance. Errors
    that never vary have the scale 1.

    Parameters
    ----------
    n, mean, scatter : int, tensor of shape (d,), tensor of shape (d, d)
        Moments of the error vectors.
    """
    covariance = scatter / n
    scale = deviations(torch.diagonal(covariance), mean)
    scale = torch.where(scale > 0, scale, 1.0)
    correlation = covariance / scale[:, None] / scale
    correlation.fill_diagonal_(1.0)
    shrunk, _ = shrink_oas(correlation, n)
    return scale, whitening_matrix(shrunk, torch.ones_like(scale), 0.0) / scale


class RecurrentForecaster(Network):
    """Stacked LSTMs that forecast the next steps at every step."""

    def __init__(self, shape, hidden_sizes, horizon, n_scored):
        super().__init__()
        sizes = (shape[1], *hidden_sizes)
        self.layers = nn.ModuleList(
            nn.LSTM(into, out, batch_first=True) for into, out in pairwise(sizes)
        )
        d = horizon * shape[1]
        self.readout = nn.Linear(sizes[-1], d)
        self.horizon, self.n_scored = horizon, n_scored
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("scale", torch.ones(d))
        self.register_buffer("whitening", torch.eye(d))

    def forward(self, x):
        """Return the forecasts (b, l, k, c) of the steps after each step."""
        for layer in self.layers:
            x, _ = layer(x)
        return self.readout(x).unflatten(2, (self.horizon, -1))

    def loss(self, x, y):
        """Return the mean squared error of all forecasts of steps of the windows."""
        forecasts, total, count = self(x), 0.0, 0
        for ahead in range(1, self.horizon + 1):
            error = x[:, ahead:] - forecasts[:, :-ahead, ahead - 1]
            total, count = total + error.square().sum(), count + error.numel()
        return total / count

    def errors(self, x):
        """Return the error vectors (b, n_scored, k c) of the last steps."""
        return forecast_errors(x, self(x), self.n_scored).flatten(2)

    def learn_gaussian(self, windows):
        """Set the Gaussian to the errors of an iterable of windows (b, l, c)."""
        known = None
        for x in windows:
            found = moments(self.errors(x).flatten(0, 1))
            known = found if known is None else merge_moments(known, found)
        scale, whitening = error_gaussian(*known)
        self.mean.copy_(known[1])
        self.scale.copy_(scale)
        self.whitening.copy_(whitening)

    def anomaly(self, x):
        """Return the squared distances of the error vectors, (b, n_scored)."""
        return self.squared_distances(self.errors(x))

    def map(self, x):
        """Return each channel's sum of squared standard scores, (b, n_scored, c)."""
        return self.squared_scores(self.errors(x))

    def inspect(self, x):
        """Return the anomaly and the map of one forecast."""
        errors = self.errors(x)
        return self.squared_distances(errors), self.squared_scores(errors)

    def squared_distances(self, errors):
        """Return the squared distances (b, n_scored) of error vectors."""
        return ((errors - self.mean) @ self.whitening.T).square().sum(2)

    def squared_scores(self, errors):
        """Return each channel's sum of squared standard scores, (b, n_scored, c)."""
        standard = (errors - self.mean) / self.scale
        return standard.square().unflatten(2, (self.horizon, -1)).sum(2)


@with_parameters
class LSTMForecaster(Forecaster):
    r"""Time steps that a recurrent network did not see coming.

    Stacked LSTMs read the series and forecast, at every step, the next `k` steps of all
    `c` channels. So each step has been forecast `k` times, and its errors,

    .. math:: e(t) = \big(x_i(t) - \hat x_i^{(j)}(t)\big)_{j = 1..k,\, i = 1..c},

    with :math:`\hat x^{(j)}(t)` made at step :math:`t - j`, are a vector that is
    Gaussian where the series is normal. The anomaly is the squared Mahalanobis
    distance to its mean, up to constants twice minus the log-likelihood,

    .. math:: a(t) = (e(t) - \mu)^T \Sigma^{-1} (e(t) - \mu),

    and depends on no later step. ``score_samples`` is :math:`-a`. The map has the
    channels' squared standard scores,
    :math:`\sum_j ((e_{ji}(t) - \mu_{ji}) / \sigma_{ji})^2`, whose sum is the anomaly
    only where errors are uncorrelated: the distance weighs a channel against all
    others, so that in its own parts one wrong channel stains those which used to go
    with it.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    horizon : int, default=10
        Forecasts `k` of each step, at most half of `window_size`.
    hidden_sizes : tuple of int, default=(30, 20)
        Units of the LSTM layers, from the series' side.
    window_size : int, "auto" or "tsb", default=100
        Steps `l` that the network is unrolled over in training, and reads at most
        before a step that it scores; "auto" and "tsb" are the period, see
        :class:`WindowDetector`.
    stride : int, default=10
        Steps between the starts of training windows, at most `window_size`. Every step
        is scored, whatever the stride.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with the Gaussian: `mean` and `scale` of the errors, the
        first forecast's first, and `whitening`, a root of the inverse covariance.

    See Also
    --------
    DeepAnT : One forecast of a convolutional network, and its plain error.
    MatrixProfile : Distance to the nearest window.

    Notes
    -----
    Channels should be on one scale (StandardScaler). The network starts anew every
    ``window_size // 2`` steps and reads at least as many before it scores, so that
    scoring costs two passes over the series, and `score_stream` little memory. Before
    its first step the series is taken to have been constant.

    The Gaussian is of all training steps; the paper's is of steps that are held out,
    and no better on the server machines of the benchmark. Its correlations are shrunk
    a little (oracle approximating shrinkage), since the `k` errors of a step are nearly
    one. Sigma costs O(n (k c)^2), (k c)^2 numbers in memory.

    References
    ----------
    .. [1] P. Malhotra, L. Vig, G. Shroff, P. Agarwal, "Long short term memory networks
       for anomaly detection in time series", ESANN, 2015, section 2.
    .. [2] Y. Chen, A. Wiesel, Y. C. Eldar, A. O. Hero, "Shrinkage algorithms for MMSE
       covariance estimation", IEEE Transactions on Signal Processing, 2010, equation
       (23).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import LSTMForecaster
    >>> X = np.sin(np.arange(500) / 4)[:, None]
    >>> detector = LSTMForecaster(window_size=40, horizon=3, random_state=0)
    >>> X[400] += 1
    >>> int(detector.fit(X[:300]).score_samples(X).argmin())
    400
    """

    _parameter_constraints = {
        "hidden_sizes": [tuple, list],
        "horizon": [Interval(Integral, 1, None, closed="left")],
    }

    hidden_sizes: Sequence[int] = (30, 20)
    horizon: int = 10
    window_size: int | str = 100
    stride: int = 10
    batch_size: int = 32

    def _scored_steps(self):
        return self.window_size_ // 2

    def _network(self, shape):
        return from_parameters(
            self, RecurrentForecaster, shape, n_scored=self._scored_steps()
        )

    def _fit_windows(self, series, labels):
        if 2 * self.horizon > self.window_size_:
            raise ValueError(
                f"horizon={self.horizon} must be at most half of window_size, here "
                f"{self.window_size_}."
            )
        super()._fit_windows(series, labels)

    def _finish(self, network, training):
        network = super()._finish(network, training)
        with torch.no_grad():
            network.learn_gaussian(self._scored_windows(training.given[0]))
        return network

    def _scored_windows(self, X):
        """Yield windows (b, l, c), the last steps of which go through the training."""
        for x in self._trained_series(X):
            windows = sliding(x, self.window_size_, self._scored_steps())
            for rows in slices(len(windows), self._block_rows(self.device_)):
                yield as_tensor(windows[rows]).float().to(self.device_)

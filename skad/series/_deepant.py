"""Convolutional forecaster whose error is the anomaly."""

from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.nn.network import Network
from skad.series._forecaster import Forecaster


def shares_of_distance(difference):
    """Return the parts (b, c) of differences (b, c) that sum to their length."""
    squares = difference.square()
    distance = squares.sum(1, keepdim=True).sqrt()
    return squares / torch.where(distance > 0, distance, 1.0)


class ConvolutionalForecaster(Network):
    """Convolutions and pooling over the history, then a linear forecast."""

    def __init__(self, shape, hidden_sizes, kernel_size, dropout):
        super().__init__()
        n_steps, c = shape[0] - 1, shape[1]
        layers, into = [], c
        for out in hidden_sizes:
            layers += [
                nn.Conv1d(into, out, kernel_size, padding="same"),
                nn.ReLU(),
                nn.MaxPool1d(2, ceil_mode=True),
            ]
            into, n_steps = out, -(-n_steps // 2)
        layers += [nn.Flatten(), nn.Dropout(dropout), nn.Linear(into * n_steps, c)]
        self.layers = nn.Sequential(*layers)

    def difference(self, x):
        """Return the last steps of windows (b, l, c) minus their forecasts, (b, c)."""
        return x[:, -1] - self.layers(x[:, :-1].transpose(1, 2))

    def loss(self, x, y):
        """Return the mean absolute error of the forecasts."""
        return self.difference(x).abs().mean()

    def map(self, x):
        """Return each channel's part of the distance to the forecast, (b, 1, c)."""
        return shares_of_distance(self.difference(x))[:, None]

    def anomaly(self, x):
        """Return the distances to the forecasts, (b, 1)."""
        return distances(self.difference(x))

    def inspect(self, x):
        """Return the anomaly and the map of one forecast."""
        difference = self.difference(x)
        return distances(difference), shares_of_distance(difference)[:, None]


def distances(difference):
    """Return the lengths (b, 1) of differences (b, c)."""
    return difference.square().sum(1, keepdim=True).sqrt()


@with_parameters
class DeepAnT(Forecaster):
    r"""Time steps that a convolutional network forecasts badly.

    A network of convolutions and pooling looks at the :math:`l - 1` steps before a step
    and forecasts all of its `c` channels. It is trained to make the mean absolute error
    small; the anomaly is the distance to the forecast,

    .. math:: a(t) = \lVert x(t) - \hat x(t) \rVert_2,

    and depends on no later step. ``score_samples`` is :math:`-a`. The map has the
    channels' parts :math:`(x_i(t) - \hat x_i(t))^2 / a(t)` of the distance, and sums to
    the anomaly.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    kernel_size : int, default=3
        Steps that a convolution looks at.
    dropout : float, default=0.25
        Share of the features before the forecast that are left out in training.
    hidden_sizes : tuple of int, default=(32, 32)
        Channels of the convolutions; each is followed by a rectifier and by a pooling
        that halves the steps.
    window_size : int, "auto" or "tsb", default=46
        Steps `l` of a window, the last of which is forecast: at least 2. "auto" and
        "tsb" are the period, see :class:`WindowDetector`.
    stride : int, default=1
        Steps between the starts of training windows, at most `window_size`. Every step
        is scored, whatever the stride.
    random_state : int, RandomState instance or None, default=None
        Draws weights, batches and dropout. Pass an int for reproducible results.

    See Also
    --------
    LSTMForecaster : Several forecasts of each step, and how their errors go together.

    Notes
    -----
    Channels should be on one scale (StandardScaler): errors of all channels count
    alike. Scoring costs one pass of the network per step, in `score_stream` too.
    Before its first step the series is taken to have been constant.

    The paper fixes two convolutions of 32 filters, pooling, a linear layer and the
    absolute error, and leaves the kernels open. The window of 45 steps and one more,
    and the dropout, are those of the evaluation [2]_. One step is forecast, as in the
    paper's experiments.

    References
    ----------
    .. [1] M. Munir, S. A. Siddiqui, A. Dengel, S. Ahmed, "DeepAnT: a deep learning
       approach for unsupervised anomaly detection in time series", IEEE Access, 2019,
       section III.
    .. [2] S. Schmidl, P. Wenig, T. Papenbrock, "Anomaly detection in time series: a
       comprehensive evaluation", PVLDB, 2022 (DeepAnT).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import DeepAnT
    >>> X = np.sin(np.arange(500) / 4)[:, None]
    >>> detector = DeepAnT(window_size=30, random_state=0)
    >>> X[400] += 1
    >>> int(detector.fit(X[:300]).score_samples(X).argmin())
    400
    """

    _map_sums_to_score = True
    _network_class = ConvolutionalForecaster
    _parameter_constraints = {
        "hidden_sizes": [tuple, list],
        "kernel_size": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
    }

    hidden_sizes: Sequence[int] = (32, 32)
    kernel_size: int = 3
    dropout: float = 0.25
    window_size: int | str = 46

    def _fit_windows(self, series, labels):
        if self.window_size_ < 2:
            raise ValueError(
                f"window_size={self.window_size_} must be at least 2: a step to "
                "forecast, and one before it."
            )
        super()._fit_windows(series, labels)

"""ICL: whether a stretch of a row's features goes with the rest of them."""

from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import RowNetworkDetector
from skad.nn.network import Network

# Training ends below this mean loss of an epoch.
_LEARNED = 1e-3
# (features up to which, length of a window): as a number, and less than the features.
_LENGTHS = ((40, 2, None), (160, 10, None), (240, None, 150), (480, None, 200))


def window_length(n_features):
    """Return how many features stand together in a window: the authors' steps."""
    for most, length, less in _LENGTHS:
        if n_features <= most:
            return min(n_features - 1, n_features - less if length is None else length)
    return n_features - 400


def match_losses(rests, windows, temperature):
    """Return the cross-entropies (b, p) of telling the window of each rest.

    Of codes (b, p, m) of the rests and of the windows, by the softmax over the windows
    of their cosines over the temperature.
    """
    rests = functional.normalize(rests, dim=2)
    windows = functional.normalize(windows, dim=2)
    likeness = rests @ windows.transpose(1, 2) / temperature  # (b, p, p)
    return likeness.logsumexp(2) - likeness.diagonal(dim1=1, dim2=2)


class WindowEncoder(nn.Module):
    """Linear layers with a batch norm for each window, a tangent, and leaky ReLU."""

    def __init__(self, n_windows, n_inputs, hidden_sizes, code_size):
        super().__init__()
        layers, wide = [], n_inputs
        for i, size in enumerate(hidden_sizes):
            layers += [
                nn.Linear(wide, size, bias=False),
                nn.BatchNorm1d(n_windows),
                nn.LeakyReLU(0.2) if i else nn.Tanh(),
            ]
            wide = size
        self.layers = nn.Sequential(*layers, nn.Linear(wide, code_size, bias=False))

    def forward(self, x):
        """Map (b, p, n_inputs) to codes (b, p, code_size)."""
        return self.layers(x)


class ICLNetwork(Network):
    """An encoder of windows of features, and one of what a window leaves out."""

    def __init__(self, shape, window_size, code_size, hidden_sizes, temperature):
        super().__init__()
        d = shape[0]
        size = window_length(d) if window_size == "auto" else window_size
        n_windows = d - size + 1
        places = torch.arange(n_windows)[:, None] + torch.arange(size)  # (p, k)
        inside = torch.zeros(n_windows, d, dtype=torch.bool)
        inside[torch.arange(n_windows)[:, None], places] = True
        rest = torch.nonzero(~inside)[:, 1].reshape(n_windows, d - size)
        self.register_buffer("places", places, persistent=False)
        self.register_buffer("rest", rest, persistent=False)
        wide = tuple(hidden_sizes or (100, 50))
        half = tuple(max(1, size // 2) for size in wide)
        self.of_rests = WindowEncoder(n_windows, d - size, wide, code_size)
        self.of_windows = WindowEncoder(n_windows, size, half, code_size)
        self.temperature = temperature

    def losses(self, x):
        """Return the loss (b, p) of each window of rows (b, d)."""
        rests = self.of_rests(x[:, self.rest])
        windows = self.of_windows(x[:, self.places])
        return match_losses(rests, windows, self.temperature)

    def loss(self, x, y):
        """Return the mean loss."""
        return self.losses(x).mean()

    def is_learned(self, phase, loss):
        """Tell whether the mean loss of an epoch leaves nothing to learn."""
        return loss < _LEARNED

    def map(self, x):
        """Return each window's share of the mean loss, spread over its features."""
        losses = self.losses(x)
        n_windows, size = self.places.shape
        share = (losses / (n_windows * size))[:, :, None].expand(-1, -1, size)
        found = torch.zeros_like(x)
        return found.index_add(1, self.places.flatten(), share.flatten(1))


@with_parameters
class ICL(RowNetworkDetector):
    r"""Rows in which windows of features do not go with the other features.

    Each row has windows :math:`u_i` of :math:`k` features that stand together, and
    what each leaves out, :math:`v_i`. Encoders :math:`G` of windows and :math:`F` of
    the others are trained so that each window is told from the other windows of its
    row. The loss of a training row and the anomaly of a new one is the mean over the
    :math:`p = d - k + 1` windows,

    .. math:: a(x) = -\frac1p \sum_i \log
        \frac{\exp(\cos(F(v_i), G(u_i)) / \tau)}
        {\sum_j \exp(\cos(F(v_i), G(u_j)) / \tau)}.

    The map spreads the loss of each window over its features and sums to the anomaly. A
    feature that is far out is among the others of all windows but its own, so that the
    map does not always point at it.

    Read more in the :ref:`User Guide <self_supervised>`.

    Parameters
    ----------
    window_size : int or "auto", default="auto"
        Features :math:`k` of a window, fewer than there are. "auto" is the authors'
        choice: 2 of up to 40 features, 10 of up to 160, all but 150 of up to 240, but
        200 of up to 480, but 400 of more.
    code_size : int, default=128
        Length of the codes.
    hidden_sizes : tuple of int or None, default=None
        Units of the layers between of :math:`F`, half as many of :math:`G`; None is
        (100, 50).
    temperature : float, default=0.01
        The temperature :math:`\tau` of the cosines.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its encoders `of_windows` and `of_rests`.

    See Also
    --------
    NeuTraL : Contrasts views of whole rows.

    Notes
    -----
    Features should be on one scale (StandardScaler). Windows follow the order of the
    features, and another order gives other scores; the authors take the mean over
    several orders, which is left to the user here. All windows are compared with each
    other, at any number, so that nothing is drawn. Training ends where an epoch's mean
    loss is below 0.001. Batch normalisation is by window, as in the authors' code.

    With 250 rows of each of ten tables the ROC AUC is .83 in the mean, no more than
    that of the norm of the standardised row, and .52 without training.

    References
    ----------
    .. [1] T. Shenkar and L. Wolf, "Anomaly detection for tabular data with internal
       contrastive learning", ICLR, 2022, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.self_supervised import ICL
    >>> X = np.random.default_rng(0).normal(size=(300, 3)) @ np.eye(3, 6)
    >>> X[:, 3:] = X[:, :3]
    >>> detector = ICL(random_state=0).fit(X)
    >>> detector.predict([[1.0, -1.0, 0.5] * 2, [1.0, -1.0, 0.5, -1.0, 1.0, -0.5]])
    array([ 1, -1])
    """

    window_size: int | str = "auto"
    code_size: int = 128
    hidden_sizes: Sequence[int] | None = None
    temperature: float = 0.01
    max_epochs: int | str = "auto"

    _network_class = ICLNetwork
    _map_sums_to_score = True
    _parameter_constraints = {
        "window_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "code_size": [Interval(Integral, 1, None, closed="left")],
        "temperature": [Interval(Real, 0, None, closed="neither")],
    }

    def _check_parameters(self, X):
        super()._check_parameters(X)
        least = 2 if self.window_size == "auto" else self.window_size + 1
        if X.shape[1] < least:
            raise ValueError(
                f"window_size={self.window_size!r} needs X with at least {least} "
                f"features, got n_features={X.shape[1]}: what a window leaves out has "
                "to go with it."
            )

    def _row_elements(self):
        d = self.n_features_in_
        size = window_length(d) if self.window_size == "auto" else self.window_size
        return max(super()._row_elements(), (d - size + 1) * (d + 2 * self.code_size))

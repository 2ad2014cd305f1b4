"""USAD: two autoencoders with one encoder, trained against each other."""

from collections.abc import Sequence
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.nn.adversarial import AdversarialNetwork, frozen
from skad.nn.architecture import MLP
from skad.series._network import SeriesNetwork


def first_loss(x, first, both, n):
    """Return what the first autoencoder makes small in epoch n."""
    share = 1 / n
    good = functional.mse_loss(first, x)
    return share * good + (1 - share) * functional.mse_loss(both, x)


def second_loss(x, second, both, n):
    """Return what the second autoencoder makes small in epoch n."""
    share = 1 / n
    good = functional.mse_loss(second, x)
    return share * good - (1 - share) * functional.mse_loss(both, x)


class USADNetwork(AdversarialNetwork):
    """One encoder and two decoders, for windows brought to the range 0..1."""

    def __init__(self, shape, latent_size, hidden_sizes, alpha, beta):
        super().__init__()
        size = shape[0] * shape[1]
        if hidden_sizes is None:
            hidden_sizes = max(1, size // 2), max(1, size // 4)
        self.encoder = MLP(shape, (latent_size,), hidden_sizes)
        self.first, self.second = (
            nn.Sequential(
                MLP((latent_size,), shape, tuple(hidden_sizes)[::-1]), nn.Sigmoid()
            )
            for _ in range(2)
        )
        self.alpha, self.beta = alpha, beta
        self.register_buffer("low", torch.zeros(shape[1]))
        self.register_buffer("width", torch.ones(shape[1]))
        self.register_buffer("n_epochs", torch.zeros((), dtype=torch.int64))

    def groups(self, phase):
        return {
            name: [*self.encoder.parameters(), *decoder.parameters()]
            for name, decoder in (("first", self.first), ("second", self.second))
        }

    def begin(self, phase, batches):
        """Set the range of every channel, unless the network is trained already."""
        if self.n_epochs:
            return
        bounds = [(x.amin((0, 1)), x.amax((0, 1))) for x, _ in batches()]
        lows, highs = (torch.stack(parts) for parts in zip(*bounds, strict=True))
        self.low.copy_(lows.amin(0))
        width = highs.amax(0) - self.low
        self.width.copy_(torch.where(width > 0, width, 1.0))

    def scaled(self, x):
        """Return windows with the training range of each channel as 0..1."""
        return (x - self.low) / self.width

    def rebuilt(self, x):
        """Return scaled windows and what the first autoencoder makes of them."""
        x = self.scaled(x)
        return x, self.first(self.encoder(x))

    def updates(self, phase, x, y):
        """Train the first to fool the second, then the second to tell the first."""
        x, n = self.scaled(x), int(self.n_epochs) + 1
        first = self.first(self.encoder(x))
        with frozen(self.second):
            both = self.second(self.encoder(first))
        yield "first", first_loss(x, first, both, n)
        code = self.encoder(x)
        with frozen(self.first):
            both = self.second(self.encoder(self.first(code)))
        yield "second", second_loss(x, self.second(code), both, n)

    def end_epoch(self, phase, batches):
        self.n_epochs += 1

    def map(self, x):
        """Return the weighted errors of both ways, (b, l, c)."""
        x = self.scaled(x)
        first = self.first(self.encoder(x))
        both = self.second(self.encoder(first))
        return self.alpha * (x - first) ** 2 + self.beta * (x - both) ** 2


@with_parameters
class USAD(SeriesNetwork):
    r"""Time steps in windows that two autoencoders, trained as adversaries, amplify.

    An encoder :math:`E` with two decoders makes two autoencoders, :math:`A_i(w) =
    D_i(E(w))`, for windows :math:`w`. In epoch :math:`n` they minimise

    .. math::
        L_1 = \tfrac{1}{n} \lVert w - A_1(w) \rVert^2
              + (1 - \tfrac{1}{n}) \lVert w - A_2(A_1(w)) \rVert^2, \qquad
        L_2 = \tfrac{1}{n} \lVert w - A_2(w) \rVert^2
              - (1 - \tfrac{1}{n}) \lVert w - A_2(A_1(w)) \rVert^2:

    at first both learn to rebuild, later the second learns to tell windows from what
    the first makes of them, and the first to deceive it. The anomaly of a window is

    .. math:: a_w = \alpha \lVert w - A_1(w) \rVert^2
              + \beta \lVert w - A_2(A_1(w)) \rVert^2,

    and that of a step is the mean over the windows that cover it, unless `align` says
    another way. The map is folded in the same way from the squared errors of every
    element with these weights, but takes only the step's own, times `l`; with a window
    of one step it sums to the score. See :class:`WindowDetector`.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    latent_size : int, default=40
        Length of the code.
    alpha : float, default=1.0
        The weight :math:`\alpha` of the first autoencoder alone.
    beta : float, default=0.0
        The weight :math:`\beta` of both, one after the other. More of it finds more,
        with more false alarms; the paper has :math:`\alpha + \beta = 1`.
    hidden_sizes : tuple of int or None, default=None
        Units of the layers between, from the window's side; None is a half and a
        quarter of the window's elements.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network: `encoder`, the decoders `first` and `second`, and for each
        channel `low` and `width`, the range that became 0..1.
    history_ : list of dict
        Epoch, phase, seconds, "first_loss", "second_loss", their sum "train_loss" and,
        with `patience`, "valid_loss".

    See Also
    --------
    LSTMAutoEncoder : One autoencoder that goes from step to step.
    skad.adversarial.GANomaly : The same idea for rows and pictures.

    Notes
    -----
    The decoders end in a sigmoid, which bounds what the second can gain; so each
    channel is brought from its range in the training windows to 0..1 as part of the
    method, and errors are in these units. Values outside of that range cannot be
    rebuilt, which makes them anomalous. Squared errors are means over the elements in
    training, as in the authors' code, and sums in scores. Layers are linear with leaky
    ReLU between.

    The paper scores with ``alpha=0.5, beta=0.5`` and, on its SWaT data, with 12 steps
    and 70 epochs. But the longer the training, the less the second autoencoder rebuilds
    normal windows, and the first alone finds more: weights, window and epochs were
    chosen on five drawn series and the sunspots, where the ROC AUC of steps is .73 with
    them, .65 after 10 epochs, .72 with 50 steps and .59 without training
    (benchmarks/results/defaults_usad.tsv). On other waves, with stretches that are
    faster, backwards or still, the defaults reach .67, and the paper's .41, below the
    .58 of the norm of a step; on 1,000 steps of each of five real series (NAB, UCR
    archive, server machine) .71 and .55, without training .50.

    A `fit` with `warm_start` goes on counting epochs. Training is in float32, scoring
    in the dtype of `X`.

    References
    ----------
    .. [1] J. Audibert, P. Michiardi, F. Guyard, S. Marti and M. A. Zuluaga, "USAD:
       unsupervised anomaly detection on multivariate time series", KDD, 2020,
       algorithms 1 and 2.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import USAD
    >>> X = np.sin(np.arange(300) / 3)[:, None] * [1.0, -1.0]
    >>> X[200:204, 1] = 3.0
    >>> detector = USAD(max_epochs=2, batch_size=16, lr=0.005, random_state=0).fit(X)
    >>> int(detector.score_samples(X).argmin()) in range(198, 206)
    True
    >>> int(detector.transform(X)[200:204].sum(axis=0).argmax())
    1
    """

    _network_class = USADNetwork

    latent_size: int = 40
    hidden_sizes: Sequence[int] | None = None
    alpha: float = 1.0
    beta: float = 0.0
    window_size: int | str = 24
    max_epochs: int = 30

    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "hidden_sizes": [tuple, list, None],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "beta": [Interval(Real, 0, None, closed="left")],
    }

    def _wants_unit_scale(self):
        return False  # the network brings channels to 0..1 itself

    @property
    def _map_sums_to_score(self):
        # the score of a step is of whole windows, its map of the step alone
        return getattr(self, "window_size_", None) == 1

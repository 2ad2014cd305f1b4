"""OmniAnomaly: a recurrent model with hidden states that depend on one another."""

from math import log, pi
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.nn.flow import Flow, Planar
from skad.nn.network import Network
from skad.nn.state_space import NoisyWalk
from skad.series._stepwise import StepwiseNetwork

# What ``max_epochs="auto"`` takes: epochs, which are the authors', or up to so many
# where they see fewer windows than a thousand batches have, held-out ones too.
_EPOCHS, _MOST_EPOCHS, _ENOUGH = 10, 100, 50_000
# Most windows seen at the default sizes: five minutes of a core.
_SEEN, _UNITS_AND_STEPS = 9_000, 500 * 100


def surprise(x, mean, deviation):
    """Return minus the log density of independent Gaussians, element by element."""
    return 0.5 * (((x - mean) / deviation) ** 2 + log(2 * pi)) + deviation.log()


class Recurrent(nn.Module):
    """A GRU and two layers: what has been seen of a series up to each step."""

    def __init__(self, n_channels, hidden_size):
        super().__init__()
        self.recurrence = nn.GRU(n_channels, hidden_size, batch_first=True)
        self.layers = nn.Sequential(
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, hidden_size),
            nn.ReLU(),
        )

    def forward(self, x):
        """Map (b, l, c) to (b, l, hidden_size)."""
        return self.layers(self.recurrence(x)[0])


class OmniAnomalyNetwork(Network):
    """Draws hidden states from what is seen, and says what they make probable."""

    def __init__(
        self, shape, hidden_size, latent_size, n_flows, min_deviation, n_draws
    ):
        super().__init__()
        n_steps, n_channels = shape
        self.floor = min_deviation
        self.encoder = Recurrent(n_channels, hidden_size)
        self.seen = nn.Linear(hidden_size, 2 * latent_size)
        self.previous = nn.Linear(latent_size, 2 * latent_size, bias=False)
        self.flow = Flow(Planar(latent_size) for _ in range(n_flows))
        self.prior = NoisyWalk(n_steps)
        self.decoder = Recurrent(latent_size, hidden_size)
        self.output = nn.Linear(hidden_size, 2 * n_channels)
        self.register_buffer("draws", torch.zeros(n_draws, n_steps, latent_size))

    def gaussian(self, raw):
        """Return the mean and the deviation that a layer's output stands for."""
        mean, deviation = raw.chunk(2, dim=-1)
        return mean, functional.softplus(deviation) + self.floor

    def hidden(self, seen, noise):
        """Return hidden states (b, l, k) made of noise, and their log density (b,).

        `seen` (b, l, 2 k) is what the encoder says of each step. Each draw depends on
        the one before it; then all go through the flow.
        """
        z = torch.zeros_like(noise[..., 0, :]).expand(len(seen), -1)
        steps = []
        for t in range(seen.shape[1]):
            mean, deviation = self.gaussian(seen[:, t] + self.previous(z))
            z = mean + deviation * noise[..., t, :]
            steps.append((z, mean, deviation))
        draws, means, deviations = (
            torch.stack(parts, 1) for parts in zip(*steps, strict=True)
        )  # (b, l, k) each
        z, logdet = self.flow(draws)
        return z, -(surprise(draws, means, deviations).sum(2) + logdet).sum(1)

    def reconstruct(self, x):
        """Return the mean of every element given the mean of the hidden states."""
        seen = self.seen(self.encoder(x))
        z, _ = self.hidden(seen, torch.zeros_like(self.draws[0]))
        return self.gaussian(self.output(self.decoder(z)))[0]

    def surprises(self, x, z):
        """Return how improbable every element (b, l, c) is, given hidden states."""
        return surprise(x, *self.gaussian(self.output(self.decoder(z))))

    def loss(self, x, y):
        """Return minus the evidence lower bound of a step, by one draw."""
        seen = self.seen(self.encoder(x))
        noise = torch.randn(*seen.shape[:2], seen.shape[2] // 2, device=x.device)
        z, log_density = self.hidden(seen, noise)
        surprises = self.surprises(x, z).sum((1, 2))
        bound = self.prior.log_density(z) - log_density - surprises  # (b,)
        return -bound.mean() / x.shape[1]

    def finish(self, batches, held=None):
        """Draw the noise of all scores, the same for every window."""
        self.draws.normal_()

    def map(self, x):
        """Return the mean surprise of every element over the draws, (b, l, c)."""
        seen = self.seen(self.encoder(x))
        total = torch.zeros_like(x)
        for noise in self.draws:  # (l, k)
            total += self.surprises(x, self.hidden(seen, noise)[0])
        return total / len(self.draws)


@with_parameters
class OmniAnomaly(StepwiseNetwork):
    r"""Time steps that a recurrent model with hidden states finds improbable.

    A GRU reads a window :math:`x_1, ..., x_l`, and of what it has seen up to each step
    a Gaussian is made, whose draws :math:`z_t^0 \sim q(z_t^0 | x_{1..t}, z_{t-1}^0)`
    depend on the one before; planar flows bend them to :math:`z_t`. A second GRU reads
    these hidden states and gives a Gaussian of every step, :math:`p(x_t | z_{1..t}) =
    N(\mu_t, \sigma_t^2)`. Before anything is seen, hidden states are a random walk with
    noise, :math:`s_t = s_{t-1} + v_t, \; z_t = s_t + \epsilon_t`. Training maximises
    the evidence lower bound

    .. math:: E_q \Big[ \sum_t \log p(x_t | z_{1..t}) + \log p(z_{1..l})
              - \log q(z_{1..l} | x_{1..l}) \Big],

    and the anomaly is minus the reconstruction probability, summed over channels `i`,

    .. math:: a(t) = -\frac{1}{L} \sum_{j=1}^{L} \sum_i
              \log p(x_{ti} | z_{1..t}^{(j)})

    with draws whose noise is fixed in `fit`, one vector for every position in a window:
    a score is always the same, whatever else is scored. A step is scored at the end of
    the window that ends there, unless `align` says another way. The map has the
    channels apart, and its sum is the anomaly.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    hidden_size : int, default=500
        Units of the GRUs and of the two layers after each.
    latent_size : int, default=3
        Length of a hidden state.
    n_flows : int, default=20
        Planar flows, one after the other; 0 leaves the Gaussian as it is.
    min_deviation : float, default=0.0001
        Least deviation of every Gaussian. Where channels are constant for long, a
        larger one keeps them from outweighing all others.
    n_draws : int, default=1
        Number of draws :math:`L` of a score.
    max_epochs : int or "auto", default="auto"
        Passes over the training windows. "auto" is 10, the authors', or up to 100 until
        50,000 windows are seen, those that are held out among them. Where that is less,
        it is as many as see 9,000 times ``500 / hidden_size`` times ``100 /
        window_size``, and of more windows than that, so many are taken, evenly.
    align : {"mean", "center", "end", "max"}, default="end"
        Which windows speak for a step: all that cover it, in the mean; the one with its
        centre there; the one that ends there, which makes scores causal; or the one
        with the largest sum of anomalies. See :class:`WindowDetector`.
    random_state : int, RandomState instance or None, default=None
        Draws weights, batches and noise. Pass an int for reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network: `encoder`, `flow`, `decoder`, and the noise `draws`.

    See Also
    --------
    LSTMAutoEncoder : Errors of a recurrent network without hidden draws.
    skad.reconstruction.VAE : The same score for rows and pictures.

    Notes
    -----
    Channels should be on one scale; the authors bring them to 0..1 (MinMaxScaler). The
    defaults are theirs, but for `max_epochs`, and meant for a GPU: a window costs about
    :math:`10 \, l \, h^2` multiplications for `h` hidden units, three times that in
    training. Ten epochs of 10,000 steps take most of an hour of a core, "auto" takes
    five minutes however long the series are; scores cost a minute for 4,000 steps. With
    64 units on two channels of spacecraft (P-1 of SMAP, D-14 of MSL) the VUS-PR was
    .295 and .47 after 2,500 windows, .297 and .92 after 5,000, .275 and .91 after
    10,000. A training that will take more than half an hour says so after its first
    steps. There take fewer units, or a larger `stride` with ``align="mean"``: with
    "end", steps between the ends of windows repeat the one before them.

    It needs about a thousand steps of training: after the authors' ten epochs of a
    short series, which are fifty or so, scores are those of random weights. With 16
    units, six series of some 1,200 steps that are not among those reported, drawn waves
    and sunspots, get a ROC AUC of steps of .52 in the mean after 10 epochs, .66 after
    150, without training .49, and the norms of steps .51. Trained with ``lr=3e-3`` on
    1,000 steps of other waves it gets .76, without training .56, the norms .57; on
    those of each of five real series (NAB, UCR archive, server machine) .69,
    without training .53, the norms .50.

    As in the authors' code, draws depend on the draw before it went through the flow,
    so that all steps go through it together, and the hidden states' walk has unit
    noises. The layers after the GRUs have ReLU between, without which two would be one;
    weight decay is on all weights, gradients are not clipped (skorch's
    GradientNormClipping among `callbacks` does that), and the threshold is the quantile
    that `contamination` names; the paper's, from the theory of extreme values, is
    :class:`skad.calibration.SPOT`. Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] Y. Su, Y. Zhao, C. Niu, R. Liu, W. Sun and D. Pei, "Robust anomaly detection
       for multivariate time series through stochastic recurrent neural network", KDD,
       2019, section 3.
    .. [2] D. Rezende and S. Mohamed, "Variational inference with normalizing flows",
       ICML, 2015, equations (10) to (12).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import OmniAnomaly
    >>> X = np.sin(np.arange(300) / 3)[:, None] * [1.0, -1.0]
    >>> X[200:204, 1] = 3.0
    >>> detector = OmniAnomaly(
    ...     hidden_size=16, n_flows=2, window_size=20, batch_size=16, max_epochs=10,
    ...     lr=0.01, random_state=0,
    ... ).fit(X)
    >>> int(detector.score_samples(X).argmin()) in range(200, 204)
    True
    >>> int(detector.transform(X)[200:204].sum(axis=0).argmax())
    1
    """

    hidden_size: int = 500
    latent_size: int = 3
    n_flows: int = 20
    min_deviation: float = 1e-4
    n_draws: int = 1
    window_size: int | str = 100
    align: str = "end"
    max_epochs: int | str = "auto"
    batch_size: int = 50
    weight_decay: float = 1e-4
    validation_fraction: float = 0.3

    _network_class = OmniAnomalyNetwork
    _costly = ("hidden_size",)
    _parameter_constraints = {
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "n_flows": [Interval(Integral, 0, None, closed="left")],
        "min_deviation": [Interval(Real, 0, None, closed="neither")],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
    }

    def _most_seen(self):
        """Return how many windows training sees at most with "auto"."""
        size = 100 if self.window_size == "auto" else self.window_size
        return max(1, int(_SEEN * _UNITS_AND_STEPS / (self.hidden_size * size)))

    def _training_starts(self):
        starts = super()._training_starts()
        if self.max_epochs == "auto":
            starts = starts[:: -(-len(starts) // self._most_seen())]
        return starts

    def _epochs(self, phase):
        return self._epochs_of(len(self._training_starts()))

    def _whole_epochs(self, X):
        return self._epochs_of(X.shape[0])

    def _epochs_of(self, n_windows):
        if self.max_epochs != "auto":
            return self.max_epochs
        wanted = min(max(_EPOCHS, round(_ENOUGH / n_windows)), _MOST_EPOCHS)
        return max(1, min(wanted, round(self._most_seen() / n_windows)))

    def _row_elements(self):
        # the states of both GRUs and of the layers after them
        return self.window_size_ * (4 * self.n_features_in_ + 6 * self.hidden_size)

"""LSTM encoder-decoder: steps that are not rebuilt as others are."""

from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional

from skad._moments import merge_moments, moments
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import from_parameters
from skad.density._covariance import whitening_matrix
from skad.nn.network import Network
from skad.series._stepwise import StepwiseNetwork


class EncoderDecoder(Network):
    """Reads a window, then writes it from its end; a Gaussian knows its errors."""

    def __init__(self, n_channels, hidden_size, teacher_forcing, min_deviation):
        super().__init__()
        self.encoder = nn.LSTM(n_channels, hidden_size, batch_first=True)
        self.decoder = nn.LSTM(n_channels, hidden_size, batch_first=True)
        self.output = nn.Linear(hidden_size, n_channels)
        self.teacher_forcing, self.floor = teacher_forcing, min_deviation**2
        self.register_buffer("error_mean", torch.zeros(n_channels))
        self.register_buffer("error_whitening", torch.eye(n_channels))

    def loss(self, x, y):
        """Return the mean squared error, of a decoder that is told the truth or not."""
        if self.teacher_forcing:
            return functional.mse_loss(self.taught(x), x.flip(1))
        return functional.mse_loss(self.reconstruct(x), x)

    def taught(self, x):
        """Return the last step first, (b, l, c), each from the true one after it."""
        code = self.encoder(x)[1]
        hidden = code[0].transpose(0, 1)  # (b, 1, hidden_size)
        if x.shape[1] > 1:
            later = self.decoder(x.flip(1)[:, :-1], code)[0]
            hidden = torch.cat([hidden, later], 1)
        return self.output(hidden)

    def reconstruct(self, x):
        """Return `x` (b, l, c) as the decoder writes it from its own steps alone."""
        hidden, cell = (state[0] for state in self.encoder(x)[1])  # (b, hidden_size)
        weights = [
            getattr(self.decoder, f"{name}_l0")
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        steps = [self.output(hidden)]
        while len(steps) < x.shape[1]:
            hidden, cell = torch.lstm_cell(steps[-1], (hidden, cell), *weights)
            steps.append(self.output(hidden))
        return torch.stack(steps[::-1], 1)

    def errors(self, x):
        """Return the absolute errors of the reconstruction, (b, l, c)."""
        return (x - self.reconstruct(x)).abs()

    def finish(self, batches, held=None):
        """Fit the Gaussian to the errors of all steps of the training windows."""
        known = None
        for x, _ in batches():
            fresh = moments(self.errors(x).flatten(0, 1))
            known = fresh if known is None else merge_moments(known, fresh)
        n_errors, mean, scatter = known
        covariance = scatter / n_errors
        covariance.diagonal().add_(self.floor)
        scale = covariance.diagonal().sqrt()
        self.error_mean.copy_(mean)
        self.error_whitening.copy_(whitening_matrix(covariance, scale, 1e-12))

    def map(self, x):
        """Return what each channel adds to the distance of a step, (b, l, c)."""
        return ((self.errors(x) - self.error_mean) @ self.error_whitening.T) ** 2


@with_parameters
class LSTMAutoEncoder(StepwiseNetwork):
    r"""Time steps that an LSTM encoder-decoder does not rebuild as it does others.

    An LSTM reads a window :math:`x_1, ..., x_l`; a second one starts from its last
    state and writes the window in reverse, :math:`\hat x_l, ..., \hat x_1`, each step
    from the one it wrote before. Training minimises the squared error. The errors
    :math:`e_t = |x_t - \hat x_t|` of all steps of the training windows give a Gaussian,
    and the anomaly is the distance from it,

    .. math:: a(t) = (e_t - \mu)^T \Sigma^{-1} (e_t - \mu),

    the mean over the windows that cover the step. The map is each channel's part of the
    distance, as in :class:`~skad.density.Mahalanobis`, whose sum is the anomaly.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    hidden_size : int, default=40
        Units of each LSTM.
    teacher_forcing : bool, default=False
        Whether the decoder, in training, is told the true step instead of the one it
        wrote, as in the paper.
    min_deviation : float, default=0.01
        Its square is added to the variances of the errors, so that a channel that is
        rebuilt almost without error does not outweigh all others.
    align : {"mean", "center", "end", "max"}, default="mean"
        Which windows speak for a step: all that cover it, in the mean; the one with its
        centre there; the one that ends there, which makes scores causal; or the one
        with the largest sum of anomalies. See :class:`WindowDetector`.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `decoder` and `output`, and with
        `error_mean` :math:`\mu` and `error_whitening` :math:`W`, :math:`W^T W =
        \Sigma^{-1}`.

    See Also
    --------
    USAD : Two autoencoders that are trained against each other.
    OmniAnomaly : A probabilistic model with hidden states that depend on one another.

    Notes
    -----
    With `teacher_forcing` the next step is easy to write, so that little need be
    learned of the window as a whole, and in scores the decoder loses its way: on series
    136 of the UCR archive VUS-PR is .05 with it and .55 without (windows of 60 steps).

    What is normal may change after training, and is flagged then: .18 of the normal
    steps of machine 1-7 of the Server Machine Dataset after 3 epochs, .20 after 10,
    three in four of them in two stretches where a channel that was at .95 in training,
    with a deviation of .06, is at .5 (``benchmarks/results/thresholds.tsv``).

    Channels should be on one scale (StandardScaler). A score costs a pass of the
    encoder and `l` single steps of the decoder for each window. The paper fits the
    Gaussian to held-out normal windows, here it is fitted to the training windows, and
    it adds no `min_deviation`; the paper reduces several channels to their first
    principal component, which a pipeline with PCA does where it is wanted, and chooses
    `l` and `hidden_size` for each data set. Training is in float32, scoring in the
    dtype of `X`.

    References
    ----------
    .. [1] P. Malhotra, A. Ramakrishnan, G. Anand, L. Vig, P. Agarwal and G. Shroff,
       "LSTM-based encoder-decoder for multi-sensor anomaly detection", ICML Anomaly
       Detection Workshop, 2016, sections 2.1 and 2.2.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import LSTMAutoEncoder
    >>> X = np.sin(np.arange(300) / 3)[:, None] * [1.0, -1.0]
    >>> X[200:204, 1] = 3.0
    >>> detector = LSTMAutoEncoder(
    ...     window_size=20, max_epochs=10, batch_size=16, lr=0.01, random_state=0
    ... ).fit(X)
    >>> int(detector.score_samples(X).argmin()) in range(200, 204)
    True
    >>> int(detector.transform(X)[200:204].sum(axis=0).argmax())
    1
    """

    hidden_size: int = 40
    teacher_forcing: bool = False
    min_deviation: float = 0.01

    _parameter_constraints = {
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "teacher_forcing": ["boolean"],
        "min_deviation": [Interval(Real, 0, None, closed="neither")],
    }

    def _network(self, shape):
        return from_parameters(self, EncoderDecoder, shape[1])

    def _row_elements(self):
        # all states of the encoder are kept while it reads
        return self.window_size_ * (self.n_features_in_ + 2 * self.hidden_size)

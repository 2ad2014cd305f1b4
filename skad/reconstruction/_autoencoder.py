"""Autoencoder: what a narrow network cannot rebuild is anomalous."""

from collections.abc import Callable, Sequence
from numbers import Integral, Real

import torch

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import IncrementalNetworkMixin, ShapedDetector
from skad.nn.architecture import MLP, build
from skad.nn.losses import element_errors, mean_error
from skad.nn.network import Network, over_channels

# On rows: a wide layer, and few slow epochs, as more learn anomalies in the training
# data by heart (benchmarks/results/defaults_autoencoder.tsv).
_UNITS, _EPOCHS, _RATE = (128,), 10, 3e-4


class AutoEncoderNetwork(Network):
    """Encoder and decoder; the error of every element is the map."""

    def __init__(self, shape, latent_size, architecture, hidden_sizes, loss, noise):
        super().__init__()
        sizes = hidden_sizes, True, _UNITS
        self.encoder = build(architecture, shape, (latent_size,), *sizes)
        self.decoder = build(architecture, (latent_size,), shape, *sizes)
        self.error, self.noise = loss, noise
        if self._is_linear():
            torch.nn.init.zeros_(self.decoder.layers[-1].bias)

    def _is_linear(self):
        return isinstance(self.decoder, MLP) and len(self.decoder.output_shape) == 1

    def begin(self, phase, batches):
        """Let a decoder of linear layers begin at the mean sample, on any scale."""
        if not self._is_linear() or self.decoder.layers[-1].bias.any():
            return  # trained before
        n, total = 0, 0.0
        for x, _ in batches():
            n, total = n + len(x), total + x.sum(0)
        self.decoder.layers[-1].bias.data.copy_(total / n)

    def reconstruct(self, x):
        """Return what the decoder makes of the code of `x`."""
        return self.decoder(self.encoder(x))

    @property
    def rebuilds(self):
        """Whether squared errors compare samples and reconstructions."""
        return self.error != "ssim"

    def loss(self, x, y):
        """Return the mean error of the reconstruction, of noisy samples if asked."""
        seen = x + self.noise * torch.randn_like(x) if self.noise else x
        return mean_error(x, self.reconstruct(seen), self.error)

    def map(self, x):
        """Return the error of every element, summed over channels."""
        return over_channels(element_errors(x, self.reconstruct(x), self.error))


@with_parameters
class AutoEncoder(IncrementalNetworkMixin, ShapedDetector):
    r"""Samples that a network with a narrow middle cannot rebuild.

    An encoder :math:`e` maps a sample to a short code and a decoder :math:`d` maps it
    back; both are trained on normal samples to minimise the mean error of the
    reconstruction [1]_. The anomaly is the sum of the map, the error of every element,

    .. math:: a(x) = \sum_i \ell\big(x_i, d(e(x + \epsilon))_i\big),

    with the squared or absolute difference as :math:`\ell`, or one minus the
    structural similarity of the surroundings of a pixel [3]_. Training with noise
    :math:`\epsilon` makes it a denoising autoencoder [2]_; scores are computed without
    noise. Errors of colour images are summed over the channels.

    Read more in the :ref:`User Guide <reconstruction>`.

    Parameters
    ----------
    latent_size : int, default=16
        Length of the code.
    hidden_sizes : tuple of int or None, default=None
        Units or channels of the layers between, from the sample's side; None is (128,)
        for linear layers and (32, 64, 128) for convolutions.
    loss : {"mse", "l1", "ssim"}, default="mse"
        The error :math:`\ell`; "ssim" is for images with values in 0..1.
    max_epochs : int or "auto", default="auto"
        Passes over the training data. "auto" is 10 over rows and 50 over pictures, or
        as many as see about 128,000 samples where that is less, at least one.
    lr : float or "auto", default="auto"
        Learning rate; "auto" is 3e-4 over rows and 1e-3 over pictures.
    noise : float, default=0.0
        Standard deviation of the Gaussian noise that is added in training.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder` and `decoder`.

    See Also
    --------
    skad.subspace.PCAReconstruction : The linear case, in closed form.

    Notes
    -----
    Features should be on one scale (StandardScaler). Training is in float32, scoring in
    the dtype of `X`. Linear layers begin at the mean sample. A network that is trained
    for long learns a few anomalies in the training data by heart, and the identity
    where the code is longer than the sample.
    Over 25 real tables of at most 1,000 normal rows the defaults get a ROC AUC of .716
    where a twentieth of the training rows are anomalies and of .745 where they are
    normal, the network without training .703 and .715. Of narrow layers with 50 epochs
    at ``lr=1e-3`` it is .664 and .753: take more epochs where the training data are
    known to be normal (benchmarks/results/defaults_autoencoder.tsv, which chose the
    defaults). On ten tables that had no say in it the defaults get .82 and .89, the
    network without training .79 and .83, the 50 epochs .85 and .91. With
    linear layers, ``loss="mse"`` and ``weight_decay=0`` the reconstruction spans the
    subspace of the leading principal components [4]_.

    References
    ----------
    .. [1] M. Sakurada and T. Yairi, "Anomaly detection using autoencoders with
       nonlinear dimensionality reduction", MLSDA, 2014.
    .. [2] P. Vincent et al., "Extracting and composing robust features with denoising
       autoencoders", ICML, 2008.
    .. [3] P. Bergmann et al., "Improving unsupervised defect segmentation by applying
       structural similarity to autoencoders", VISAPP, 2019, equation (5).
    .. [4] P. Baldi and K. Hornik, "Neural networks and principal component analysis:
       learning from examples without local minima", Neural Networks, 1989.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.reconstruction import AutoEncoder
    >>> X = np.random.default_rng(0).normal(size=(200, 1)) * np.ones(6)
    >>> detector = AutoEncoder(latent_size=1, max_epochs=50, random_state=0).fit(X)
    >>> detector.predict([[1.0] * 6, [1.0] * 5 + [-1.0]])
    array([ 1, -1])
    >>> int(detector.transform([[1.0] * 5 + [-2.0]]).argmax())
    5
    """

    _network_class = AutoEncoderNetwork
    _map_sums_to_score = True
    _parameter_constraints = {
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "loss": [StrOptions({"mse", "l1", "ssim"})],
        "lr": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
        "noise": [Interval(Real, 0, None, closed="left")],
    }

    latent_size: int = 16
    hidden_sizes: Sequence[int] | None = None
    loss: str = "mse"
    noise: float = 0.0
    batch_size: int = 32
    optimizer: str | Callable = "adamw"
    weight_decay: float = 1e-3
    lr: float | str = "auto"
    max_epochs: int | str = "auto"

    def _optimizer_of(self, phase, group):
        rate = 1e-3 if self.image_shape_ else _RATE
        return {"lr": rate} if self.lr == "auto" else {}

    def _most_epochs(self):
        pictures = getattr(self, "image_shape_", None)  # also asked before a fit
        return super()._most_epochs() if pictures else _EPOCHS

    def _check_parameters(self, X):
        super()._check_parameters(X)
        if self.loss == "ssim" and self.image_shape_ is None:
            raise ValueError("loss='ssim' is for images: pass image_shape.")

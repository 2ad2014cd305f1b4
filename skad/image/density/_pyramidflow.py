"""PyramidFlow: places of a picture that a flow takes far from where normal ones go."""

from collections import OrderedDict
from numbers import Integral, Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._random import generator
from skad._sklearn import Interval, StrOptions
from skad._training import clipped, from_parameters
from skad.image._trained import TrainedImageDetector
from skad.nn.network import Network
from skad.nn.pyramid_flow import (
    build_pyramid,
    compose_pyramid,
    level_sizes,
    pyramid_flow,
)

# Mean and standard deviation of photographs in 0..1, as the authors' by channel.
_PHOTOGRAPHS = 0.45, 0.226


class PyramidFlowNetwork(Network):
    """A flow of the pyramid of a map, and the mean of what it makes of pictures."""

    def __init__(self, shapes, n_levels, n_steps, kernel_size, clamp, volume):
        super().__init__()
        ((n_channels, height, width),) = shapes
        self.shape, self.n_levels = shapes[0], n_levels
        sizes = level_sizes(height, width, n_levels)
        self.flow = pyramid_flow(n_channels, sizes, n_steps, kernel_size, clamp, volume)
        for i, size in enumerate(sizes):
            self.register_buffer(f"template_{i}", torch.zeros(n_channels, *size))

    def transformed(self, x):
        """Return the levels z (b, c, h, w) and the log-determinant (b,) of samples."""
        return self.flow(build_pyramid(x.unflatten(1, self.shape), self.n_levels))

    def loss(self, x, y):
        """Return the mean size of the spectrum of what pairs of pictures differ by."""
        z, _ = self.transformed(x)
        if len(x) < 2:
            return 0.0 * z[0].sum()
        one, other = torch.triu_indices(len(x), len(x), 1)
        apart = [
            (level[one] - level[other]).square().mean(1, keepdim=True) for level in z
        ]
        # no kind of lower precision has a Fourier transform
        return torch.fft.fft2(compose_pyramid(apart).float()).abs().mean()

    def finish(self, batches, held=None):
        """Keep the mean of the training pictures."""
        totals, n = [0.0] * self.n_levels, 0
        for x, _ in batches():
            z, _ = self.transformed(x)
            sums = [level.double().sum(0) for level in z]
            totals = [a + b for a, b in zip(totals, sums, strict=True)]
            n += len(x)
        for template, total in zip(self.templates(), totals, strict=True):
            template.copy_(total / n)

    def templates(self):
        """Return the mean of the training pictures, levels (c, h, w)."""
        return [getattr(self, f"template_{i}") for i in range(self.n_levels)]

    def map(self, x):
        """Return how far places (b, h, w) are from the mean of the training."""
        z, _ = self.transformed(x)
        apart = [
            (level - template).abs().mean(1, keepdim=True)
            for level, template in zip(z, self.templates(), strict=True)
        ]
        return compose_pyramid(apart)[:, 0]


@with_parameters
class PyramidFlow(TrainedImageDetector):
    r"""Places that a flow of the picture's pyramid takes far from the mean picture's.

    The features of a picture, which may be its pixels, become a Laplacian pyramid of
    `n_levels` sizes, and an invertible network of coupling blocks, in each of which the
    levels beside one scale and move it, takes it to :math:`z`. Scales have their mean
    taken off and channels are mixed with determinant 1 or -1, so that the network keeps
    the volume: nothing is lost by making normal pictures alike, and there is no
    likelihood. Training minimises, over pairs of pictures,

    .. math:: \operatorname{mean} \left\lvert \mathcal{F}\left(
        \operatorname{mean}_c \sum_l U_l (z_l - z'_l)^2 \right) \right\rvert,

    where :math:`U_l` enlarges level :math:`l` to the size of the first, as a pyramid is
    composed, and :math:`\mathcal{F}` is the Fourier transform in two dimensions. The
    anomaly of a place is

    .. math:: \operatorname{mean}_c \sum_l U_l \lvert z_l - \bar z_l \rvert

    with the mean :math:`\bar z` of the training pictures. The map is that, interpolated
    to the pixels of the picture, and the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_levels : int, default=4
        Sizes of the pyramid, two at least. The authors take 8 for three and 2 for one
        of the kinds of objects that they test.
    n_steps : int, default=4
        Stacks of blocks; in each, every level is changed once.
    kernel_size : int, default=7
        Height and width of the convolutions, odd.
    clamp : float, default=2.0
        Bound of the logarithm of what a block scales by, before its mean is taken off.
    volume : {"channels", "places"}, default="channels"
        What means of logarithms are over besides pictures: the channels of each place,
        or the places of each channel, as the authors have it for four kinds.
    n_channels : int, default=16
        Channels that ``backbone="orthogonal"`` makes of those of a picture, as many at
        least.
    backbone : str or torch.nn.Module, default="orthogonal"
        What describes the places: "orthogonal" is a fixed random convolution of 1 x 1
        with orthogonal columns, of the pixels, which needs no weights; "gabor" is the
        bank of filters; and others as for :class:`PatchCore`.
    layers : tuple of str or None, default=None
        Names of the layers whose maps are joined, at the places of the first; None is
        the first of a ResNet, as in the authors' code, and all of the bank of filters.
    batch_size : int, default=2
        Pictures of a training step, all pairs of which are compared, two at least; and
        that are scored together. Bounds the memory.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels. The paper does
        not smooth.
    random_state : int, RandomState instance or None, default=None
        Draws weights, the orthogonal convolution and batches. Pass an int for
        reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `flow` and `templates`.

    See Also
    --------
    CSFlow : The likelihood of a flow over several scales.
    FastFlow : The likelihood of a flow for each layer.

    Notes
    -----
    Pictures have to be aligned: what differs from the mean picture is anomalous where
    it is. The logarithms of a training batch add up to zero; in scoring a running mean
    takes the place of theirs, as in the authors' code.

    The authors' pictures have 256 pixels with the orthogonal convolution, and 1,024
    with a ResNet-18, whose first layer has 256 places then: pass `image_size`. They
    turn and mirror pictures of textures, choose `n_levels` and `volume` by the kind of
    object, and report the epoch that is best on the test set; here nothing is turned,
    both are parameters, and the last epoch counts. Where a block looks at a finer
    level, its logarithms are brought to the size of the coarser one before their mean
    is taken, so that either kind of volume is kept to the last bit. Sizes that cannot
    be halved are rounded up. Gradients longer than 1 are shortened. Training is in
    float32, scoring in the dtype of `X`.

    On 31 cookies at 64 x 64 four epochs take 14 CPU seconds: the ROC AUC of 44 others
    is .95, as that of the distance to the mean picture, .91 without training, and of
    their pixels .89; two epochs on a ResNet-18 reach .95 and .95. Magnetic tiles, which
    are not aligned, it does not tell: .54, and .68 with the ResNet. Of 14 new good
    cookies it flags one.

    References
    ----------
    .. [1] J. Lei, X. Hu, Y. Wang and D. Liu, "PyramidFlow: high-resolution defect
       contrastive localization using pyramid normalizing flow", CVPR, 2023, section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import PyramidFlow
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = PyramidFlow(
    ...     n_levels=2, n_steps=1, n_channels=4, max_epochs=3, random_state=0
    ... )
    >>> detector.fit(good).predict(bad)
    array([-1])
    """

    _own_backbone = "orthogonal"
    _resnet_layers = ("layer1",)
    _network_class = PyramidFlowNetwork
    _optimizer_options = {"betas": (0.5, 0.9), "eps": 1e-4}
    _parameter_constraints = {
        "n_levels": [Interval(Integral, 2, None, closed="left")],
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "kernel_size": [Interval(Integral, 1, None, closed="left")],
        "clamp": [Interval(Real, 0, None, closed="neither")],
        "volume": [StrOptions({"channels", "places"})],
        "n_channels": [Interval(Integral, 1, None, closed="left")],
    }

    n_levels: int = 4
    n_steps: int = 4
    kernel_size: int = 7
    clamp: float = 2.0
    volume: str = "channels"
    n_channels: int = 16
    backbone: str | torch.nn.Module | type = "orthogonal"
    batch_size: int = 2
    max_epochs: int = 15
    lr: float = 2e-4
    weight_decay: float = 1e-5
    smoothing: float = 0.0

    def _check_parameters(self, X):
        super()._check_parameters(X)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={self.kernel_size} must be odd.")
        if self.batch_size < 2:
            raise ValueError(
                "batch_size=1 has no pairs of pictures, which are compared."
            )

    def _own_embedding(self):
        made = super()._own_embedding()
        if self.backbone != "orthogonal":
            return made
        if self.weights is not None:
            raise ValueError(
                "backbone='orthogonal' has no weights: leave weights=None."
            )
        norms = _PHOTOGRAPHS if self.normalization == "auto" else self.normalization
        return made.set_params(
            backbone=nn.Sequential(OrderedDict(places=self._orthogonal())),
            layers=self.layers or ("places",),
            normalization=norms,
        )

    def _orthogonal(self):
        """Return a convolution of 1 x 1 with orthogonal columns."""
        n_seen, n = self.image_shape_[2], self.n_channels
        if n < n_seen:
            raise ValueError(f"n_channels={n} is below the {n_seen} channels of X.")
        draws = generator(self.random_state).normal(size=(n, n_seen))
        columns, _ = torch.linalg.qr(torch.tensor(draws))
        layer = nn.Conv2d(n_seen, n, 1, bias=False)
        with torch.no_grad():
            layer.weight.copy_(columns[..., None, None])
        return layer

    def _layers(self, x):
        return [self.embedding_.embed(x).movedim(-1, 1)]

    def _network(self, shapes):
        return from_parameters(self, PyramidFlowNetwork, shapes)

    def _own_callbacks(self, phase, n_epochs):
        return clipped(1.0)

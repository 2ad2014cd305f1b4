"""CutPaste: pictures with a piece of themselves elsewhere, told from whole ones."""

from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np
import torch
from sklearn.covariance import ledoit_wolf
from torch import nn
from torch.nn import functional

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import warm_cosine
from skad._training._pictures import PictureNetworkDetector
from skad.embedding._resnet import ResNet
from skad.nn.architecture import build
from skad.nn.cut_paste import cut_and_paste, rectangles, scars
from skad.nn.network import FromMeanNetwork

# What stands beside whole pictures in training.
_MADE = {"cutpaste": [rectangles], "scar": [scars], "3way": [rectangles, scars]}


class ResNet18(nn.Module):
    """A ResNet-18 without trained weights: the means of its last maps, and a layer.

    Parameters
    ----------
    input_shape : tuple of int
        (c, h, w) of pictures.
    output_shape : tuple of int
        (size,) of what they are mapped to; 512 are the means themselves.
    bias : bool, default=True
        Whether the layer behind has bias terms.
    """

    def __init__(self, input_shape, output_shape, bias=True):
        super().__init__()
        self.body = ResNet("resnet18", ("layer4",))
        self.body.conv1 = nn.Conv2d(input_shape[0], 64, 7, 2, 3, bias=False)
        (size,) = output_shape
        self.head = nn.Identity() if size == 512 else nn.Linear(512, size, bias=bias)

    def forward(self, x):
        """Map (b, *input_shape) to (b, *output_shape)."""
        return self.head(self.body(x)[0].mean((2, 3)))


class CutPasteNetwork(FromMeanNetwork):
    """An encoder, a classifier of what was done, and the Gaussian of whole pictures."""

    def __init__(self, shape, variant, architecture, hidden_sizes, code_size):
        super().__init__(shape)
        self.variant = variant
        architecture = ResNet18 if architecture == "auto" else architecture
        self.encoder = build(architecture, shape, (code_size,), hidden_sizes)
        layers, n = [], code_size
        for size in (code_size, max(1, code_size // 4)):
            layers += [nn.Linear(n, size), nn.BatchNorm1d(size), nn.ReLU()]
            n = size
        self.head = nn.Sequential(*layers, nn.Linear(n, 1 + len(_MADE[variant])))
        self.register_buffer("mean", torch.zeros(code_size))
        self.register_buffer("precision", torch.zeros(code_size, code_size))

    def loss(self, x, y):
        """Return the cross-entropy of what was done to pictures, if anything."""
        made = [cut_and_paste(x, draw)[0] for draw in _MADE[self.variant]]
        kinds = torch.arange(1 + len(made), device=x.device)
        logits = self.head(self.encoder(torch.cat([x, *made])))
        return functional.cross_entropy(logits, kinds.repeat_interleave(len(x)))

    def finish(self, batches, held=None):
        """Take the Gaussian of the codes of whole pictures."""
        super().finish(batches, held)
        codes = torch.cat([self.encoder(x) for x, _ in batches()]).double()
        covariance = ledoit_wolf(codes.cpu().numpy())[0]
        precision = np.linalg.pinv(covariance, hermitian=True)
        self.mean.copy_(codes.mean(0))
        self.precision.copy_(torch.as_tensor(precision))

    def anomaly(self, x):
        """Return the squared Mahalanobis distance of the codes, (b,)."""
        away = self.encoder(x) - self.mean
        return ((away @ self.precision) * away).sum(1)


@with_parameters
class CutPaste(PictureNetworkDetector):
    r"""Pictures with codes unlike those of whole ones, told from cut and pasted ones.

    An encoder and a classifier learn to tell the training pictures from copies in which
    a rectangle of the picture itself is pasted elsewhere, and from those with a scar, a
    thin one that is turned [1]_. With the mean :math:`\mu` and the covariance
    :math:`\Sigma` of the codes :math:`f(x)` of training pictures, the anomaly is

    .. math:: a(x) = (f(x) - \mu)^\top \Sigma^{-1} (f(x) - \mu).

    The map is its integrated gradients on the way from the mean training picture: their
    sum is the anomaly less that of the mean, up to the error of the quadrature.

    Read more in the :ref:`User Guide <self_supervised>`.

    Parameters
    ----------
    variant : {"3way", "cutpaste", "scar"}, default="3way"
        What whole pictures are told from: both kinds, each by itself, or one of them.
    code_size : int, default=512
        Length of the codes.
    architecture : {"auto", "conv", "mlp"} or class, default="auto"
        The encoder. "auto" is a ResNet-18 without trained weights. A class of modules
        is called with the shapes (without the axis of samples) that it has to lead from
        and to.
    hidden_sizes : tuple of int or None, default=None
        Channels of the layers between, of others than the ResNet.
    max_epochs : int or "auto", default=256
        Passes over the training pictures.
    lr : float, default=0.03
        Learning rate, which falls to zero as half a cosine does.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder`, `head`, `mean` and `precision`.

    See Also
    --------
    GEOM : Pixels of the whole picture are moved.
    skad.density.Mahalanobis : The same distance of features.

    Notes
    -----
    The authors published no code. Scars have their sizes, 2 to 16 by 10 to 25 pixels,
    where pictures have 256, and are smaller in proportion. Brightness, contrast or
    saturation of a piece changes by up to a tenth; the paper jitters and shifts whole
    pictures as well. An epoch is one pass here, and 256 steps in the paper. The
    covariance is Ledoit and Wolf's, so that fewer pictures than `code_size` will do.
    It takes that long: after 10 epochs of 100 magnetic tiles at 64 x 64 the ROC AUC is
    .56, without training .65, and the distance to the mean picture has .54. It is for
    defects: of 300 pictures of a class of Fashion-MNIST, others are told by 10 epochs
    with .85, by the distance to the mean picture with .89.
    The paper's second network for maps, which looks at pieces of 64 pixels, is not
    built.

    References
    ----------
    .. [1] C.-L. Li, K. Sohn, J. Yoon and T. Pfister, "CutPaste: self-supervised
       learning for anomaly detection and localization", CVPR, 2021, sections 2 and 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.self_supervised import CutPaste
    >>> X = np.random.default_rng(0).uniform(size=(30, 16, 16)) * np.arange(16) / 16
    >>> small = {"architecture": "conv", "hidden_sizes": (4, 8), "code_size": 8}
    >>> detector = CutPaste(**small, max_epochs=2, random_state=0).fit(X)
    >>> detector.transform(X[:2]).shape
    (2, 16, 16)
    """

    variant: str = "3way"
    code_size: int = 512
    architecture: str | Callable = "auto"
    hidden_sizes: Sequence[int] | None = None
    max_epochs: int | str = 256
    batch_size: int = 32
    lr: float = 0.03
    optimizer: str | Callable = "sgd"
    weight_decay: float = 3e-5

    _network_class = CutPasteNetwork
    _optimizer_options = {"momentum": 0.9}
    _parameter_constraints = {
        "variant": [StrOptions(set(_MADE))],
        "code_size": [Interval(Integral, 1, None, closed="left")],
    }

    def _own_callbacks(self, phase, n_epochs):
        return warm_cosine(n_epochs, warm=0, end=0.0)

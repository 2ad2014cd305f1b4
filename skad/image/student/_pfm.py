"""PFM: places that two networks describe in ways that do not go together."""

from collections.abc import Sequence
from itertools import pairwise
from numbers import Integral

from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._training import from_parameters
from skad.image._trained import split_maps
from skad.image.student._two_networks import TwoNetworksDetector
from skad.nn.distillation import squared
from skad.nn.flow import codes_of_places
from skad.nn.residual import convolution, resized
from skad.nn.statistics import SettledNetwork

# Times `lr`, for the first layer's mappings.
_FIRST_LAYER = 10


class Mappings(nn.Module):
    """Maps the features of one network to the other's, and back, place by place.

    Parameters
    ----------
    shape, other : tuple of int
        (c, h, w) of both networks' maps.
    latent_size : int
        Channels of the layer in the middle, which both ways share.
    position : bool
        Whether the place is added to what is mapped.
    """

    def __init__(self, shape, other, latent_size, position):
        super().__init__()
        shapes = shape, other
        widths = [each[0] // 2 + latent_size for each in shapes]
        self.into, self.out = nn.ModuleList(), nn.ModuleList()
        for (channels, *_), wide in zip(shapes, widths, strict=True):
            self.into.append(self._layers(channels, wide, 2 * latent_size))
            out = self._layers(latent_size, 2 * latent_size, wide)
            self.out.append(nn.Sequential(*out, nn.Conv2d(wide, channels, 1)))
        self.shared = nn.Conv2d(2 * latent_size, latent_size, 1)
        self.position = position
        for i, each in enumerate(shapes if position else ()):
            self.register_buffer(f"places{i}", codes_of_places(*each))

    def _layers(self, *widths):
        parts = []
        for into, out in pairwise(widths):
            parts += [convolution(into, out, 1), nn.ReLU()]
        return nn.Sequential(*parts)

    def forward(self, first, second):
        """Return both maps (b, c, h, w) as the other one says that they are."""
        found = []
        for i, maps in enumerate((first, second)):
            if self.position:
                maps = maps + getattr(self, f"places{i}").to(maps)
            found.append(self.out[1 - i](self.shared(self.into[i](maps))))
        return found[1], found[0]


class PFMNetwork(SettledNetwork):
    """Mappings of each layer, of maps whose places have length one."""

    def __init__(self, shapes, size, latent_sizes, position):
        super().__init__()
        self.shapes, self.size = shapes, size
        n = len(shapes) // 2
        sizes = [latent_sizes[min(i, len(latent_sizes) - 1)] for i in range(n)]
        pairs = zip(shapes[:n], shapes[n:], sizes, strict=True)
        self.layers = nn.ModuleList(Mappings(*pair, position) for pair in pairs)

    def groups(self, phase):
        """Return the parameters of the first layer, and of the others."""
        parts = {"first": self.layers[0].parameters()}
        if len(self.layers) > 1:
            parts["others"] = self.layers[1:].parameters()
        return parts

    def errors(self, x):
        """Return of each layer both networks' squared errors (b, c, h, w)."""
        maps, n = split_maps(x, self.shapes), len(self.layers)
        found = []
        for mappings, *pair in zip(self.layers, maps[:n], maps[n:], strict=True):
            said = mappings(*pair)
            found.append([squared(*each) for each in zip(pair, said, strict=True)])
        return found

    def losses(self, x):
        """Return the mean squared error of each layer, both ways added."""
        return [sum(one.mean() for one in pair) for pair in self.errors(x)]

    def loss(self, x, y):
        """Return the sum over the layers."""
        return sum(self.losses(x))

    def updates(self, phase, x, y):
        """Yield the loss of the first layer, and of the others."""
        first, *others = self.losses(x)
        yield "first", first
        if others:
            yield "others", sum(others)

    def map(self, x):
        """Return the mean over ways and layers of the errors' lengths, (b, h, w)."""
        layers = (
            sum(one.sum(1) for one in pair) / len(pair) for pair in self.errors(x)
        )
        return sum(resized(one, self.size) for one in layers) / len(self.layers)


@with_parameters
class PFM(TwoNetworksDetector):
    r"""Places that two frozen networks describe in ways that do not go together.

    Two networks that have learned from other pictures describe the same picture; at
    each place of a layer l their features, at length one, are :math:`a_l` and
    :math:`b_l`. On normal pictures small networks, which see one place at a time, learn
    to map them to each other: :math:`\hat b_l` of :math:`a_l`, and :math:`\hat a_l` of
    :math:`b_l`, through a layer in the middle that both ways share. They make the mean
    of the squared errors small. What goes with what in a defect they have not seen: the
    anomaly of a place is

    .. math:: \frac1L \sum_l \tfrac12 \left(\|a_l - \hat a_l\|^2
        + \|b_l - \hat b_l\|^2\right),

    where layers are interpolated to the size of the picture [1]_. The map is that, and
    the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    latent_sizes : tuple of int, default=(200, 400, 900)
        Channels in the middle, of each layer; the last stands for all that follow.
    position : bool, default=False
        Whether a code of the place, of sines and cosines, is added to what is mapped
        [2]_: for aligned pictures.
    lr : float, default=0.0003
        Learning rate; that of the first layer is ten times as large.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels. The paper does
        not smooth.
    random_state : int, RandomState instance or None, default=None
        Draws weights and batches. Pass an int for reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with the mappings of its `layers`.

    See Also
    --------
    STFPM : A student that sees the picture, not what another network says of it.
    ReverseDistillation : The student sees one small map.

    Notes
    -----
    Nothing larger than 1 x 1 is convolved, and both networks see each picture once: the
    training is a regression of places. It wants two networks that know pictures. With
    the defaults, filters and random weights, it runs, and no more: drawn textures are
    told with a ROC AUC of .62, where mappings that are not trained have .67 and the
    distance to the nearest picture .55; of cookies at 64 x 64, after 30 epochs, 3 of 14
    new good ones are flagged.

    At 64 x 64, with a ResNet-18 ("layer2" and "layer3") and a MobileNetV2 whose two
    layers have the same grids, 31 cookies train it in 13 CPU seconds, 50 epochs: 46
    others are told with a ROC AUC of .97 and their pixels with .89, and with
    ``position=True`` with .98 and .90; PatchCore has .94 and .90, the distance to the
    mean picture .95, mappings that are not trained .93 and .87. 80 magnetic tiles are
    told with .83 and their pixels with .69 after 20 epochs, and with .68 and .63 before
    them; PatchCore has .87 and .75.

    The paper's networks are a ResNet-34 and a ResNet-50. Features count at length one,
    and layers as means over both ways, in the authors' code, which is followed here. A
    network of other strides is interpolated to the first's grids. Batch norms take
    their statistics from all training pictures, as in :class:`STFPM`. Where the place
    is told the authors' first layer has the rate of the others. Training is in float32,
    scoring in the dtype of `X`.

    References
    ----------
    .. [1] Q. Wan, L. Gao, X. Li and L. Wen, "Unsupervised image anomaly detection and
       segmentation based on pre-trained feature mapping", IEEE Transactions on
       Industrial Informatics, 2022.
    .. [2] Q. Wan, Y. Cao, L. Gao, W. Shen and X. Li, "Position encoding enhanced
       feature mapping for image anomaly detection", CASE, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import PFM
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = PFM(latent_sizes=(16,), max_epochs=10, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _parameter_constraints = {
        "latent_sizes": [tuple, list],
        "position": ["boolean"],
    }

    latent_sizes: Sequence[int] = (200, 400, 900)
    position: bool = False
    max_epochs: int = 200
    batch_size: int = 8
    lr: float = 3e-4
    weight_decay: float = 1e-5
    smoothing: float = 0.0

    def _check_parameters(self, X):
        super()._check_parameters(X)
        sizes = self.latent_sizes
        if not sizes or any(not isinstance(n, Integral) or n < 1 for n in sizes):
            raise ValueError(
                f"latent_sizes={sizes} must be one positive integer or more."
            )

    def _layers(self, x):
        maps, others = (each.feature_maps(x) for each in (self.embedding_, self.other_))
        others = [
            F.interpolate(one, like.shape[2:], mode="bilinear")
            if one.shape[2:] != like.shape[2:]
            else one
            for one, like in zip(others, maps, strict=True)
        ]
        return [F.normalize(one, dim=1) for one in (*maps, *others)]

    def _network(self, shapes):
        size = self.embedding_.input_size
        return from_parameters(self, PFMNetwork, shapes, size)

    def _optimizer_of(self, phase, group):
        return {"lr": _FIRST_LAYER * self.lr} if group == "first" else {}

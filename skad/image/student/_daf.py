"""DAF: how a student's maps differ from its teacher's, and a network that reads it."""

from collections.abc import Callable
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import warm_then_lower
from skad.image._trained import split_maps
from skad.image.student._stfpm import StudentDetector
from skad.nn.corruption import TexturePaste
from skad.nn.distillation import Normaliser
from skad.nn.losses import ssim_map
from skad.nn.network import Network
from skad.nn.residual import (
    convolution,
    direction_distance,
    from_fine_to_coarse,
    initialize,
    resized,
    stacked,
)
from skad.nn.segmentation import balanced_cross_entropy
from skad.nn.statistics import settle_norms


def dissimilarity(teacher, student):
    """Return one minus the structural similarity of maps, (b, c, h, w).

    Every channel of a picture is divided by its largest absolute value first.
    """

    def scaled(x):
        return x / x.abs().amax((2, 3), keepdim=True).clamp(min=1e-6)

    return 1 - ssim_map(scaled(teacher), scaled(student))


class Ascent(nn.Module):
    """From the coarsest of some maps up to the picture, each map beside on its way.

    Parameters
    ----------
    shapes : list of tuple
        (c, h, w) of the maps, the coarsest first.
    size : tuple of int
        (h, w) of the picture.
    channels : int
        Of what comes in and of the first stage; each later stage has half as many.
    """

    def __init__(self, shapes, size, channels):
        super().__init__()
        sizes = [tuple(each) for _, *each in shapes]
        halfway = tuple(
            max(n, -(-m // 2)) for n, m in zip(sizes[-1], size, strict=True)
        )
        self.sizes, self.size = [*sizes, halfway], tuple(size)
        self.stages, into = nn.ModuleList(), channels
        for i, (c, *own) in enumerate(shapes):
            between = 0 < i < len(shapes) - 1
            if i:
                channels = max(1, channels // 2)
            if between:
                steps = zip(own, self.sizes[i + 1], strict=True)
                stride = tuple(-(-m // n) for n, m in steps)
                stage = convolution(into + c, channels, 1, stride, up=True)
            else:
                stage = convolution(into + c, channels, 1 if i else 3)
            self.stages.append(stage)
            into = channels
        self.last = nn.Conv2d(into, 1, 1)

    def forward(self, x, maps):
        """Return logits (b, h, w) of a map (b, c, h, w) and maps, coarsest first."""
        x = F.interpolate(x, self.sizes[0], mode="bilinear")
        for i, (stage, own) in enumerate(zip(self.stages, maps, strict=True)):
            h, w = size = self.sizes[i + 1]
            x = torch.cat([x, own], 1)
            if not isinstance(stage[0], nn.ConvTranspose2d):
                x = F.interpolate(x, size, mode="bilinear")
            x = F.relu(stage(x)[..., :h, :w])
        return self.last(F.interpolate(x, self.size, mode="bilinear"))[:, 0]


class DAFNetwork(Network):
    """A student of altered pictures, and what reads where it differs."""

    def __init__(self, normaliser, student, shapes, channels, weight):
        super().__init__()
        self.normaliser, self.student, self.shapes = normaliser, student, shapes
        self.size, self.weight = tuple(shapes[0][1:]), weight
        self.order = from_fine_to_coarse(shapes[1:])[::-1]  # the coarsest first
        known = [shapes[1 + i] for i in self.order]
        self.grid = known[-1][1:]
        self.n_joined = max(shape[0] for shape in known)
        self.smooth = convolution(self.n_joined, channels, 1)
        self.ascent = Ascent(known, self.size, channels)
        self.sides = nn.ModuleList(
            nn.Sequential(
                *convolution(c, max(1, c // 4)),
                nn.ReLU(),
                nn.Conv2d(max(1, c // 4), 1, 1),
            )
            for c, *_ in shapes[1:]
        )
        for part in (self.smooth, self.ascent, self.sides):
            initialize(part)
        self.corruption = TexturePaste(0.8)

    def known(self, x):
        """Return what teacher and student say of samples, lists (b, c, h, w)."""
        picture, *maps = split_maps(x, self.shapes)
        return maps, self.student(self.normaliser(picture))

    def discrepancies(self, maps, own):
        """Return for each layer the dissimilarity (b, c, h, w), and the angle's."""
        pairs = list(zip(maps, own, strict=True))
        return [(dissimilarity(*pair), direction_distance(*pair)) for pair in pairs]

    def segmented(self, apart, own):
        """Return the logits (b, h, w) of pixels, from discrepancies and own maps."""
        joined = 0.0
        for form, angle in apart:
            both = form + angle[:, None]
            c = both.shape[1]
            both = both.repeat(1, -(-self.n_joined // c), 1, 1)[:, : self.n_joined]
            joined = joined + F.interpolate(both, self.grid)
        joined = F.relu(self.smooth(joined))
        return self.ascent(joined, [own[i] for i in self.order])

    def loss(self, x, y):
        """Return the losses of normal places, of the mask, and of the sides."""
        picture, *maps = split_maps(x, self.shapes)
        seen, mask = self.corruption(picture)
        mask = mask.to(x)
        own = self.student(self.normaliser(seen))
        apart, total = self.discrepancies(maps, own), 0.0
        for form, angle in apart:
            normal = 1 - F.interpolate(mask[:, None], angle.shape[1:])[:, 0]
            both = angle + form.mean(1)
            total = total + (normal * both).sum() / normal.sum().clamp(min=1)
        total = total + balanced_cross_entropy(self.segmented(apart, own), mask)
        for side, each in zip(self.sides, own, strict=True):
            said = resized(side(each)[:, 0], self.size)
            total = total + balanced_cross_entropy(said, mask)
        return total

    def finish(self, batches, held=None):
        """Take the statistics of norms from all pictures, altered as in training."""
        settle_norms(self, (x for x, _ in batches()))

    def map(self, x):
        """Return the sum of discrepancies, and the weighted probability, (b, h, w)."""
        maps, own = self.known(x)
        apart = self.discrepancies(maps, own)
        layers = [form.mean(1) + angle for form, angle in apart]
        altered = self.segmented(apart, own).sigmoid()
        return stacked(layers, self.size).sum(0) + self.weight * altered


@with_parameters
class DAF(StudentDetector):
    r"""Patches that a student describes otherwise, and a network that reads where.

    A frozen teacher gives maps :math:`T^l` of a picture, and a student, which is shown
    the picture with pasted textures, gives :math:`S^l` [1]_. The discrepancy

    .. math:: D^l = 1 - \mathrm{SSIM}(\bar T^l, \bar S^l) + 1 - \cos(T^l, S^l)

    has the structural similarity of each channel, divided by its largest value, and the
    cosine of each place. The student learns to make it small where the picture is as it
    was. A second network reads the :math:`D^l`, joined and brought to the coarsest
    grid, on its way up to the picture, beside the :math:`S^l`, and learns where the
    textures are, and so does a small head of each :math:`S^l` by itself, whose only use
    is in training. With the probability :math:`p` of the second network the map is

    .. math:: M = \sum_l D^l + \lambda p,

    the mean over channels, each interpolated to the size of the picture, smoothed; the
    score is the mean of its largest pixels.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    segmenter_channels : int, default=256
        Channels of the second network, of which later stages have half and a quarter.
    weight : float, default=3.0
        :math:`\lambda`; 0 leaves the discrepancy.
    lr : float, default=0.0002
        Learning rate. It rises in the first 1/24 of the epochs, and is multiplied by
        0.2 after 7/12 and 5/6.
    quantile : float, default=0.9992
        The score is the mean of the map's values above it: of 256 x 256 pixels, some 50
        as the authors take.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The teacher: what describes the patches.
    net_ : torch.nn.Module
        The trained network, with its `student`, `smooth`, `ascent` and `sides`.

    See Also
    --------
    DeSTSeg : First the student, then a head over products of both.
    STFPM : The student alone.

    Notes
    -----
    Facts are those of the authors' code. A texture stands where Perlin noise exceeds
    0.5, as in :class:`DeSTSeg`, which says where textures come from. Channels of
    narrower layers are repeated up to the widest's before the layers are added. The
    network on the way up has a 3 x 3 convolution, transposed ones and, last, one of
    single places. The loss is the sum of: for each layer, the mean discrepancy of
    places outside of the mask; the cross-entropy of the mask, of altered pixels and of
    three times as many of the hardest others; and that of each small head.

    Departures: the code compares masks of all pairs of pictures of a batch, an effect
    of shapes, here each picture has its own; small heads are interpolated before the
    sigmoid instead of behind it; a constant of the loss is left out; where a channel
    has negative values, as with the bank of filters, the largest absolute one scales
    it. With our ResNets the student is of the same architecture, any other backbone has
    a student of `student_channels`. Batch norms take their statistics from all
    training pictures, altered as in training, when it has ended. Training is in
    float32, scoring in the dtype of `X`.

    It wants many steps. 31 cookies at 64 x 64 train it with a ResNet-18 in 26 CPU
    seconds, 20 epochs with batches of 4: 46 others are told with a ROC AUC of .81 and
    their pixels with .26, and 2 of 14 good ones are flagged. After 40 epochs with
    ``lr=0.002``, which these pictures chose, it is .88 and .81; the distance to the
    mean picture has .90, :class:`DeSTSeg` 1.00 in twice the time. At the paper's size
    it is unmeasured.

    References
    ----------
    .. [1] Y. Cai, D. Liang, D. Luo, X. He, X. Yang and X. Bai, "A discrepancy aware
       framework for robust anomaly detection", IEEE Transactions on Industrial
       Informatics, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import DAF
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = DAF(
    ...     layers=["scale1", "scale2"],
    ...     student_channels=(16, 32),
    ...     segmenter_channels=16,
    ...     max_epochs=20,
    ...     batch_size=5,
    ...     lr=0.003,
    ...     smoothing=1,
    ...     random_state=0,
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _kind = "pixels+maps"
    _parameter_constraints = {
        "segmenter_channels": [Interval(Integral, 1, None, closed="left")],
        "weight": [Interval(Real, 0, None, closed="left")],
    }

    segmenter_channels: int = 256
    weight: float = 3.0
    max_epochs: int = 1200
    batch_size: int = 8
    lr: float = 2e-4
    weight_decay: float = 1e-5
    optimizer: str | Callable = "adamw"
    pooling: str = "top"
    quantile: float = 0.9992

    def _own_callbacks(self, phase, n_epochs):
        return warm_then_lower(n_epochs, 1 / 24, (7 / 12, 5 / 6), 0.2)

    def _network(self, shapes):
        normaliser = Normaliser(self.embedding_)
        c, *size = shapes[0]
        student = self._student([(c * normaliser.repeat, *size), *shapes[1:]])
        return DAFNetwork(
            normaliser, student, shapes, self.segmenter_channels, self.weight
        )

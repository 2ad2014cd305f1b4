"""Reverse distillation: where a decoder cannot rebuild its teacher's features."""

from itertools import pairwise
from numbers import Integral

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.embedding._resnet import ARCHITECTURES
from skad.image._trained import TrainedImageDetector, split_maps
from skad.nn.residual import (
    Residual,
    convolution,
    direction_distance,
    fit_to,
    from_fine_to_coarse,
    halvings,
    initialize,
    stacked,
)
from skad.nn.statistics import SettledNetwork


class Bottleneck(nn.Module):
    """One small map of all the teacher's: fusion of scales and one-class embedding.

    Parameters
    ----------
    shapes : list of tuple
        (c, h, w) of the maps, the largest grid first.
    n_blocks : int
        Residual blocks of the embedding; the first halves the grid.
    widen : int or None
        Channels of a bottleneck block's inner convolution for each 4 of its own; None
        is basic blocks.
    """

    def __init__(self, shapes, n_blocks=2, widen=None):
        super().__init__()
        c_last, *self.grid = shapes[-1]
        self.fusion = nn.ModuleList()
        fused = self._add_fusion(shapes)
        out = 2 * c_last
        stride = tuple(1 if n == 1 else 2 for n in self.grid)
        self.shape = (
            out,
            *(-(-n // s) for n, s in zip(self.grid, stride, strict=True)),
        )
        inner = None if widen is None else out // 4 * widen
        blocks = [Residual(fused, out, stride, inner)]
        blocks += [Residual(out, out, inner=inner) for _ in range(n_blocks - 1)]
        self.embedding = nn.Sequential(*blocks)

    def _add_fusion(self, shapes):
        """Fill `fusion` with what brings each map to `grid`; return the channels."""
        fused = 0
        for c, *size in shapes:
            parts = []
            for stride in halvings(size, self.grid):
                parts += [convolution(c, 2 * c, 3, stride), nn.ReLU(inplace=True)]
                c *= 2
            self.fusion.append(nn.Sequential(*parts))
            fused += c
        return fused

    def fused(self, maps):
        """Return the maps (b, c_l, h_l, w_l) on one grid, a list of tensors."""
        parts = zip(self.fusion, maps, strict=True)
        return [fit_to(fuse(each), self.grid) for fuse, each in parts]

    def forward(self, maps):
        """Return the embedding (b, c, h, w) of maps (b, c_l, h_l, w_l)."""
        return self.embedding(torch.cat(self.fused(maps), 1))


class Decoder(nn.Module):
    """The teacher turned around: from an embedding to its maps, the last one first.

    Parameters
    ----------
    shapes : list of tuple
        (c, h, w) of the maps, the largest grid first.
    shape : tuple of int
        (c, h, w) of the embedding.
    n_blocks : tuple of int
        Residual blocks of each stage, the deepest first.
    widen : int or None
        As for `Bottleneck`.
    signed : bool
        Whether maps have negative values: then each comes from a linear layer, else
        from the rectified output of the stage.
    joined : int, default=1
        Maps of one width that a stage takes, one behind the other.
    """

    def __init__(self, shapes, shape, n_blocks, widen=None, signed=True, joined=1):
        super().__init__()
        self.sizes = [tuple(size) for _, *size in shapes[::-1]]
        self.stages, self.heads = nn.ModuleList(), nn.ModuleList()
        steps = pairwise([shape, *shapes[::-1]])
        for ((into, *size), (out, *target)), n in zip(steps, n_blocks, strict=True):
            stride = tuple(-(-m // k) for k, m in zip(size, target, strict=True))
            inner = None if widen is None else max(1, out // 4) * widen
            blocks = [Residual(joined * into, out, stride, inner, up=True)]
            blocks += [Residual(out, out, inner=inner) for _ in range(n - 1)]
            self.stages.append(nn.Sequential(*blocks))
            self.heads.append(nn.Conv2d(out, out, 1) if signed else nn.Identity())

    def forward(self, x, *context):
        """Return the maps (b, c_l, h_l, w_l), the largest grid first.

        Of an embedding, and of what `taken` wants to know besides.
        """
        maps = [x]
        for i, ((h, w), stage, head) in enumerate(
            zip(self.sizes, self.stages, self.heads, strict=True)
        ):
            x = stage(self.taken(i, x, maps[-1], *context))[..., :h, :w]
            maps.append(head(x))
        return maps[:0:-1]

    def taken(self, i, x, said):
        """Return what stage `i` takes, of what the one before made and said."""
        return x


class ReverseDistillationNetwork(SettledNetwork):
    """A bottleneck over the teacher's maps and a decoder that has to rebuild them."""

    def __init__(
        self,
        shapes,
        size,
        n_blocks,
        widen,
        signed,
        similarity,
        bottleneck=Bottleneck,
        decoder=Decoder,
    ):
        super().__init__()
        self.shapes, self.size, self.similarity = shapes, size, similarity
        self.order = from_fine_to_coarse(shapes)
        shapes = [shapes[i] for i in self.order]
        self.bottleneck = bottleneck(shapes, n_blocks[-1], widen)
        self.decoder = decoder(
            shapes, self.bottleneck.shape, n_blocks[:-1], widen, signed
        )
        initialize(self)

    def pairs(self, x):
        """Return (teacher's map, rebuilt map) of each layer, both (b, c, h, w)."""
        maps = self.ordered(split_maps(x, self.shapes))
        return list(zip(maps, self.decoder(self.bottleneck(maps)), strict=True))

    def ordered(self, maps):
        """Return the maps of the layers, the largest grid first."""
        return [maps[i] for i in self.order]

    def loss(self, x, y):
        """Return one minus the mean cosine, summed over layers."""
        return self.error(self.pairs(x))

    def error(self, pairs):
        """Return one minus the mean cosine of pairs of maps, summed over them."""
        if self.similarity == "maps":
            pairs = [[each.flatten(1)[..., None, None] for each in p] for p in pairs]
        return sum(direction_distance(*pair).mean() for pair in pairs)

    def map(self, x):
        """Return one minus the cosine of places, summed over layers at one size."""
        return self.map_of(self.pairs(x))

    def map_of(self, pairs):
        """Return the map (b, h, w) of pairs of maps."""
        maps = [direction_distance(*pair) for pair in pairs]
        return stacked(maps, self.size).sum(0)


@with_parameters
class RebuildingDetector(TrainedImageDetector):
    """Base of detectors that rebuild a backbone's maps from one small map of all.

    Parameters
    ----------
    n_blocks : int, default=2
        Residual blocks of the embedding and of each stage of the decoder, where the
        backbone is none of our ResNets.
    layers : tuple of str or None, default=None
        Names of the layers that are rebuilt; None is the first three of a ResNet, and
        all of the bank of filters.
    """

    _parameter_constraints = {
        "n_blocks": [Interval(Integral, 1, None, closed="left")],
    }

    n_blocks: int = 2
    batch_size: int = 16

    def _sizes(self, shapes):
        """Return what the network is built with, for maps of shapes (c, h, w)."""
        name = self._resnet_name()
        if name is None:
            n_blocks, widen = (self.n_blocks,) * (len(shapes) + 1), None
        else:
            blocks, widen = ARCHITECTURES[name]
            n_blocks = (*blocks[: len(shapes)], blocks[-1])
        return shapes, self._seen_size(), n_blocks, widen, name is None


@with_parameters
class ReverseDistillation(RebuildingDetector):
    r"""Patches whose features cannot be rebuilt from one small map of all of them.

    The teacher :math:`E` is a frozen network that gives maps :math:`f_E^k` of several
    layers. A bottleneck fuses them into one small map, and a decoder :math:`D`, which
    is the teacher turned around, rebuilds them from it, the deepest first. Trained on
    normal pictures, it knows how to rebuild normal features only [1]_. The anomaly of a
    place of layer :math:`k` is one minus the cosine,

    .. math:: M^k_{ij} = 1 - \frac{f_{E,ij}^k \cdot f_{D,ij}^k}
        {\|f_{E,ij}^k\| \, \|f_{D,ij}^k\|},

    and training minimises its mean over the places, summed over the layers. The map is
    the sum of the :math:`M^k`, each interpolated to the size of the picture, smoothed;
    the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    similarity : {"places", "maps"}, default="places"
        What the loss takes cosines of: the vectors of places, as in the paper, or each
        layer's whole map of a picture as one vector, as in the authors' code. Scores
        are the same function.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or callable, default="adam"
        The optimizer, or a class with torch's signature; what takes betas has 0.5 and
        0.999.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The teacher: what describes the patches.
    net_ : torch.nn.Module
        The trained network, with its `bottleneck` and `decoder`.

    See Also
    --------
    STFPM : The student sees the picture.
    PatchCore : Keeps normal patches instead of a decoder.

    Notes
    -----
    For a ResNet the bottleneck's embedding has the blocks of its fourth layer and the
    decoder those of the first three, upwards by transposed convolutions, as in the
    authors' code. For any other backbone, the default bank of filters among them, both
    have `n_blocks` basic blocks for each layer, and a linear layer ends each stage,
    since maps may be negative. The fusion follows the authors' code, which has no 1 x 1
    convolution of its own between the joined maps and the embedding as the paper's
    figure has; the embedding's first block does its work. The code interpolates with
    aligned corners, which moves maps by up to half a place at the borders; here areas
    are aligned. Training is in float32, scoring in the dtype of `X`.

    When the training has ended, batch norms take their statistics from all training
    pictures, as in :class:`STFPM`: after 8 steps on drawn textures they told grain and
    dots with a ROC AUC of .87 and .60, and with those of the last steps .69 and .57;
    from 18 steps on it makes no difference, and smaller batches do no better
    (``benchmarks/results/images_settings.tsv``).

    More epochs are not always better: on 31 pictures of cookies the paper's 200 end
    lower than 15. Magnetic tiles at 64 x 64 are told with .80 after 40 steps, .81 after
    100 and .82 after 200, while the loss falls to a third; PatchCore has .87
    (``benchmarks/results/images_norms.tsv``). The bank of filters is rebuilt for any
    picture, and the score may lie below the distance to the mean picture.

    References
    ----------
    .. [1] H. Deng and X. Li, "Anomaly detection via reverse distillation from one-class
       embedding", CVPR, 2022, equations (1) to (3).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import ReverseDistillation
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = ReverseDistillation(
    ...     max_epochs=10, batch_size=5, smoothing=1, random_state=0
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(6 <= row <= 17 and 14 <= column <= 25)
    True
    """

    _optimizer_options = {"betas": (0.5, 0.999)}
    _parameter_constraints = {
        "similarity": [StrOptions({"places", "maps"})],
    }

    similarity: str = "places"
    max_epochs: int = 200
    lr: float = 0.005

    def _network(self, shapes):
        return ReverseDistillationNetwork(*self._sizes(shapes), self.similarity)

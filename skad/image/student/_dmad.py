"""DMAD: reverse distillation of pictures that are bent to what is usual."""

from functools import partial
from numbers import Integral, Real

import torch
from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import warm_cosine
from skad.image.student._calibrated import CalibratedDetector, CalibratedMaps
from skad.image.student._reverse_distillation import (
    Bottleneck,
    RebuildingDetector,
    ReverseDistillationNetwork,
)
from skad.nn.codebook import Codebook
from skad.nn.deformation import Deformation, lengths, roughness, warped
from skad.nn.distillation import MapCalibration, Teacher
from skad.nn.residual import convolution, halvings

# Channels of the last map for one of each map that is joined beside the codes.
_NARROW = 16


class CodedBottleneck(Bottleneck):
    """One small map of a few channels of all maps, and of the codes of the last one.

    Parameters
    ----------
    shapes, n_blocks, widen
        As for `Bottleneck`.
    n_codes : int
        Codes of the last map.
    """

    def __init__(self, shapes, n_blocks, widen, n_codes):
        super().__init__(shapes, n_blocks, widen)
        self.codebook = Codebook(n_codes, shapes[-1][0])

    def _add_fusion(self, shapes):
        c_last = shapes[-1][0]
        narrow = max(1, c_last // _NARROW)
        for c, *size in shapes:
            parts = [convolution(c, narrow), nn.ReLU()]
            for stride in halvings(size, self.grid):
                parts += [convolution(narrow, narrow, 3, stride), nn.ReLU()]
            self.fusion.append(nn.Sequential(*parts))
        return narrow * len(shapes) + c_last

    def coded(self, maps):
        """Return the embedding (b, c, h, w) of maps, and the loss of the codes."""
        codes, loss = self.codebook(maps[-1])
        return self.embedding(torch.cat([*self.fused(maps), codes], 1)), loss

    def forward(self, maps):
        """Return the embedding (b, c, h, w) of maps (b, c_l, h_l, w_l)."""
        return self.coded(maps)[0]


class DMADNetwork(CalibratedMaps, ReverseDistillationNetwork):
    """A network that bends pictures, a teacher, a bottleneck and a decoder."""

    frozen_parts = ("teacher",)

    def __init__(
        self, teacher, picture, sizes, field_channels, field_weight, inverse_weight
    ):
        super().__init__(*sizes)
        self.teacher, self.picture = teacher, picture
        self.field_weight, self.inverse_weight = field_weight, inverse_weight
        c, *size = picture
        self.deformation = Deformation(c * teacher.repeat, size, field_channels)
        self.calibration = MapCalibration(2, "range")

    def bent(self, x):
        """Return normalised pictures of samples (b, m), these bent, and the fields."""
        picture = self.teacher.normalised(x.unflatten(1, self.picture))
        fields = self.deformation(picture)
        coarse, fine, *_ = fields
        return picture, warped(warped(picture, coarse), fine), fields

    def back(self, x, fields):
        """Return pictures or maps (b, c, h, w) of bent pictures where they belong."""
        *_, coarse, fine = fields
        return warped(warped(x, fine), coarse)

    def seen(self, bent):
        """Return the teacher's maps of bent pictures, the largest grid first."""
        return self.ordered(self.teacher.module(bent))

    def pairs(self, x):
        """Return (teacher's map, rebuilt map) of each layer, of bent pictures."""
        maps = self.seen(self.bent(x)[1])
        return list(zip(maps, self.decoder(self.bottleneck(maps)), strict=True))

    def field_loss(self, picture, bent, fields):
        """Return the lengths of fields, how rough they are, and what comes back."""
        loss = sum(lengths(each).mean() for each in fields[:2])
        loss = loss + sum(map(roughness, fields))
        again = (self.back(bent, fields) - picture).square().mean()
        return loss + self.inverse_weight * again

    def loss(self, x, y):
        """Return the error of what is rebuilt, that of the fields and of the codes."""
        picture, bent, fields = self.bent(x)
        maps, loss = self.seen(bent), self.field_loss(picture, bent, fields)
        if isinstance(self.bottleneck, CodedBottleneck):
            code, own = self.bottleneck.coded(maps)
            loss = loss + own
        else:
            code = self.bottleneck(maps)
        return loss + self.error(zip(maps, self.decoder(code), strict=True))

    def finish(self, batches, held=None):
        """Take the statistics of batch norms, and the scale of both maps."""
        super().finish(batches, held)
        self.calibration.learn(self.raw_maps(x) for x, _ in (held or batches)())

    def raw_maps(self, x):
        """Return what is not rebuilt, and the length of the fields back, (2, b, h, w).

        Both where they belong in the picture as it came.
        """
        _, bent, fields = self.bent(x)
        maps = self.seen(bent)
        rebuilt = zip(maps, self.decoder(self.bottleneck(maps)), strict=True)
        error = self.map_of(rebuilt)[:, None]
        *_, coarse, fine = fields
        fine = warped(lengths(fine)[:, None], coarse)
        return torch.stack(
            [self.back(error, fields)[:, 0], lengths(coarse) + fine[:, 0]]
        )

    def joined(self, maps):
        """Return the sum of both maps (2, b, h, w), which are on one scale."""
        return maps[0] + self.field_weight * maps[1]


@with_parameters
class DMAD(CalibratedDetector, RebuildingDetector):
    r"""Patches that are not rebuilt from codes, and pictures that have to be bent far.

    Normal things differ in position and form, and that is not to be taken for an
    anomaly, nor are anomalies to be bent until they look normal. A network finds for
    each picture :math:`x` a coarse and a fine field that bend it, with
    :math:`\|\phi\|` the lengths of their vectors, and fields :math:`\phi'` that bend it
    back. Of what a frozen teacher says of the bent picture, :math:`f^k`, a decoder
    rebuilds :math:`d^k` from one small map, in which the deepest layer is there as
    the nearest of a few codes [1]_,

    .. math:: L = \sum_k \left(1 - \cos(f^k, d^k)\right) + L_c
        + \sum_\phi \overline{\|\phi\|} + \sum_{\phi, \phi'} \overline{|\Delta \phi|}
        + \gamma \, \overline{(\phi'(\phi(x)) - x)^2},

    with the loss of the codes :math:`L_c` and the distances :math:`\Delta \phi` of a
    field from its mean around a pixel. Bent back, one minus the cosine of places,
    summed over the layers, is one map of a picture, and the length of :math:`\phi'` a
    second one. The map is their sum, the second times `field_weight`, after the range
    that each has on held-out normal pictures is brought to 0..1; smoothed, its maximum
    is the score.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    field_weight : float, default=0.05
        Weight of the second map. The authors take 0.2 for screws, carpets and metal
        nuts.
    n_codes : int or None, default=200
        Codes of the deepest layer; None is the bottleneck of
        :class:`ReverseDistillation`, as the authors have it where pixels count.
    inverse_weight : float, default=1.0
        :math:`\gamma`.
    field_channels : int, default=64
        Channels of the network that finds the fields, in every pixel.
    similarity : {"places", "maps"}, default="maps"
        What the first term takes cosines of: the vectors of places, or each layer's
        whole map of a picture as one vector. Scores are the same function.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or callable, default="adamw"
        The optimizer, or a class with torch's signature; what takes betas has 0.5 and
        0.999. Its rate falls to zero as half a cosine does.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The teacher: what describes the patches.
    net_ : torch.nn.Module
        The trained network, with its `deformation`, `bottleneck` and `decoder`.

    See Also
    --------
    ReverseDistillation : Without fields and codes.
    ADShift : Normal things differ in light.

    Notes
    -----
    The authors bring both scores of a picture to 0..1 over the test pictures, anomalies
    among them, take `field_weight` by class and keep the better of the sum and the
    first one; here the range is that of places of held-out normal pictures, maps are
    added before the maximum, and the weight is a parameter. Where fewer than 12
    pictures are normal the range is that of training pictures. The fields shift by at
    most 8 and 3 pixels of 256 along an axis, in proportion for other sizes. Codes are
    learned on the deepest of the `layers`; beside them stand a few channels of every
    layer, one for 16 of the deepest, as in the authors' code. Grids for fields have
    their corners at the middles of the outer pixels, as there; maps of layers are
    interpolated as in :class:`ReverseDistillation`, whose notes hold for the rest, its
    decoder and its batch norms among them. Training is in float32, scoring in the dtype
    of `X`.

    The codes begin near zero, and a short training uses few: of 200, one after 12
    epochs of 31 cookies at 64 x 64 with a ResNet-18 and batches of 4. These 33 CPU
    seconds tell 46 others with a ROC AUC of .98, as `n_codes` None and any weight from
    0 to 1 do, and as :class:`ReverseDistillation` in 10 seconds. Of drawn textures the
    filters with codes learn less than the distance to the mean picture tells: .56
    against .62 after 20 epochs, and .68 without codes, where
    :class:`ReverseDistillation` has .73. The authors say that training may be unstable.
    At the paper's size it is unmeasured.

    References
    ----------
    .. [1] W. Liu, H. Chang, B. Ma, S. Shan and X. Chen, "Diversity-measurable anomaly
       detection", CVPR, 2023, the version with a predicted deformation (PPDM).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import DMAD
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = DMAD(
    ...     layers=["scale2", "scale3"],
    ...     field_channels=8,
    ...     max_epochs=10,
    ...     batch_size=5,
    ...     smoothing=1,
    ...     random_state=0,
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _kind = "pixels"
    _optimizer_options = {"betas": (0.5, 0.999)}
    _parameter_constraints = {
        "field_weight": [Interval(Real, 0, None, closed="left")],
        "n_codes": [Interval(Integral, 1, None, closed="left"), None],
        "inverse_weight": [Interval(Real, 0, None, closed="left")],
        "field_channels": [Interval(Integral, 1, None, closed="left")],
        "similarity": [StrOptions({"places", "maps"})],
    }

    field_weight: float = 0.05
    n_codes: int | None = 200
    inverse_weight: float = 1.0
    field_channels: int = 64
    similarity: str = "maps"
    batch_size: int = 8
    max_epochs: int = 400
    lr: float = 0.005
    optimizer: str = "adamw"
    weight_decay: float = 0.01

    def _own_callbacks(self, phase, n_epochs):
        return warm_cosine(n_epochs, warm=0, start=1, end=0)

    def _network(self, shapes):
        teacher = Teacher(self.embedding_)
        with torch.no_grad():
            maps = teacher(torch.zeros(1, *shapes[0]))
        sizes = self._sizes([tuple(each.shape[1:]) for each in maps])
        made = Bottleneck
        if self.n_codes is not None:
            made = partial(CodedBottleneck, n_codes=self.n_codes)
        return DMADNetwork(
            teacher,
            shapes[0],
            (*sizes, self.similarity, made),
            self.field_channels,
            self.field_weight,
            self.inverse_weight,
        )

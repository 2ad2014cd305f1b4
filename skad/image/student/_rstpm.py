"""RSTPM: a student that imitates one teacher, and one that rebuilds another's maps."""

from collections.abc import Callable
from numbers import Integral

from torch import nn

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.embedding._resnet import ResNet
from skad.image._trained import split_maps
from skad.image.student._reverse_distillation import Decoder
from skad.image.student._stfpm import StudentDetector
from skad.image.student._two_networks import TwoNetworksDetector
from skad.nn.residual import (
    Residual,
    convolution,
    direction_distance,
    from_fine_to_coarse,
    initialize,
    stacked,
)
from skad.nn.statistics import SettledNetwork


class Gate(nn.Module):
    """Says of each place of a map, in 0..1, how much of it is let through."""

    def __init__(self, channels):
        super().__init__()
        self.body = nn.Sequential(
            *(convolution(channels, channels), nn.ReLU()),
            *(nn.Conv2d(channels, 1, 1), nn.Sigmoid()),
        )

    def forward(self, x):
        """Return the shares (b, 1, h, w) of maps (b, c, h, w)."""
        return self.body(x)


class GatedDecoder(Decoder):
    """A decoder whose stages take what its teacher's maps let through.

    Behind the deepest map that alone, behind others in addition to all of it.
    """

    def __init__(self, shapes, shape, n_blocks, widen=None, signed=True):
        super().__init__(shapes, shape, n_blocks, widen, signed)
        self.gates = nn.ModuleList(Gate(c) for c, *_ in shapes[:0:-1])

    def taken(self, i, x, said, maps):
        """Return what stage `i` takes; `maps` are the teacher's, the largest first."""
        if not i:
            return x
        gated = self.gates[i - 1](maps[-i]) * x
        return gated if i == 1 else x + gated


class Rebuilder(nn.Module):
    """From the deepest map of one network to the maps of another one.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of the deepest map.
    shapes : list of tuple
        (c, h, w) of the other's, in any order.
    n_blocks : int
        Residual blocks of each stage.
    signed : bool
        Whether the other's have negative values.
    """

    def __init__(self, shape, shapes, n_blocks, signed):
        super().__init__()
        c, *size = shape
        stride = tuple(1 if n == 1 else 2 for n in size)
        small = 2 * c, *(-(-n // s) for n, s in zip(size, stride, strict=True))
        self.halving = Residual(c, 2 * c, stride)
        self.order = from_fine_to_coarse(shapes)
        self.decoder = GatedDecoder(
            [shapes[i] for i in self.order],
            small,
            (n_blocks,) * len(shapes),
            signed=signed,
        )
        initialize(self)

    def forward(self, deepest, maps):
        """Return the maps (b, c, h, w), rebuilt, in the order in which they come."""
        made = self.decoder(self.halving(deepest), [maps[i] for i in self.order])
        found = [None] * len(made)
        for i, each in zip(self.order, made, strict=True):
            found[i] = each
        return found


class RSTPMNetwork(SettledNetwork):
    """A student of pictures, and one of what the first teacher says last."""

    def __init__(self, student, shapes, n_blocks, signed):
        super().__init__()
        self.student, self.shapes = student, shapes
        n = len(shapes) // 2
        self.deepest = from_fine_to_coarse(shapes[1 : n + 1])[-1]
        self.rebuilder = Rebuilder(
            shapes[1 + self.deepest], shapes[n + 1 :], n_blocks, signed
        )

    def groups(self, phase):
        """Return the weights of both students."""
        parts = "student", "rebuilder"
        return {name: getattr(self, name).parameters() for name in parts}

    def distances(self, x):
        """Return the distances (b, h_l, w_l) of places, of both students."""
        picture, *maps = split_maps(x, self.shapes)
        return self.apart(self.student(picture), maps)

    def apart(self, imitated, maps):
        """Return those of what the first student says, and of the teachers' maps."""
        n = len(maps) // 2
        first, second = maps[:n], maps[n:]
        rebuilt = self.rebuilder(first[self.deepest], second)
        return [
            [direction_distance(*pair) for pair in zip(teacher, own, strict=True)]
            for teacher, own in ((first, imitated), (second, rebuilt))
        ]

    def losses(self, x):
        """Return the mean distance of places of each student, summed over layers."""
        return [sum(each.mean() for each in own) for own in self.distances(x)]

    def loss(self, x, y):
        """Return the sum of both."""
        return sum(self.losses(x))

    def updates(self, phase, x, y):
        """Yield the loss of each student."""
        yield from zip(("student", "rebuilder"), self.losses(x), strict=True)

    def layers(self, distances):
        """Return the sums of both students' distances by layers, (l, b, h, w)."""
        first, second = (stacked(own, self.shapes[0][1:]) for own in distances)
        return first + second

    def map(self, x):
        """Return the product over layers of the sums of both distances, (b, h, w)."""
        return self.layers(self.distances(x)).prod(0)


@with_parameters
class PairsDetector(TwoNetworksDetector, StudentDetector):
    """Base of two pairs of a teacher and a student.

    Parameters
    ----------
    n_blocks : int, default=2
        Residual blocks of each stage of the second student.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or callable, default="sgd"
        The students' optimizer, or a class with torch's signature; what takes a
        momentum has 0.9.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels. The paper does
        not smooth.
    """

    _optimizer_options = {"momentum": 0.9}
    _parameter_constraints = {
        "n_blocks": [Interval(Integral, 1, None, closed="left")],
    }

    n_blocks: int = 2
    lr: float = 0.4
    optimizer: str | Callable = "sgd"
    weight_decay: float = 1e-4
    smoothing: float = 0.0

    def _layers(self, x):
        return [*super()._layers(x), *self.other_.feature_maps(x)]

    def _signed(self):
        """Tell whether the second teacher's maps have negative values."""
        return not isinstance(self.other_.backbone_, ResNet)


@with_parameters
class RSTPM(PairsDetector):
    r"""Patches that one student does not describe, or another does not rebuild.

    There are two pairs of a frozen teacher and a student. The first is that of
    :class:`STFPM`: from the picture a student gives the maps :math:`T^l` of its
    teacher. In the second a student :math:`R` rebuilds the maps :math:`U^l` of another
    teacher, the deepest first, from the deepest one of the first teacher, made smaller
    [1]_. On its way what it has rebuilt of a layer is multiplied by an attention
    :math:`g(U^l)` in 0..1, of two convolutions on the second teacher's own map: of the
    deepest layer that alone goes on, of the others it is added. At each place of layer
    l the pairs differ by

    .. math:: a^l = \tfrac12 \Big\| \frac{T^l}{\|T^l\|} - \frac{S^l}{\|S^l\|} \Big\|^2,
        \qquad b^l = \tfrac12 \Big\| \frac{U^l}{\|U^l\|} - \frac{R^l}{\|R^l\|}
        \Big\|^2,

    and each student makes the mean over the places of its own, summed over the layers,
    small. The map is :math:`\prod_l (a^l + b^l)`, with layers interpolated to the size
    of the picture, and the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        Draws the students' weights and the batches. Pass an int for reproducible
        results.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The first teacher: what describes the patches.
    net_ : torch.nn.Module
        The trained network, with its `student` and `rebuilder`.

    See Also
    --------
    RSTDN : With a network that reads the maps.
    STFPM : The first pair alone.
    PFM : Two networks whose features are mapped to each other.

    Notes
    -----
    The authors have published no code. The networks, losses and the map are those of a
    repetition [2]_, with a ResNet-18 and a ResNet-50 for teachers. In it the second
    student starts from a fourth layer of the first teacher, which is not compared; here
    a block that is trained with it halves the last layer that is. Its stages are those
    of :class:`ReverseDistillation`. A layer of the first teacher is paired with that of
    the second in the same place of `layers`. The later paper's network that reads the
    maps and learns from made anomalies where these are is in :class:`RSTDN`.

    31 cookies at 64 x 64 train it in 16 CPU seconds, 15 epochs with batches of 8, with
    a ResNet-18 and three layers of the bank of filters: 46 others are told with a ROC
    AUC of .94 and their pixels with .93, by the first pair alone with .97 and .94, by
    PatchCore with .94 and .90. 80 magnetic tiles are told with .72 and .65 after 5
    epochs, by the first pair with .70 and .65, by PatchCore with .87 and .75.

    Batch norms take their statistics from all training pictures, as in :class:`STFPM`.
    Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] S. Yamada and K. Hotta, "Reconstruction student with attention for
       student-teacher pyramid matching", 2021. arXiv:2111.15376.
    .. [2] X. Chen, "RSTPM", in AdvTech, GitHub, 2022, of S. Yamada, S. Kamiya and
       K. Hotta, "Reconstructed student-teacher and discriminative networks for anomaly
       detection", IROS, 2022. arXiv:2210.07548.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import RSTPM
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = RSTPM(
    ...     layers=["scale1", "scale2"],
    ...     student_channels=(16, 32),
    ...     max_epochs=10,
    ...     batch_size=5,
    ...     random_state=0,
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _kind = "pictures+maps"

    def _network(self, shapes):
        student = self._student(shapes[: len(shapes) // 2 + 1])
        return RSTPMNetwork(student, shapes, self.n_blocks, self._signed())

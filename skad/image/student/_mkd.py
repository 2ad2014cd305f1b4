"""MKD: whole pictures whose features a narrow student does not know."""

from collections.abc import Sequence
from numbers import Real

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image._trained import OwnScoreDetector, OwnScoreNetwork, split_maps
from skad.image.student._stfpm import StudentDetector
from skad.nn.attribution import input_gradients
from skad.nn.distillation import Teacher, squared
from skad.nn.residual import (
    Pyramid,
    direction_distance,
    from_fine_to_coarse,
    initialize,
)
from skad.nn.statistics import SettledNetwork

# The deepest layers count in scores, however many are trained on.
_SCORED = 3


def apart(teacher, student, value_weight):
    r"""Return how far whole maps (b, c, h, w) are apart, (b,).

    One minus their cosine, and `value_weight` times their mean squared difference.
    """
    flat = (each.flatten(1)[..., None, None] for each in (teacher, student))
    direction = direction_distance(*flat)[:, 0, 0]
    return direction + value_weight * squared(teacher, student).flatten(1).mean(1)


class MKDNetwork(SettledNetwork, OwnScoreNetwork):
    """A frozen teacher and a narrow student, which are shown the same pictures."""

    frozen_parts = ("teacher",)

    def __init__(self, teacher, student, shapes, value_weight):
        super().__init__()
        self.teacher, self.student, self.shapes = teacher, student, shapes
        self.value_weight = value_weight
        self.deepest = from_fine_to_coarse(shapes[1:])[-_SCORED:]

    def said(self, picture):
        """Return the student's maps of pictures (b, c, h, w) in 0..1."""
        return self.student(self.teacher.normalised(picture))

    def distance(self, teacher, student, layers):
        """Return the sum over some layers of how far their maps are apart, (b,)."""
        pairs = [(teacher[i], student[i]) for i in layers]
        return sum(apart(*pair, self.value_weight) for pair in pairs)

    def loss(self, x, y):
        """Return the mean distance of all layers, equation (4)."""
        picture, *maps = split_maps(x, self.shapes)
        return self.distance(maps, self.said(picture), range(len(maps))).mean()

    def anomaly(self, x):
        """Return the distance (b,) of the deepest layers."""
        picture, *maps = split_maps(x, self.shapes)
        return self.distance(maps, self.said(picture), self.deepest)

    def map(self, x):
        """Return the size (b, h, w) of the distance's derivatives by pixels."""

        def score(picture):
            return self.distance(
                self.teacher(picture), self.said(picture), self.deepest
            )

        picture = split_maps(x, self.shapes)[0]
        return input_gradients(score, picture).abs().mean(1)

    def both(self, x):
        """Return the map and the anomaly."""
        return self.map(x), self.anomaly(x)


@with_parameters
class MKD(OwnScoreDetector, StudentDetector):
    r"""Pictures of which a small student says other things than its large teacher.

    The teacher is a frozen network with maps :math:`a^l` of several depths; a student
    of far fewer channels learns to give the same on normal pictures, its :math:`b^l`.
    As it is small, it keeps what normal pictures need and little else. Whole maps are
    compared, by direction and by value [1]_:

    .. math:: L = \sum_l \left(1 - \frac{a^l \cdot b^l}{\|a^l\| \, \|b^l\|}\right)
        + \lambda \sum_l \frac{1}{N_l} \|a^l - b^l\|^2,

    for the :math:`N_l` elements of a layer. Training minimises the mean of L over the
    pictures; the anomaly of a picture is its L, of the three coarsest layers. The map
    says which pixels it depends on: it is the mean over the channels of
    :math:`|\partial L / \partial x|`, smoothed.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    value_weight : float, default=0.5
        :math:`\lambda`; the authors have 0.01 for pictures of things, and 0.5 for those
        of defects.
    student_channels : tuple of int, default=(16,)
        Channels of the student, whatever the backbone is: of its first convolution,
        then of maps halved once more; the last stands for all that follow.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The teacher: what describes the pictures.
    net_ : torch.nn.Module
        The trained network, with its `student`.

    See Also
    --------
    STFPM : Compares places, with a student as large as the teacher.
    UninformedStudents : Several students, which also disagree.

    Notes
    -----
    The paper's teacher is a VGG-16: ``backbone="torchvision/vgg16"`` with the layers
    "features.9", "features.16", "features.23" and "features.30". Its student has that
    network's depth, with 16 channels but for the last convolution of each block; here
    it has residual blocks of 16 channels, with a linear layer to each of the teacher's
    maps beside them, since maps may be negative. The authors train with four layers
    and score with the last three.

    The gradient of what the teacher says counts too, so that each map costs a pass
    backwards through both networks; scores need none. The authors' figures are from
    guided gradients or from means over noisy copies, and opened by morphology once cut
    at a threshold; here the map is the plain gradient. It is finer than that of others,
    and rougher.

    31 cookies at 64 x 64 train it with a ResNet-18 in 7 CPU seconds, 100 epochs with
    batches of 8: 46 others are told with a ROC AUC of .94, as by PatchCore at that
    size, but pixels with .53 only, where PatchCore has .90; with the bank of filters
    .95 and .85. 80 magnetic tiles are told with .68 after the 600 epochs of the
    default, and .73 after 40 with batches of 8; PatchCore has .91.

    Batch norms take their statistics from all training pictures, as in :class:`STFPM`.
    Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] M. Salehi, N. Sadjadi, S. Baselizadeh, M. H. Rohban and H. R. Rabiee,
       "Multiresolution knowledge distillation for anomaly detection", CVPR, 2021,
       equations (1) to (5).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import MKD
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = MKD(max_epochs=10, batch_size=5, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _kind = "pixels+maps"
    _exports = False  # its map takes gradients
    _parameter_constraints = {
        "value_weight": [Interval(Real, 0, None, closed="left")],
    }

    value_weight: float = 0.5
    student_channels: Sequence[int] = (16,)
    max_epochs: int = 600
    batch_size: int = 64

    def _network(self, shapes):
        teacher = Teacher(self.embedding_)
        (c, *size), *maps = shapes
        taken = (c * teacher.repeat, *size)
        student = initialize(Pyramid(taken, maps, self.student_channels))
        return MKDNetwork(teacher, student, shapes, self.value_weight)

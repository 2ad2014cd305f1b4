"""RSTDN: two pairs of teacher and student, and a network that reads their maps."""

from numbers import Integral, Real

import torch

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image._trained import split_maps
from skad.image.student._rstpm import PairsDetector, RSTPMNetwork
from skad.nn.corruption import TexturePaste
from skad.nn.distillation import Teacher
from skad.nn.losses import focal
from skad.nn.statistics import settle_norms
from skad.nn.unet import PooledUNet


class RSTDNNetwork(RSTPMNetwork):
    """Both pairs, and a discriminative network of the maps of their distances."""

    phases = ("students", "discriminator")
    frozen_parts = ("teacher", "other")

    def __init__(self, teacher, other, student, shapes, n_blocks, signed, width):
        super().__init__(student, shapes, n_blocks, signed)
        self.teacher, self.other = teacher, other
        size = tuple(shapes[0][1:])
        self.discriminator = PooledUNet(len(shapes) // 2, (1, *size), size, width)
        self.corruption = TexturePaste(0.8, clean_share=0.5)

    def groups(self, phase):
        """Return the weights of both students, or of the network that reads them."""
        if phase == "students":
            return super().groups(phase)
        return {"discriminator": self.discriminator.parameters()}

    def begin(self, phase, batches):
        """Let the students' norms settle before what they say is learned from."""
        if phase == "discriminator":
            settle_norms(self, (x for x, _ in batches()), self.distances)

    def finish(self, batches, held=None):
        """Leave the norms, which settled; the reading network has none."""

    def distances(self, x):
        """Return the distances (b, h_l, w_l) of places, of both students."""
        picture, *maps = split_maps(x, self.shapes)
        return self.apart(self.student(self.teacher.normalised(picture)), maps)

    def altered(self, x):
        """Return what is said of altered pictures, logits (b, h, w), and the mask."""
        picture = split_maps(x, self.shapes)[0]
        with torch.no_grad():
            for part in (self.student, self.rebuilder):
                part.eval()  # they have learned
            seen, mask = self.corruption(picture)
            own = self.student(self.teacher.normalised(seen))
            distances = self.apart(own, [*self.teacher(seen), *self.other(seen)])
            layers = self.layers(distances)
        return self.read(layers), mask.to(x)

    def read(self, layers):
        """Return the logits (b, h, w) of maps of layers (l, b, h, w)."""
        return self.discriminator(layers.movedim(0, 1))[:, 0]

    def updates(self, phase, x, y):
        """Yield the loss of each student, or that of the reading network."""
        if phase == "students":
            yield from super().updates(phase, x, y)
        else:
            yield "discriminator", focal(*self.altered(x), gamma=2)

    def watched(self, phase, x, y):
        """Return the loss of the part that is trained."""
        return self.loss(x, y) if phase == "students" else focal(*self.altered(x), 2)

    def map(self, x):
        """Return the product of layers and of the probability of being altered."""
        layers = self.layers(self.distances(x))
        return layers.prod(0) * self.read(layers).sigmoid()


@with_parameters
class RSTDN(PairsDetector):
    r"""Pixels that a network takes for altered, by where two students fail.

    The two pairs of a frozen teacher and a student are those of :class:`RSTPM`: one
    student imitates its teacher from the picture, the other rebuilds what a second
    teacher says. On normal pictures their maps are not clean, as no anomaly was in
    training, and a third network learns to tell [1]_. With the sums :math:`d^l` of both
    pairs' distances in layer l, at the size of the picture, a U-Net :math:`h` reads
    :math:`d^1(\tilde x), \dots, d^L(\tilde x)` of pictures :math:`\tilde x` with pasted
    textures and learns by the focal loss where these are; half of the pictures are as
    they were. The map is

    .. math:: \sigma(h(d^1, \dots, d^L)) \prod_l d^l,

    and the score is its maximum. The students are trained first and then left alone.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    student_epochs : int, default=100
        Passes over the training pictures in which the students learn.
    max_epochs : int, default=300
        Passes in which the reading network learns.
    discriminator_width : int, default=64
        Channels of the reading network at the size of pictures; twice as many at each
        of up to four smaller ones.
    discriminator_lr : float, default=0.0001
        Learning rate of the reading network, whose optimizer is Adam.
    lr : float, default=0.4
        Learning rate of the students.
    random_state : int, RandomState instance or None, default=None
        Draws the weights, the batches and the textures. Pass an int for reproducible
        results.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The first teacher: what describes the patches.
    net_ : torch.nn.Module
        The trained network, with its `student`, `rebuilder` and `discriminator`.

    See Also
    --------
    RSTPM : Both pairs alone.
    DeSTSeg : A head over the products of features, of one pair.
    DAF : A student and what reads it, trained at once.

    Notes
    -----
    That there are two pairs and a discriminative network, which is trained with made
    anomalies on the maps of the pairs, is the paper's. The authors have published no
    code: which maps it reads, the focal loss, the numbers of epochs, the learning rate
    and the product are those of a repetition [2]_, which also tries the network's word
    alone. Another repetition adds the mean absolute error to the loss.

    Ours are: the U-Net, which has one output, five sizes and no batch norms, where that
    one takes the network of DRAEM; textures from other pictures of the batch in place
    of a set that would have to be downloaded, as in :class:`DeSTSeg`; and a learning
    rate that stays as it is, which there falls at the end. What is said of the students
    in `RSTPM` holds here.

    The students' batch norms take their statistics from all training pictures before
    the second training. Training is in float32, scoring in the dtype of `X`.

    The reading network, as wide as pictures are large, takes most of the time: without
    a GPU make `discriminator_width` small. On real pictures it was not measured at
    length: an epoch of 80 pictures of 128 pixels takes 100 seconds of a core.

    References
    ----------
    .. [1] S. Yamada, S. Kamiya and K. Hotta, "Reconstructed student-teacher and
       discriminative networks for anomaly detection", IROS, 2022. arXiv:2210.07548.
    .. [2] X. Chen, "RSTPM", in AdvTech, GitHub, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import RSTDN
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = RSTDN(
    ...     layers=["scale1", "scale2"],
    ...     student_channels=(16, 32),
    ...     discriminator_width=8,
    ...     student_epochs=10,
    ...     max_epochs=10,
    ...     discriminator_lr=0.003,
    ...     batch_size=5,
    ...     random_state=0,
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _kind = "pixels+maps"
    _epoch_parameters = ("max_epochs", "student_epochs")
    _parameter_constraints = {
        "student_epochs": [Interval(Integral, 1, None, closed="left")],
        "discriminator_width": [Interval(Integral, 1, None, closed="left")],
        "discriminator_lr": [Interval(Real, 0, None, closed="neither")],
    }

    student_epochs: int = 100
    max_epochs: int = 300
    discriminator_width: int = 64
    discriminator_lr: float = 1e-4

    def _epochs(self, phase):
        return self.student_epochs if phase == "students" else self.max_epochs

    def _optimizer_of(self, phase, group):
        if phase == "students":
            return {}
        return {"optimizer": "adam", "lr": self.discriminator_lr, "weight_decay": 0.0}

    def _network(self, shapes):
        teacher, other = Teacher(self.embedding_), Teacher(self.other_)
        (c, *size), *maps = shapes
        student = self._student([(c * teacher.repeat, *size), *maps[: len(maps) // 2]])
        return RSTDNNetwork(
            teacher,
            other,
            student,
            shapes,
            self.n_blocks,
            self._signed(),
            self.discriminator_width,
        )

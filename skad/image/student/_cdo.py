"""CDO: a student that is to fail where noise was pasted, and nowhere else."""

from numbers import Real

from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import lower_at_the_end
from skad.image._trained import split_maps
from skad.image.student._stfpm import StudentDetector
from skad.nn.corruption import NoiseRectangles
from skad.nn.distillation import Distillation, Power, Teacher
from skad.nn.residual import direction_distance, stacked
from skad.nn.statistics import settle_norms


class CDONetwork(Distillation):
    """A frozen teacher and a student, which both see pictures with noise in places."""

    frozen_parts = ("teacher",)

    def __init__(self, teacher, student, shapes, gamma):
        super().__init__(shapes[0][1:], Power(gamma), NoiseRectangles())
        self.teacher, self.student, self.shapes = teacher, student, shapes
        self.grid = max((s[1:] for s in shapes[1:]), key=lambda size: size[0] * size[1])

    def measure(self, teacher, student):
        """Return the squared distances (b, h, w) of unit vectors."""
        return 2 * direction_distance(teacher, student)

    def beside(self, maps, picture):
        """Return the teacher's maps beside the student's, all on the finest grid."""
        own = self.student(self.teacher.normalised(picture))
        return [
            tuple(F.interpolate(each, self.grid, mode="bilinear") for each in pair)
            for pair in zip(maps, own, strict=True)
        ]

    def pairs(self, seen, clean):
        """Return what teacher and student say, both of the altered pictures."""
        return self.beside(self.teacher(seen), seen)

    def known(self, x):
        """Return the distances (b, h, w) of each layer, of samples with the maps."""
        picture, *maps = split_maps(x, self.shapes)
        return [self.measure(*pair) for pair in self.beside(maps, picture)]

    def updates(self, phase, x, y):
        """Yield the weighted mean of distances, with noise in the pictures."""
        yield "all", super().loss(split_maps(x, self.shapes)[0], y)

    def loss(self, x, y):
        """Return the weighted mean of distances of pictures as they are."""
        return sum(self.hard(each) for each in self.known(x))

    def watched(self, phase, x, y):
        """Return the loss, in which nothing is drawn."""
        return self.loss(x, y)

    def finish(self, batches, held=None):
        """Take the statistics of batch norms from all of the training data."""
        settle_norms(self, (x for x, _ in batches()))

    def map(self, x):
        """Return one minus the cosine of places, summed over layers at one size."""
        return stacked(self.known(x), self.size).sum(0) / 2


@with_parameters
class CDO(StudentDetector):
    r"""Patches that a student tells otherwise than its teacher, which noise taught it.

    As in :class:`STFPM` a student learns to give the maps :math:`F_t^l` of a frozen
    teacher, but both see pictures with a few rectangles of noise. At a place they
    differ by the squared distance d of the vectors of length one. On normal places the
    student is to come near, and in the noise to stay away, and what is hard counts
    most [1]_:

    .. math:: L = \sum_l \frac{\sum_n w_n d_n - \sum_s w_s d_s}
        {\sum_n w_n + \sum_s w_s}, \qquad w_n = \left(\frac{d_n}{\mu_n}\right)^\gamma,
        \quad w_s = \left(\frac{\mu_s}{d_s}\right)^\gamma,

    where n runs over the normal places, s over those with noise, :math:`\mu` is the
    mean of either, and weights have no gradient. The maps have the size of the finest.
    The map is the sum over layers of one minus the cosine, interpolated to the size of
    the picture and smoothed; the score is the mean of its largest hundredth.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    gamma : float, default=2.0
        :math:`\gamma`; 0 weighs all places alike.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or callable, default="adam"
        The optimizer, or a class with torch's signature; what takes betas has 0.5 and
        0.999. The last fifth of the epochs has a tenth of `lr`.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The teacher: what describes the patches.
    net_ : torch.nn.Module
        The trained network, with its `student`.

    See Also
    --------
    STFPM : Without noise; the map is a product.
    RDPlusPlus : Noise that a decoder is to leave out.

    Notes
    -----
    There are 0 to 4 rectangles in a picture, with half sides of a fortieth to a tenth
    of the picture's, and white noise between 0 and 1 in all channels. A place has noise
    where a rectangle touches it. The paper trains an HRNet, which gives large maps; any
    backbone will do. With our ResNets the student is of the same architecture, with
    batch norms, else of residual blocks; norms take their statistics from all training
    pictures without noise, as in :class:`STFPM`. Training is in float32, scoring in the
    dtype of `X`.

    31 cookies at 64 x 64 train it with a ResNet-18 in 13 CPU seconds, 20 epochs with
    batches of 4: 46 others are told with a ROC AUC of .93; PatchCore has .95 at that
    size in less than one. At the paper's size it is unmeasured.

    References
    ----------
    .. [1] Y. Cao, X. Xu, Z. Liu and W. Shen, "Collaborative discrepancy optimization
       for reliable image anomaly localization", IEEE Transactions on Industrial
       Informatics, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import CDO
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = CDO(
    ...     max_epochs=10, batch_size=5, smoothing=1, lr=0.005, random_state=0
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _kind = "pixels+maps"
    _optimizer_options = {"betas": (0.5, 0.999)}
    _parameter_constraints = {
        "gamma": [Interval(Real, 0, None, closed="left")],
    }

    gamma: float = 2.0
    pooling: str = "top"
    lr: float = 1e-3
    weight_decay: float = 0.05

    def _own_callbacks(self, phase, n_epochs):
        return lower_at_the_end(n_epochs, share=0.2, factor=0.1)

    def _network(self, shapes):
        teacher = Teacher(self.embedding_)
        c, *size = shapes[0]
        taken = (c * teacher.repeat, *size)
        student = self._student([taken, *shapes[1:]])
        return CDONetwork(teacher, student, shapes, self.gamma)

"""STFPM: where a student does not tell the features of its teacher."""

from collections.abc import Callable, Sequence
from numbers import Integral

from skad._parameters import with_parameters
from skad.embedding._resnet import ResNet
from skad.image._trained import TrainedImageDetector, split_maps
from skad.nn.residual import Pyramid, direction_distance, initialize, stacked
from skad.nn.statistics import SettledNetwork


class STFPMNetwork(SettledNetwork):
    """A student that is shown pictures and has to say what its teacher says."""

    def __init__(self, student, shapes):
        super().__init__()
        self.student, self.shapes = student, shapes

    def distances(self, x):
        """Return the distances (b, h_l, w_l) of places, equations (1) and (2)."""
        picture, *teacher = split_maps(x, self.shapes)
        pairs = zip(teacher, self.student(picture), strict=True)
        return [direction_distance(*pair) for pair in pairs]

    def loss(self, x, y):
        """Return the mean distance of places, summed over layers."""
        return sum(distance.mean() for distance in self.distances(x))

    def map(self, x):
        """Return the product of the layers' distances, each at the picture's size."""
        return stacked(self.distances(x), self.shapes[0][1:]).prod(0)


@with_parameters
class StudentDetector(TrainedImageDetector):
    """Base of detectors whose student is a network like its teacher.

    Parameters
    ----------
    student_channels : tuple of int, default=(32, 64, 128)
        Channels of the student where the backbone is none of our ResNets: of its first
        convolution, then of maps halved once more; the last stands for all that follow.
    layers : tuple of str or None, default=None
        Names of the layers that are compared; None is the first three of a ResNet, and
        all of the bank of filters.
    """

    _parameter_constraints = {
        "student_channels": [tuple, list],
    }

    student_channels: Sequence[int] = (32, 64, 128)
    max_epochs: int = 100
    batch_size: int = 32

    def _check_parameters(self, X):
        super()._check_parameters(X)
        channels = self.student_channels
        if not channels or any(not isinstance(c, Integral) or c < 1 for c in channels):
            raise ValueError(
                f"student_channels={channels} must be one positive integer or more."
            )

    def _student(self, shapes):
        """Return a student of pictures and maps of shapes (c, h, w), pictures first."""
        name = self._resnet_name()
        if name is None:
            student = Pyramid(shapes[0], shapes[1:], self.student_channels)
        else:
            student = ResNet(name, self.embedding_.layers_)
        return initialize(student)


@with_parameters
class STFPM(StudentDetector):
    r"""Patches that a student has not learned to describe as its teacher does.

    The teacher is a frozen network that gives maps :math:`F_t^l` of several layers; the
    student, which starts from random weights, learns to give the same ones,
    :math:`F_s^l`, on normal pictures. At place :math:`(i, j)` of layer :math:`l` they
    differ by

    .. math:: \ell^l_{ij} = \frac{1}{2} \left\| \frac{F^l_{t,ij}}{\|F^l_{t,ij}\|}
        - \frac{F^l_{s,ij}}{\|F^l_{s,ij}\|} \right\|^2,

    and training minimises the mean over the places, summed over the layers [1]_. What
    was never seen in training is told differently in all layers: the map is the product
    of the layers' :math:`\ell^l`, each interpolated to the size of the picture, and the
    score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or callable, default="sgd"
        The optimizer, or a class with torch's signature; what takes a momentum has 0.9.
    random_state : int, RandomState instance or None, default=None
        Draws the student's weights and the batches. Pass an int for reproducible
        results.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels. The paper does
        not smooth.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The teacher: what describes the patches.
    net_ : torch.nn.Module
        The trained network, with its `student`.

    See Also
    --------
    ReverseDistillation : The student sees the teacher's maps, not the picture.
    PatchCore : Keeps normal patches instead of a student.

    Notes
    -----
    With "resnet18", "resnet34", "resnet50" and "wide_resnet50_2" the student is of the
    same architecture, with batch norms, as in the paper. Any other backbone, the
    default bank of filters among them, has a student of residual blocks, which returns
    maps of the same shapes on its way down the picture.

    The authors' code differs from the paper, which is followed here. It leaves the half
    out of the loss: ``lr=0.8`` and ``weight_decay=5e-5`` train as it does. It
    multiplies maps of 64 x 64. It keeps the weights that do best on a fifth of the
    pictures, as ``patience=100`` with ``validation_fraction=0.2`` does, by the loss
    where the code looks at the mean map. Training is in float32, scoring in the dtype
    of `X`.

    When the training has ended, the student's batch norms take their statistics from
    all training pictures. The averages over the last steps that they have lag behind
    weights that move fast: after 14 steps on drawn textures they told grain and dots
    with a ROC AUC of .63 and .64, and settled with .69 and .94
    (``benchmarks/results/images_settings.tsv``). Variances are those over all pictures,
    since files are often sorted: magnetic tiles come by their light, and the means over
    such batches leave a loss of .52 on the training pictures after 50 steps, where the
    averages have .44 and the whole .43; tiles are told with .69, .72 and .72
    (``benchmarks/results/images_norms.tsv``).

    The student has to learn its teacher from nothing, in two steps an epoch on 64
    pictures of magnetic tiles: after 40 steps it tells them with .69 and after 100, two
    minutes on a busy core, with .77, while the loss still falls; PatchCore has .90, the
    distance to the mean picture .53 (``benchmarks/results/images_training.tsv``). What
    it has not learned yet are bright tiles, good or not: there its errors are largest
    in all layers, and no way of pooling the map tells more. A smaller `batch_size`
    makes more steps of an epoch; on textures it was no better for as many seconds. What
    the bank of filters says, which is linear, a student learns to say of any picture:
    the score may lie below the distance to the mean picture.

    Before a student has learned, few held-out pictures say little of new ones. After
    the 100 epochs of the default, with 6 held out of 31 cookies, it flagged .07 of 14
    new good ones, with a ROC AUC of .93.

    References
    ----------
    .. [1] G. Wang, S. Han, E. Ding and D. Huang, "Student-teacher feature pyramid
       matching for anomaly detection", BMVC, 2021, equations (1) to (4).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import STFPM
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = STFPM(
    ...     max_epochs=10, batch_size=5, student_channels=(16, 32), random_state=0
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(6 <= row <= 17 and 14 <= column <= 25)
    True
    """

    _kind = "pictures+maps"
    _optimizer_options = {"momentum": 0.9}

    lr: float = 0.4
    optimizer: str | Callable = "sgd"
    weight_decay: float = 1e-4
    smoothing: float = 0.0

    def _network(self, shapes):
        return STFPMNetwork(self._student(shapes), shapes)

"""DeSTSeg: a student that sees through pasted textures, and a head that finds them."""

from collections.abc import Callable
from itertools import pairwise
from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import from_parameters
from skad.embedding._resnet import LAYERS, ResNet
from skad.image._trained import split_maps
from skad.image.student._stfpm import StudentDetector
from skad.nn.corruption import TexturePaste
from skad.nn.distillation import Teacher
from skad.nn.network import Network
from skad.nn.residual import (
    Pyramid,
    direction_distance,
    from_fine_to_coarse,
    initialize,
    residuals,
)
from skad.nn.segmentation import Segmenter, on_grid, segmentation_loss
from skad.nn.statistics import settle_norms


class EncoderDecoder(nn.Module):
    """Down a picture to one small map, and up again to maps of given shapes.

    Nothing goes across: what is altered in the picture is to be lost on the way.

    Parameters
    ----------
    encoder : Module
        From pictures to a list of one map.
    into : int
        Its channels.
    shapes : list of tuple
        (c, h, w) of the maps, in any order.
    n_blocks : int
        Residual blocks of each stage.
    signed : bool
        Whether maps have negative values: then each comes from a linear layer, else
        from the rectified output of the stage.
    """

    def __init__(self, encoder, into, shapes, n_blocks, signed):
        super().__init__()
        self.encoder = encoder
        self.order = from_fine_to_coarse(shapes)[::-1]
        widths = [into, *(shapes[i][0] for i in self.order)]
        self.sizes = [tuple(shapes[i][1:]) for i in self.order]
        self.first = residuals(into, into, n_blocks)
        self.stages = nn.ModuleList(
            residuals(before, out, n_blocks) for before, out in pairwise(widths)
        )
        self.heads = nn.ModuleList(
            nn.Conv2d(out, out, 1) if signed else nn.Identity() for out in widths[1:]
        )

    def forward(self, x):
        """Return the maps (b, c, h, w) in the order of the shapes."""
        (x,), found = self.encoder(x), [None] * len(self.order)
        x = self.first(x)
        parts = zip(self.order, self.sizes, self.stages, self.heads, strict=True)
        for i, size, stage, head in parts:
            x = stage(F.interpolate(x, size, mode="bilinear"))
            found[i] = head(x)
        return found


class DeSTSegNetwork(Network):
    """A frozen teacher, a student of altered pictures, and a head over both."""

    phases = ("student", "segmentation")
    frozen_parts = ("teacher",)

    def __init__(
        self, teacher, student, shapes, n_blocks, segmenter_channels, blocks_lr, head_lr
    ):
        super().__init__()
        self.teacher, self.student, self.shapes = teacher, student, shapes
        self.grid = shapes[1 + from_fine_to_coarse(shapes[1:])[0]][1:]
        d = sum(shape[0] for shape in shapes[1:])
        self.segmenter = Segmenter(d, segmenter_channels, n_blocks)
        self.blocks_lr, self.head_lr = blocks_lr, head_lr
        self.corruption = TexturePaste(0.8)

    def groups(self, phase):
        """Return the weights of the student, or of the two parts of the head."""
        if phase == "student":
            return {"all": self.student.parameters()}
        blocks = {"params": self.segmenter.blocks.parameters(), "lr": self.blocks_lr}
        head = {"params": self.segmenter.head.parameters(), "lr": self.head_lr}
        return {"all": [blocks, head]}

    def begin(self, phase, batches):
        """Let the student's norms settle before what it says is learned from."""
        if phase == "segmentation":
            self._settle_student(batches)

    def _settle_student(self, batches):
        # pictures as they are: nothing is drawn, so that a resumed training is the same
        settle_norms(self, (x for x, _ in batches()), self.known)

    def finish(self, batches, held=None):
        """Take the statistics of the head's norms from all pictures, altered."""
        settle_norms(self, (x for x, _ in batches()), self.segmentation)

    # ----------------------------------------------------------------------- the parts

    def known(self, x):
        """Return what teacher and student say of samples, lists (b, c, h, w)."""
        picture, *maps = split_maps(x, self.shapes)
        return maps, self.student(self.teacher.normalised(picture))

    def products(self, maps, own):
        """Return minus the products of directions, (b, d, gh, gw), element by element.

        Over the channels of a layer they sum to minus the cosine.
        """
        pairs = zip(maps, own, strict=True)
        found = [-F.normalize(t, dim=1) * F.normalize(s, dim=1) for t, s in pairs]
        return torch.cat(
            [F.interpolate(each, self.grid, mode="bilinear") for each in found], 1
        )

    def distances(self, maps, own):
        """Return one minus the mean cosine, summed over layers and samples."""
        pairs = zip(maps, own, strict=True)
        return sum(direction_distance(*pair).mean((1, 2)).sum() for pair in pairs)

    # ------------------------------------------------------------------------ training

    def loss(self, x, y):
        """Return how far the student of altered pictures is from the teacher's maps."""
        picture, *maps = split_maps(x, self.shapes)
        seen = self.corruption(picture)[0]
        return self.distances(maps, self.student(self.teacher.normalised(seen)))

    def segmentation(self, x):
        """Return the head's logits (b, gh, gw) of altered pictures, and the mask."""
        picture = split_maps(x, self.shapes)[0]
        with torch.no_grad():
            self.student.eval()  # it has learned
            seen, mask = self.corruption(picture)
            own = self.student(self.teacher.normalised(seen))
            products = self.products(self.teacher(seen), own)
        return self.segmenter(products), on_grid(mask, self.grid)

    def updates(self, phase, x, y):
        """Yield the loss of the part that is trained."""
        if phase == "student":
            yield "all", self.loss(x, y)
        else:
            yield "all", segmentation_loss(*self.segmentation(x))

    def watched(self, phase, x, y):
        """Return the loss of that part; nothing is drawn for the student."""
        if phase == "student":
            return self.distances(*self.known(x))
        return segmentation_loss(*self.segmentation(x))

    def map(self, x):
        """Return the probability (b, gh, gw) that a place is altered."""
        return self.segmenter(self.products(*self.known(x))).sigmoid()


@with_parameters
class DeSTSeg(StudentDetector):
    r"""Patches that a head takes for altered, by what a teacher and a student say.

    First a student learns from pictures :math:`\tilde x` with pasted textures to give
    the maps :math:`T^l` that a frozen teacher gives of the pictures without them [1]_:

    .. math:: L = \sum_l \frac{1}{h_l w_l} \sum_{ij} \left(1 - \cos\left(
        T^l_{ij}(x), S^l_{ij}(\tilde x)\right)\right),

    summed over the batch. It leads through one small map, without skips, in which a
    texture gets lost. Then the student stays as it is, and a head :math:`h` learns
    where the textures are, from the products of both directions, channel by channel,

    .. math:: X^l = - \frac{T^l(\tilde x)}{\|T^l(\tilde x)\|} \odot
        \frac{S^l(\tilde x)}{\|S^l(\tilde x)\|},

    of all layers at the size of the finest: residual blocks, an atrous pyramid, which
    looks around a place at several distances, and two convolutions. Its loss is the
    focal loss of the mask plus the mean absolute error. The map is the probability that
    the head gives of the picture as it is, interpolated to its size; the score is the
    mean of its largest pixels.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_blocks : int, default=2
        Residual blocks of each stage of the student's way up, and of the head.
    segmenter_channels : int, default=256
        Channels of the head.
    student_epochs : int, default=150
        Passes over the training pictures in which the student learns.
    max_epochs : int, default=600
        Passes in which the head learns.
    lr : float, default=0.4
        Learning rate of the student.
    blocks_lr : float, default=0.1
        Learning rate of the head's residual blocks.
    head_lr : float, default=0.01
        Learning rate of what follows them.
    optimizer : {"adam", "adamw", "sgd", "rmsprop"} or callable, default="sgd"
        The optimizer, or a class with torch's signature; what takes a momentum has 0.9.
    quantile : float, default=0.9985
        The score is the mean of the map's values above it: of 256 x 256 pixels, the 100
        that the authors take.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        The teacher: what describes the patches.
    net_ : torch.nn.Module
        The trained network, with its `student` and `segmenter`.

    See Also
    --------
    STFPM : Without altered pictures and without a head.
    RDPlusPlus : Noise that a decoder is to leave out.
    GLASS : Learns from such pictures without a student.

    Notes
    -----
    A place of the mask is one where Perlin noise, turned by up to a right angle,
    exceeds 0.5, with 1 to 32 cells along a side. There a picture keeps a share between
    0 and 0.8, and the rest is a texture. The authors take textures from a set that
    would have to be downloaded; here they are other pictures of the batch, cut into
    bands that change places, half of them inverted, with another brightness, contrast
    or saturation. Noise that is nowhere above 0.5 is stretched until it is; theirs then
    leaves the picture as it was. They also turn the pictures of some kinds, which is
    left to the user.

    With our ResNets the student is of the same architecture, up to a stage more than
    the last of `layers`, and its way back up has `n_blocks` residual blocks a stage, as
    in the paper. Any other backbone, the default bank of filters among them, has a
    student of `student_channels`, whose maps come from linear layers, since they may be
    negative. The pyramid has distances 6, 12 and 18 and the mean of the map, as in the
    authors' code. The defaults make about the authors' 1,000 and 4,000 steps of 200
    pictures. Batch norms take their statistics from all training pictures when the
    training of their part has ended, the student's from pictures as they are. Training
    is in float32, scoring in the dtype of `X`.

    31 cookies at 64 x 64 train it with a ResNet-18 in 54 CPU seconds, 6 and 10 epochs
    with batches of 4: 46 others are told with a ROC AUC of 1.00 (.998) and their pixels
    with .95; the product over layers of one minus the cosines, without the head, has
    .97 and .90, PatchCore .95 at that size, the distance to the mean picture .90.
    The head wants more steps on textures: with 32 magnetic tiles and 5 epochs of the
    student it tells 80 others with .66 after 6 epochs and with .82 after 20 (89
    seconds), their pixels with .54 and .74; the product has .85 and .77, the distance
    to the mean .50. At the paper's size it is unmeasured.

    References
    ----------
    .. [1] X. Zhang, S. Li, X. Li, P. Huang, J. Shan and T. Chen, "DeSTSeg: segmentation
       guided denoising student-teacher for anomaly detection", CVPR, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import DeSTSeg
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = DeSTSeg(
    ...     layers=["scale1", "scale2"],
    ...     student_channels=(16, 32),
    ...     segmenter_channels=16,
    ...     student_epochs=10,
    ...     max_epochs=20,
    ...     batch_size=5,
    ...     random_state=0,
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(6 <= row <= 17 and 14 <= column <= 25)
    True
    """

    _kind = "pixels+maps"
    _epoch_parameters = ("max_epochs", "student_epochs")
    _optimizer_options = {"momentum": 0.9}
    _parameter_constraints = {
        "n_blocks": [Interval(Integral, 1, None, closed="left")],
        "segmenter_channels": [Interval(Integral, 1, None, closed="left")],
        "student_epochs": [Interval(Integral, 1, None, closed="left")],
        "blocks_lr": [Interval(Real, 0, None, closed="neither")],
        "head_lr": [Interval(Real, 0, None, closed="neither")],
    }

    n_blocks: int = 2
    segmenter_channels: int = 256
    student_epochs: int = 150
    max_epochs: int = 600
    lr: float = 0.4
    blocks_lr: float = 0.1
    head_lr: float = 0.01
    optimizer: str | Callable = "sgd"
    weight_decay: float = 1e-4
    smoothing: float = 0.0
    pooling: str = "top"
    quantile: float = 0.9985

    def _epochs(self, phase):
        return self.student_epochs if phase == "student" else self.max_epochs

    def _denoiser(self, shapes):
        """Return a student of pictures and maps of shapes (c, h, w), pictures first."""
        picture, *shapes = shapes
        name = self._resnet_name()
        if name is None:
            _, *size = shapes[from_fine_to_coarse(shapes)[-1]]
            into = self.student_channels[-1]
            deepest = (into, *(-(-n // 2) for n in size))
            encoder = Pyramid(picture, [deepest], self.student_channels)
        else:
            last = max(LAYERS.index(layer) for layer in self.embedding_.layers_)
            encoder = ResNet(name, (LAYERS[min(last + 1, len(LAYERS) - 1)],))
            into = _channels(encoder)
        signed = name is None
        student = EncoderDecoder(encoder, into, shapes, self.n_blocks, signed)
        return initialize(student)

    def _network(self, shapes):
        teacher = Teacher(self.embedding_)
        c, *size = shapes[0]
        student = self._denoiser([(c * teacher.repeat, *size), *shapes[1:]])
        return from_parameters(self, DeSTSegNetwork, teacher, student, shapes)


def _channels(encoder):
    """Return the channels of a ResNet's only layer."""
    with torch.no_grad():
        return encoder.eval()(torch.zeros(1, 3, 32, 32))[0].shape[1]

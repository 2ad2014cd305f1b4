"""UninformedStudents: where students err about patches, and where they disagree."""

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import from_parameters
from skad.image.student._calibrated import CalibratedDetector, CalibratedMaps
from skad.nn.description import PATCHES, DensePatches
from skad.nn.distillation import MapCalibration, squared
from skad.nn.network import Network
from skad.nn.statistics import ChannelScale, places


def redundancy(rows):
    """Return the sum of squared correlations of the columns of rows (n, c).

    Of each with every other: the paper's loss of compactness.
    """
    away = rows - rows.mean(0)
    unit = F.normalize(away, dim=0)
    correlations = unit.T @ unit
    return correlations.square().sum() - correlations.diagonal().square().sum()


class UninformedStudentsNetwork(CalibratedMaps, Network):
    """Teachers of patches of several sizes, and students of each.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of pictures.
    described : tuple
        What teachers are distilled from: a callable from pictures (b, h, w, c) to
        features (b, gh, gw, d), or None where they keep their weights, and d.
    patch_sizes, n_students, channels, width, stride
        As for `UninformedStudents`.
    """

    warm_phases = ("students",)

    def __init__(
        self, shape, described, patch_sizes, n_students, channels, width, stride
    ):
        super().__init__()
        self.shape, (self.describe, d) = shape, described
        self.phases = ("teachers", "students") if self.describe else ("students",)
        self.grid = tuple(-(-n // stride) for n in shape[1:])

        def new(size):
            return DensePatches(shape[0], channels, size, width, stride)

        self.teachers = nn.ModuleList(map(new, patch_sizes))
        self.students = nn.ModuleList(
            nn.ModuleList(new(size) for _ in range(n_students)) for size in patch_sizes
        )
        self.decoders = nn.ModuleList(nn.Conv2d(channels, d, 1) for _ in patch_sizes)
        self.target_scale = ChannelScale(d)
        self.scales = nn.ModuleList(ChannelScale(channels) for _ in patch_sizes)
        self.calibration = MapCalibration(2 * len(self.teachers), "standard")

    def groups(self, phase):
        """Return the parameters of teachers with their decoders, or of students."""
        if phase == "teachers":
            parts = [*self.teachers.parameters(), *self.decoders.parameters()]
            return {"all": parts}
        return {"all": list(self.students.parameters())}

    def begin(self, phase, batches):
        """Take the scale of what the backbone says, or of what the teachers say."""
        if phase == "teachers":
            self.target_scale.learn(self._described(x) for x, _ in batches())
            return
        for i, scale in enumerate(self.scales):
            scale.learn(self._untaught(x, i) for x, _ in batches())

    def updates(self, phase, x, y):
        """Yield the loss of teachers, or of students."""
        yield "all", self.teaching(x) if phase == "teachers" else self.loss(x, y)

    def finish(self, batches, held=None):
        """Bring errors and variances to one scale by held-out pictures, if any."""
        self.describe = None  # nothing that is trained later needs it
        self.calibration.learn(self.raw_maps(x) for x, _ in (held or batches)())

    # --------------------------------------------------------------------- the teachers

    def _pictures(self, x):
        """Return samples (b, m) as pictures (b, c, h, w) in -1..1."""
        return 2 * x.unflatten(1, self.shape) - 1

    def _described(self, x):
        """Return what the backbone says at the places of patches, (b, d, gh, gw)."""
        found = self.describe(x.unflatten(1, self.shape).permute(0, 2, 3, 1))
        found = found.permute(0, 3, 1, 2)
        return F.interpolate(found, self.grid, mode="bilinear", antialias=True)

    def teaching(self, x):
        """Return the error of what is decoded, and the redundancy of descriptions."""
        if self.training:
            flipped = [axis for axis in (2, 3) if torch.rand(()) < 0.5]
            x = x.unflatten(1, self.shape).flip(flipped).flatten(1)
        target, total = self.target_scale(self._described(x)), 0.0
        for teacher, decoder in zip(self.teachers, self.decoders, strict=True):
            said = teacher(self._pictures(x))
            total = total + squared(target, decoder(said)).sum(1).mean()
            total = total + redundancy(places(said))
        return total

    def _untaught(self, x, i):
        """Return the maps of a teacher before they are standardised."""
        with torch.no_grad():
            return self.teachers[i](self._pictures(x))

    # --------------------------------------------------------------------- the students

    def pairs(self, x):
        """Return of each size the teacher's (b, c, gh, gw) and the students' maps.

        These are (m, b, c, gh, gw).
        """
        pictures = self._pictures(x)
        taught = [scale(self._untaught(x, i)) for i, scale in enumerate(self.scales)]
        said = [torch.stack([one(pictures) for one in each]) for each in self.students]
        return list(zip(taught, said, strict=True))

    def loss(self, x, y):
        """Return the squared error of places, summed over students and sizes."""
        return sum(
            squared(taught, said).sum(2).mean((1, 2, 3)).sum()
            for taught, said in self.pairs(x)
        )

    def raw_maps(self, x):
        """Return errors and variances of all sizes, (2 sizes, b, gh, gw)."""
        pairs = self.pairs(x)
        errors = [squared(taught, said.mean(0)).sum(1) for taught, said in pairs]
        variances = [said.var(0, correction=0).sum(1) for _, said in pairs]
        return torch.stack([*errors, *variances])

    def joined(self, maps):
        """Return the sum of errors and variances, the mean over sizes, (b, gh, gw)."""
        return maps.sum(0) / len(self.teachers)


@with_parameters
class UninformedStudents(CalibratedDetector):
    r"""Patches of which students do not know what their teacher says, or disagree.

    A teacher :math:`T` describes the patch around each place by a few convolutions; it
    was itself taught by a large network. On normal pictures M students :math:`S_i`
    learn to say the same from different beginnings. With :math:`\hat T`, each channel
    of the teacher at mean 0 and deviation 1 over the training pictures, a place has the
    error of the students' mean and their variance [1]_,

    .. math:: e = \left\| \frac1M \sum_i S_i - \hat T \right\|^2, \qquad
        v = \frac1M \sum_i \|S_i\|^2 - \left\| \frac1M \sum_i S_i \right\|^2,

    and with the means and deviations of both over all places of held-out normal
    pictures the map is :math:`(e - \mu_e) / \sigma_e + (v - \mu_v) / \sigma_v`. There
    are a teacher and students for each of several sizes of patches; the map is the mean
    of theirs, interpolated to the pixels of the picture, and the score is its maximum.

    Training minimises the mean of :math:`\|S_i - \hat T\|^2` over the places. Before
    it, teachers minimise :math:`\|D(T) - F\|^2 + \sum_{i \ne j} c_{ij}^2`, where D is a
    linear layer, F what the large network says there, and c are the correlations of
    the channels of T over the places of a batch.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_students : int, default=3
        Students of each teacher. With 1 there is no variance.
    patch_sizes : tuple of int, default=(17, 33, 65)
        Sides of the patches in pixels, out of these.
    channels : int, default=128
        Length of descriptions.
    width : int, default=128
        Channels of the first convolution of teachers and students, others in
        proportion.
    stride : int, default=4
        Pixels between the places that are described. The paper has 1, which costs many
        times as much.
    teacher_epochs : int, default=100
        Passes over the training pictures that distil the teachers; 0 leaves them with
        random weights.
    layers : tuple of str or None, default=None
        Names of the backbone's layers that teachers learn; None is the second and third
        of a ResNet, and all of the bank of filters.
    image_size : int, tuple of int or None, default=None
        Size to which pictures are brought, 256 in the paper; None leaves them.
    batch_size : int, default=1
        Pictures of a training step.
    max_epochs : int, default=100
        Passes over the training pictures for the students.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels. The paper does
        not smooth.
    validation_fraction : float, default=0.2
        Share of the normal pictures that are held out of the training, at least 5 of 12
        or more: they bring errors and variances to one scale, whatever `contamination`
        is, and set the threshold for "auto".

    Attributes
    ----------
    embedding_ : PatchEmbedding
        What the teachers were distilled from.
    net_ : torch.nn.Module
        The trained network, with its `teachers` and `students`.

    See Also
    --------
    EfficientAD : One small teacher and student, and an autoencoder.
    STFPM : The teacher is the large network itself.

    Notes
    -----
    The paper's teachers have seen ImageNet; here they are distilled from `backbone` on
    the training pictures, which are flipped at random: they know these alone, and tell
    anomalies less well. The features of the backbone come to the places by
    interpolation, where the paper enlarges each patch to a picture. Its weights of the
    losses are 1, and 0 for a third, of triplets. Pictures are brought to -1..1 and have
    zeros around them. Of patches of 33 pixels the network sees 32, and of 65 60, since
    its pools leave out what is odd.

    With the default sizes this is a GPU's work; without one take ``width=16``,
    ``channels=16`` and small pictures: 31 cookies at 64 x 64 train it so with a
    ResNet-18 in 27 CPU seconds, 10 epochs for teachers and 10 for students with
    ``batch_size=4, lr=1e-3``. 46 others are told with a ROC AUC of .97, and pixels with
    .95; PatchCore has .94 and .90 at that size.

    Where fewer than 12 pictures are normal, none are held out: then training pictures
    bring errors and variances to one scale, on which both are small. Training is in
    float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] P. Bergmann, M. Fauser, D. Sattlegger and C. Steger, "Uninformed students:
       student-teacher anomaly detection with discriminative latent embeddings", CVPR,
       2020, equations (1) to (10).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import UninformedStudents
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = UninformedStudents(
    ...     patch_sizes=(17,),
    ...     channels=8,
    ...     width=4,
    ...     teacher_epochs=3,
    ...     max_epochs=5,
    ...     batch_size=4,
    ...     lr=0.003,
    ...     random_state=0,
    ... ).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(4 <= row <= 19 and 12 <= column <= 27)
    True
    """

    _epoch_parameters = ("max_epochs", "teacher_epochs")
    _costly = ("image_size", "channels", "width")
    _resnet_layers = ("layer2", "layer3")
    _kind = "pixels"
    _parameter_constraints = {
        "n_students": [Interval(Integral, 1, None, closed="left")],
        "patch_sizes": [tuple, list],
        "channels": [Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "teacher_epochs": [Interval(Integral, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
    }

    n_students: int = 3
    patch_sizes: Sequence[int] = (17, 33, 65)
    channels: int = 128
    width: int = 128
    stride: int = 4
    teacher_epochs: int = 100
    max_epochs: int = 100
    batch_size: int = 1
    lr: float = 1e-4
    weight_decay: float = 1e-5
    smoothing: float = 0.0

    def _check_parameters(self, X):
        super()._check_parameters(X)
        sizes = tuple(self.patch_sizes)
        if not sizes or not set(sizes) <= set(PATCHES) or len(set(sizes)) < len(sizes):
            raise ValueError(
                f"patch_sizes={sizes} must be different ones of {tuple(PATCHES)}."
            )

    def _epochs(self, phase):
        return self.teacher_epochs if phase == "teachers" else self.max_epochs

    def _network(self, shapes):
        embed = self.embedding_.embed
        n, m, c = (*self.image_shape_[:2], self.image_shape_[2])
        d = embed(torch.zeros(1, n, m, c, device=self.device_)).shape[3]
        described = (embed if self.teacher_epochs else None, d)
        return from_parameters(self, UninformedStudentsNetwork, shapes[0], described)

"""What methods share whose teachers are small networks that describe patches.

They are distilled from the backbone first; then something learns to say the same.
"""

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


class PatchTeachers(CalibratedMaps, Network):
    """Teachers of patches of several sizes, and what learns from each.

    A method writes `loss` and `raw_maps`, two maps of each size.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of pictures.
    described : tuple
        What teachers are distilled from: a callable from pictures (b, h, w, c) to
        features (b, gh, gw, d), or None where they keep their weights, and d.
    patch_sizes, channels, width, stride
        As for `PatchTeachersDetector`.
    students : callable
        From a size, what makes a network like its teacher, and the grid (gh, gw), to
        the module that learns from that teacher.
    """

    warm_phases = ("students",)

    def __init__(
        self, shape, described, patch_sizes, channels, width, stride, students
    ):
        super().__init__()
        self.shape, (self.describe, d) = shape, described
        self.phases = ("teachers", "students") if self.describe else ("students",)
        self.grid = tuple(-(-n // stride) for n in shape[1:])

        def new(size):
            return DensePatches(shape[0], channels, size, width, stride)

        self.teachers = nn.ModuleList(map(new, patch_sizes))
        self.students = nn.ModuleList(
            students(size, new, self.grid) for size in patch_sizes
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
        """Bring all maps to one scale by held-out pictures, if there are any."""
        self.describe = None  # nothing that is trained later needs it
        self.calibration.learn(self.raw_maps(x) for x, _ in (held or batches)())

    def joined(self, maps):
        """Return the sum of both maps, the mean over sizes, (b, gh, gw)."""
        return maps.sum(0) / len(self.teachers)

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

    def taught(self, x):
        """Return what each teacher says, (b, c, gh, gw), every channel standardised."""
        return [scale(self._untaught(x, i)) for i, scale in enumerate(self.scales)]


@with_parameters
class PatchTeachersDetector(CalibratedDetector):
    """Base of detectors whose network has `PatchTeachers`, its `_network_class`.

    Parameters
    ----------
    patch_sizes : tuple of int, default=(17, 33, 65)
        Sides of the patches in pixels, out of these.
    channels : int, default=128
        Length of descriptions.
    width : int, default=128
        Channels of the first convolution of teachers, others in proportion.
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
    max_epochs : int, default=100
        Passes over the training pictures after those for the teachers.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels. The paper does
        not smooth.
    validation_fraction : float, default=0.2
        Share of the normal pictures that are held out of the training, at least 5 of 12
        or more: they bring all maps to one scale, whatever `contamination` is, and set
        the threshold for "auto".
    """

    _epoch_parameters = ("max_epochs", "teacher_epochs")
    _costly = ("image_size", "channels", "width")
    _resnet_layers = ("layer2", "layer3")
    _kind = "pixels"
    _parameter_constraints = {
        "patch_sizes": [tuple, list],
        "channels": [Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "teacher_epochs": [Interval(Integral, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
    }

    patch_sizes: Sequence[int] = (17, 33, 65)
    channels: int = 128
    width: int = 128
    stride: int = 4
    teacher_epochs: int = 100
    max_epochs: int = 100
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
        return from_parameters(self, self._network_class, shapes[0], described)

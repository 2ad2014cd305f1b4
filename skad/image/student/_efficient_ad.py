"""EfficientAD: a small teacher, its student, and an autoencoder of whole pictures."""

from collections.abc import Mapping
from numbers import Integral, Real
from os import PathLike
from typing import ClassVar

import torch
from torch.nn import functional as F  # noqa: N812

from skad._fit_parameters import OutliersMixin
from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import from_parameters, lower_at_the_end
from skad.embedding._libraries import IMAGENET
from skad.embedding._weights import arrays_of, load_arrays
from skad.image.student._calibrated import CalibratedDetector, CalibratedMaps
from skad.nn.corruption import ColourJitter, grey
from skad.nn.description import (
    SIZES,
    DescriptionAutoEncoder,
    PatchDescription,
    by_order,
    needs_zeros,
)
from skad.nn.distillation import (
    AboveQuantile,
    Distillation,
    MapCalibration,
    squared,
)
from skad.nn.statistics import ChannelScale

# Share of batches that the teacher learns from in grey.
_GREY = 0.1
# Places that a description without zeros around it has fewer, on each side.
_BORDER = 4


class EfficientADNetwork(CalibratedMaps, Distillation):
    """A teacher, its student with twice the channels, and an autoencoder.

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of pictures.
    describe : callable or None
        What the teacher is distilled from: from pictures (b, h, w, c) to features
        (b, gh, gw, d). None leaves the teacher's weights as they are.
    channels, size, width, latent_size, hard_quantile
        As for `EfficientAD`.
    """

    warm_phases = ("student",)

    def __init__(
        self, shape, describe, channels, size, width, latent_size, hard_quantile
    ):
        super().__init__(shape[1:], AboveQuantile(hard_quantile))
        self.shape, (c, *pixels) = shape, shape
        c = 3 if c == 1 else c  # as the weights that are about take them
        self.phases = ("student",) if describe is None else ("teacher", "student")
        self.describe, self.channels = describe, channels
        self.padded = needs_zeros(pixels)
        self.teacher = PatchDescription(c, channels, size, width)
        self.student = PatchDescription(c, 2 * channels, size, width)
        with torch.no_grad():
            grid = self.teacher(torch.zeros(1, c, *pixels), self.padded).shape[2:]
        self.autoencoder = DescriptionAutoEncoder(
            (c, *pixels), (channels, *grid), latent_size
        )
        self.jitter = ColourJitter()
        self.target_scale, self.scale = ChannelScale(channels), ChannelScale(channels)
        self.calibration = MapCalibration(2, "quantile", (0.9, 0.995), 0.1)
        mean, std = IMAGENET if c == 3 else ((0.0,) * c, (1.0,) * c)
        self.register_buffer("input_mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("input_std", torch.tensor(std).view(-1, 1, 1))

    def groups(self, phase):
        """Return the teacher's parameters, or those of what learns from it."""
        if phase == "teacher":
            return {"all": list(self.teacher.parameters())}
        return {"all": [*self.student.parameters(), *self.autoencoder.parameters()]}

    def begin(self, phase, batches):
        """Take the scale of what the backbone says, or of what the teacher says.

        The teacher learns from all pictures, and what it says is compared on normal
        ones.
        """
        if phase == "teacher":
            pictures = (self._pictures(x) for x, _ in batches())
            self.target_scale.learn(map(self._described, pictures))
        else:
            self.scale.learn(map(self._untaught, self._normal(batches)))

    def _normal(self, batches):
        """Iterate over the pictures of batches that are no known anomalies."""
        for x, y in batches():
            x = x if y is None else x[y != -1]
            if len(x):
                yield self._pictures(x)

    def _pictures(self, x):
        """Return samples (b, m) as pictures (b, c, h, w)."""
        return x.unflatten(1, self.shape)

    def updates(self, phase, x, y):
        """Yield the error of the teacher, or of student and autoencoder."""
        if phase == "teacher":
            yield "all", self.teacher_loss(self._pictures(x))
        else:
            yield "all", self.loss(x, y)

    def finish(self, batches, held=None):
        """Bring both maps to one scale by held-out pictures, where there are any."""
        self.describe = None  # nothing that is trained later needs it
        normal = (x.flatten(1) for x in self._normal(held or batches))
        self.calibration.learn(map(self.raw_maps, normal))

    # ---------------------------------------------------------------------- the teacher

    def _input(self, x):
        """Return pictures (b, c, h, w) as the small networks take them."""
        x = x.expand(-1, len(self.input_mean), -1, -1)
        return (x - self.input_mean) / self.input_std

    def _described(self, x):
        """Return what the backbone says at the places of a teacher with zeros around.

        (b, channels, gh, gw); its features are averaged in groups, or repeated.
        """
        found = self.describe(x.permute(0, 2, 3, 1))  # (b, gh, gw, d)
        grid, flat = found.shape[1:3], found.flatten(1, 2)
        maps = F.adaptive_avg_pool1d(flat, self.channels).mT.unflatten(2, grid)
        places = [-(-n // 4) for n in x.shape[2:]]
        return F.interpolate(maps, places, mode="bilinear", antialias=True)

    def teacher_loss(self, x):
        """Return the mean squared error of the teacher to the standardised features."""
        if self.training:  # whatever it sees, it has to say what the backbone says
            flipped = [axis for axis in (2, 3) if torch.rand(()) < 0.5]
            x = x.flip(flipped)
            if torch.rand(()) < _GREY:
                x = grey(x).expand_as(x)
        target = self.target_scale(self._described(x))
        said = self.teacher(self._input(x), (True, True))
        return squared(target, said).mean()

    def _untaught(self, x):
        """Return the teacher's maps before they are standardised."""
        with torch.no_grad():
            return self.teacher(self._input(x), self.padded)

    def taught(self, x):
        """Return what the teacher says of pictures, every channel standardised."""
        return self.scale(self._untaught(x))

    # --------------------------------------------------------- student and autoencoder

    def learned(self, x):
        """Return what the student says: for the teacher, and for the autoencoder."""
        return self.student(self._input(x), self.padded).split(self.channels, 1)

    def pairs(self, seen, clean):
        """Return what teacher and student say of the same pictures."""
        return [(self.taught(seen), self.learned(seen)[0])]

    def loss(self, x, y):
        """Return the sum of the three losses and, with known anomalies, the penalty."""
        x, known = self._pictures(x), None if y is None else y == -1
        normal = x if known is None else x[~known]
        loss = super().loss(normal, y)
        if known is not None and known.any():
            loss = loss + self.learned(x[known])[0].square().mean()
        seen = self.jitter(normal) if self.training else normal
        rebuilt = self.autoencoder(self._input(seen))
        loss = loss + squared(self.taught(seen), rebuilt).mean()
        return loss + squared(rebuilt, self.learned(seen)[1]).mean()

    # -------------------------------------------------------------------------- scores

    def raw_maps(self, x):
        """Return the maps of the student and of the autoencoder, (2, b, gh, gw)."""
        x = self._pictures(x)
        for_teacher, for_autoencoder = self.learned(x)
        rebuilt = self.autoencoder(self._input(x))
        pairs = (self.taught(x), for_teacher), (rebuilt, for_autoencoder)
        return torch.stack([squared(*pair).mean(1) for pair in pairs])

    def joined(self, maps):
        """Return the mean of both maps, with a border where they have none.

        The border, which lies outside of what was looked at, repeats the outermost
        places: zeros could be more anomalous than the picture.
        """
        high, wide = (0 if each else _BORDER for each in self.padded)
        mean = maps.mean(0)[:, None]
        return F.pad(mean, (wide, wide, high, high), mode="replicate")[:, 0]


@with_parameters
class EfficientAD(OutliersMixin, CalibratedDetector):
    r"""Patches that a small student tells otherwise than its teacher or an autoencoder.

    A teacher :math:`T` of few convolutions describes each square of 33 x 33 pixels; it
    was itself taught by a large network. On normal pictures a student :math:`S` learns
    to say the same, and an autoencoder :math:`A` to say it by way of one short code of
    the whole picture; with a second half of its channels the student learns what the
    autoencoder says [1]_. With :math:`\hat T`, each channel of the teacher at mean 0
    and deviation 1 over the training pictures, the losses are summed,

    .. math:: L = \frac{1}{|H|} \sum_{e \in H} D_e + \mathrm{mean}\, S(p)^2
        + \mathrm{mean}(\hat T(x') - A(x'))^2 + \mathrm{mean}(A(x') - S'(x'))^2,

    where :math:`D = (\hat T(x) - S(x))^2` counts in its largest elements :math:`H`
    only, :math:`p` are pictures of anything else and :math:`x'` has another brightness,
    contrast or saturation. The maps

    .. math:: M_{ST} = \mathrm{mean}_c (\hat T - S)^2, \qquad
        M_{AE} = \mathrm{mean}_c (A - S')^2

    find what looks wrong, and what is in the wrong place. With the quantiles
    :math:`q_{.9}` and :math:`q_{.995}` of each over all places of held-out normal
    pictures, the map is the mean of both :math:`0.1 (M - q_{.9}) / (q_{.995} -
    q_{.9})`, interpolated to the pixels of the picture; the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    size : {"small", "medium"}, default="small"
        The networks of teacher and student: EfficientAD-S or EfficientAD-M.
    teacher : path, mapping or None, default=None
        A file with the weights of a teacher of that size (.pth, .safetensors, .npz), or
        its state dict. None distils one before the student is trained: it learns to say
        what `backbone` says of the training pictures, known anomalies among them.
    channels : int, default=384
        Channels of the teacher; the student has twice as many.
    width : int or None, default=None
        Channels of the first convolution of teacher and student, others in proportion;
        None is the paper's, 128 or 256.
    latent_size : int, default=64
        Length of the autoencoder's code, and channels of its layers; the first two have
        half as many.
    hard_quantile : float, default=0.999
        Quantile of each picture's :math:`D` from which on elements are in :math:`H`; 0
        takes the mean of all.
    teacher_epochs : int, default=300
        Passes over the training pictures that distil the teacher; 0 leaves it with
        random weights.
    layers : tuple of str or None, default=None
        Names of the backbone's layers that the teacher learns; None is the second and
        third of a ResNet, and all of the bank of filters.
    image_size : int, tuple of int or None, default=None
        Size to which pictures are brought, 256 in the paper; None leaves them.
    batch_size : int, default=1
        Pictures of a training step; half of them known anomalies, at least one, where
        there are any.
    max_epochs : int, default=350
        Passes over the training pictures; the last twentieth has a tenth of `lr`.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels. The paper does
        not smooth.
    validation_fraction : float, default=0.2
        Share of the normal pictures that are held out of the training, at least 5 of 12
        or more: they bring the maps to one scale, whatever `contamination` is, and set
        the threshold for "auto".

    Attributes
    ----------
    embedding_ : PatchEmbedding
        What the teacher was distilled from.
    net_ : torch.nn.Module
        The trained network, with its `teacher`, `student` and `autoencoder`.

    See Also
    --------
    STFPM : The teacher is the large network itself.
    ReverseDistillation : A decoder instead of a student.

    Notes
    -----
    The paper's teacher has seen ImageNet: pass the file of one as `teacher` where you
    have it. One that is distilled on normal pictures knows these alone, and tells
    anomalies less well. Pictures of anything else, given as `X_outliers` or labelled -1
    in `y`, help twice: the teacher learns from them too, and the student is kept from
    knowing it there (:math:`S(p)`; in the paper ImageNet once more). Other textures or
    other products serve; they have the size of the training pictures. Without any, that
    term is left out.

    The paper trains 70,000 steps of one picture, here 350 epochs of 200 pictures, and
    the teacher 60,000 of 16: with pictures of 256 x 256 that is a GPU's work. A step
    takes some 150 billion multiplications with the small networks, several seconds of a
    core. Without a GPU, take pictures of 128 x 128, ``channels=96, width=32`` and fewer
    epochs: on the cookies of the benchmarks, with a ResNet-18, 30 epochs for the
    teacher and ``lr=1e-3``, the ROC AUC of pictures is .17 before the student learns,
    .87 after 20 epochs and .88 after 40, in 74 CPU seconds; PatchCore has 1.00 there in
    one second, and the distance to the mean picture .96.

    Other departures from the paper, whose authors published no code: the quantile of
    :math:`D` is that of each picture, so that a batch is the mean of the paper's steps;
    colours are not clipped after they were altered; the border of 4 places that the
    maps do not have repeats the outermost ones, where zeros could exceed all of a clean
    picture. The backbone sees pictures at the size that the student does, not at twice
    that size, and its pictures are flipped and sometimes grey, not cropped; those of
    the penalty are never grey. Sides of less than 64 pixels have zeros around them in
    all layers, as they have for the teacher's training, and the autoencoder is as deep
    as the picture lets it be. Pictures of other than 1 or 3 channels are not
    normalised.

    A threshold from few held-out pictures is rough: with 6 of 31 cookies at 64 x 64 and
    small networks (32 channels, 10 epochs), of nine random splits of the good ones it
    flags .06 of 14 new ones in the mean, from none to .29. The pictures that set it
    have brought the maps to one scale, too: each is scored by the scale of the others,
    or .15 would be flagged. Give more pictures, or a larger `validation_fraction`.

    Where fewer than 12 pictures are normal, none are held out: then the maps are
    brought to one scale by training pictures, on which both are small. Training is in
    float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] K. Batzner, L. Heckler and R. König, "EfficientAD: accurate visual anomaly
       detection at millisecond-level latencies", WACV, 2024, section 3 and appendix A.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import EfficientAD
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = EfficientAD(
    ...     channels=16,
    ...     width=8,
    ...     latent_size=16,
    ...     teacher_epochs=5,
    ...     max_epochs=10,
    ...     batch_size=4,
    ...     lr=0.003,
    ...     random_state=0,
    ... ).fit(good, X_outliers=rng.uniform(size=(20, 32, 32)))
    >>> detector.predict(bad)
    array([-1])
    >>> (found,) = detector.transform(bad)
    >>> bool(found[8:16, 16:24].mean() > 2 * found.mean())
    True
    """

    _uses_labels = True
    _epoch_parameters = ("max_epochs", "teacher_epochs")
    _costly = ("image_size", "channels", "width")
    _resnet_layers = ("layer2", "layer3")
    neighborhood: ClassVar[int] = 3  # of the features that the teacher learns
    _parameter_constraints = {
        "size": [StrOptions(set(SIZES))],
        "teacher": [str, PathLike, Mapping, None],
        "channels": [Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left"), None],
        "latent_size": [Interval(Integral, 1, None, closed="left")],
        "hard_quantile": [Interval(Real, 0, 1, closed="both")],
        "teacher_epochs": [Interval(Integral, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
    }

    size: str = "small"
    teacher: str | PathLike | Mapping | None = None
    channels: int = 384
    width: int | None = None
    latent_size: int = 64
    hard_quantile: float = 0.999
    teacher_epochs: int = 300
    max_epochs: int = 350
    batch_size: int = 1
    lr: float = 1e-4
    weight_decay: float = 1e-5
    smoothing: float = 0.0

    def _anomaly_share(self):
        return 0.5

    def _epochs(self, phase):
        return self.teacher_epochs if phase == "teacher" else self.max_epochs

    def _own_callbacks(self, phase, n_epochs):
        if phase == "teacher":
            return ()
        return lower_at_the_end(n_epochs, share=0.05, factor=0.1)

    def _layers(self, x):
        return [self.embedding_._resized(x)]

    def _network(self, shapes):
        distilled = self.teacher is None and self.teacher_epochs > 0
        describe = self.embedding_.embed if distilled else None
        network = from_parameters(self, EfficientADNetwork, shapes[0], describe)
        if self.teacher is not None:
            arrays, source = arrays_of(self.teacher)
            arrays = by_order(arrays, network.teacher)
            load_arrays(network.teacher, arrays, source, of="teacher")
        return network

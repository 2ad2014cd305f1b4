"""VideoGAN: frames and motions of which one is not what the other suggests."""

from numbers import Integral, Real

import torch
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad._training import from_parameters
from skad.image._base import as_tensor
from skad.image.restoration._adversarial import (
    AdversarialPictures,
    RestorationNetwork,
)
from skad.nn.adversarial import AdversarialNetwork, paired
from skad.nn.distillation import Teacher
from skad.nn.residual import stacked
from skad.nn.restorers import PatchCritic, SkipGenerator
from skad.nn.statistics import SettledNetwork

# What a part is divided by at least: training pictures that are all made as they are
# tell no scale.
_LEAST = 1e-6
# Frames that tell the backbone whether they were standardised.
_FIRST = 64


class Translation(RestorationNetwork):
    """A generator from one half of pairs to the other, and a critic of both halves.

    That of pix2pix (see `skad.nn.restorers.SkipGenerator`).

    Parameters
    ----------
    shape : tuple of int
        (c, h, w) of pairs.
    given, wanted : slice
        The channels that the generator sees, and those that it makes.
    channels : int
        Of the first layers.
    adversarial_weight, error_weight : float
        Of the critic's opinion and of the absolute error.
    dropout : float
        Share of values that training sets to 0.
    """

    value_range = -1.0, 1.0

    def __init__(
        self,
        shape,
        given,
        wanted,
        channels,
        adversarial_weight,
        error_weight,
        dropout,
    ):
        c, *size = shape
        n_given, n_wanted = (len(range(c)[part]) for part in (given, wanted))
        generator = SkipGenerator((n_given, *size), n_wanted, channels, dropout)
        critic = PatchCritic((n_given + n_wanted, *size), channels)
        super().__init__((n_wanted, *size), generator, critic, adversarial_weight)
        self.shape = tuple(shape)  # of samples: what is bounded is one half
        self.given, self.wanted = given, wanted
        self.error_weight = error_weight

    def begin(self, phase, batches):
        """Let what is made reach the range of its half."""
        low, high = self.value_range
        self.bound.learn((self.pictures(x)[:, self.wanted], y) for x, y in batches())
        self.bound.low.clamp_(max=low)
        self.bound.high.clamp_(min=high)

    def altered(self, x):
        """Return the half of pairs that the generator sees."""
        return x[:, self.given], None

    def error(self, x, made, mask):
        """Return the weighted absolute error of the other half."""
        return self.error_weight * F.l1_loss(made, x[:, self.wanted])

    def judge(self, made, x, mask=None):
        """Return the critic's logits and features of what is made, beside its half."""
        half = x[:, self.wanted] if made is x else made
        return self.critic(paired(x[:, self.given], half))

    def reconstruct(self, x):
        """Return what is made of one half of pairs, (b, c, h, w)."""
        return self.restored(x[:, self.given])

    def doubt(self, x):
        """Return the probability (b, gh, gw) that patches of pairs were made."""
        return (-self.judge(x, x)[0][:, 0]).sigmoid()


class VideoGANNetwork(SettledNetwork, AdversarialNetwork):
    """Two generators, which make frames and motions of each other, and two critics."""

    frozen_parts = ("teacher",)

    def __init__(
        self,
        shape,
        teacher,
        frame_channels,
        channels,
        adversarial_weight,
        error_weight,
        dropout,
        motion_weight,
        measure,
    ):
        super().__init__()
        self.teacher, self.size = teacher, tuple(shape[1:])
        self.motion_weight, self.measure = motion_weight, measure
        frame, motion = slice(0, frame_channels), slice(frame_channels, shape[0])
        others = channels, adversarial_weight, error_weight, dropout
        self.to_frame = Translation(shape, motion, frame, *others)
        self.to_motion = Translation(shape, frame, motion, *others)
        self.register_buffer("largest", torch.ones(2))

    @property
    def both(self):
        """The generator of frames and that of motions, with their critics."""
        return self.to_frame, self.to_motion

    # --------------------------------------------------------------------- the training

    def begin(self, phase, batches):
        """Let what is made reach the range of frames and of motions."""
        for each in self.both:
            each.begin(phase, batches)

    def groups(self, phase):
        """Return the weights of both critics and those of both generators."""
        return {
            name: [w for each in self.both for w in getattr(each, name).parameters()]
            for name in ("critic", "generator")
        }

    def updates(self, phase, x, y):
        """Yield the losses of both critics, then those of both generators."""
        rounds = (each.updates(phase, x, y) for each in self.both)
        for (group, first), (_, second) in zip(*rounds, strict=True):
            yield group, first + second

    def loss(self, x, y):
        """Return both generators' errors: what batch norms settle on."""
        return sum(each.loss(x, y) for each in self.both)

    def finish(self, batches, held=None):
        """Learn the largest difference of frames and of motions in training."""
        super().finish(batches, held)
        parts = [self.differences(x).amax((1, 2, 3)) for x, _ in batches()]
        self.largest.copy_(torch.stack(parts).amax(0).clamp(min=_LEAST))

    # ---------------------------------------------------------------------- the scores

    def rebuilt(self, x):
        """Return pairs, and what is made of either half in place of the other."""
        x = self.to_frame.pictures(x)
        return x, paired(*(each.reconstruct(x) for each in self.both))

    def differences(self, x):
        """Return how far frames, by the teacher, and motions are off, (2, b, h, w).

        The mean over channels of absolute differences; of frames, over layers as well.
        """
        x, made = self.rebuilt(x)
        frame, motion = self.to_frame.wanted, self.to_motion.wanted
        seen, rebuilt = (self.teacher((1 + each[:, frame]) / 2) for each in (x, made))
        layers = zip(seen, rebuilt, strict=True)
        layers = [(one - other).abs().mean(1) for one, other in layers]
        looks = stacked(layers, self.size).mean(0)
        return torch.stack([looks, (x - made)[:, motion].abs().mean(1)])

    def map(self, x):
        """Return what generators or critics find, (b, h, w)."""
        if self.measure == "discriminators":
            x = self.to_frame.pictures(x)
            return stacked([each.doubt(x) for each in self.both], self.size).sum(0)
        looks, moves = self.differences(x) / self.largest.view(2, 1, 1, 1)
        return looks + self.motion_weight * moves


@with_parameters
class VideoGAN(AdversarialPictures):
    r"""Frames and motions of which one is not what the other suggests.

    A sample is a pair, a frame F of a video and its motion O, as channels of one
    picture: those of the frame come first. A generator :math:`G_O` makes the motion of
    the frame, another one :math:`G_F` the frame of the motion, each against a critic D
    of patches, which sees both halves [1]_. They are networks of pix2pix [2]_ and
    minimise, for the first and likewise for the other,

    .. math:: -\lambda \log D(F, G_O(F)) + \mu \, |O - G_O(F)|.

    Of normal pairs alone, neither learns what does not fit: things that move as they
    never did, and things that were never seen. With the features :math:`f` of a
    backbone the differences, each the mean over channels,

    .. math:: \Delta_S = |f(F) - f(G_F(O))|, \qquad \Delta_O = |O - G_O(F)|,

    are divided by their largest values :math:`m_S` and :math:`m_O` in the training
    pairs, and the map is

    .. math:: \frac{\Delta_S}{m_S} + w \, \frac{\Delta_O}{m_O}.

    With ``measure="discriminators"`` it is what both critics think of the pair [3]_,
    :math:`1 - D_O(F, O) + 1 - D_F(O, F)`, interpolated. The score is the maximum of the
    map.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    frame_channels : int or None, default=None
        How many channels, the first ones, are the frame's; the others are its motion.
        None is half of them.
    error_weight : float, default=100.0
        The weight :math:`\mu` of the absolute error of what is made, in -1..1.
    adversarial_weight : float, default=1.0
        The weight :math:`\lambda` of the critics' opinions.
    motion_weight : float, default=2.0
        The weight w of the motion in the map.
    dropout : float, default=0.5
        Share of values that training sets to 0 behind the three innermost layers of
        generators on their way up. Scores draw nothing.
    measure : {"generators", "discriminators"}, default="generators"
        What finds anomalies.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        What describes the frames.
    net_ : torch.nn.Module
        The trained network. Its `to_frame` and `to_motion` have a `generator` and a
        `critic` each; `largest` are :math:`m_S` and :math:`m_O`.

    See Also
    --------
    AVID : A generator and a critic of single pictures.
    SCADN : Fills in what is hidden.

    Notes
    -----
    Neither the text of the paper nor code of it was at hand. Known from its abstract
    are the two generators, and that both fail where look and motion do not fit.
    From memory are the networks and losses of pix2pix with dropout as their noise, ten
    epochs of batches of one, the last convolution of an AlexNet that saw ImageNet as
    what compares frames, the sum with a weight of 2, the maximum of the map as the
    score, and of the other measure that probabilities of both critics are added. There
    the motion is optical flow (Brox's), as a picture of three channels; any picture
    will do, such as a library's optical flow, or the difference of two frames as below.
    Floats are in 0..1, where a half can stand for no motion.

    There both differences are divided by their largest values in the video that is
    looked at, so that one anomaly hides another; here by those of training. The other
    measure leaves places without motion in. Chosen here are means of absolute
    differences over channels, that each of `layers` counts alike, the third layer of a
    ResNet in place of AlexNet's last, that dropout is for training alone, and that
    batch norms take their statistics from all training pairs, in the end, and not from
    the scored one.

    Squares of 6 x 6 pixels that move a pixel from one of 32 x 32 frames to the next, 64
    pairs with the difference of frames as their motion, train it in 9 CPU seconds, with
    ``channels=8``, a rate of 0.002, batches of 8 and 15 epochs: those that move by
    three pixels are told with a ROC AUC of .96 and .95 by two seeds, and with 1.00
    after 30 epochs; squares with another look with 1.00. Critics alone tell less, and
    not always more than chance: .34 and .87, after 30 epochs .81 and .95. On videos of
    the paper it is unmeasured.

    What is made is bounded by 0 and 1, or by the range of training data that reach
    farther. Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] M. Ravanbakhsh, M. Nabi, E. Sangineto, L. Marcenaro, C. Regazzoni and N.
       Sebe, "Abnormal event detection in videos using generative adversarial nets",
       ICIP, 2017. arXiv:1708.09644.
    .. [2] P. Isola, J.-Y. Zhu, T. Zhou and A. A. Efros, "Image-to-image translation
       with conditional adversarial networks", CVPR, 2017.
    .. [3] M. Ravanbakhsh, E. Sangineto, M. Nabi and N. Sebe, "Training adversarial
       discriminators for cross-channel abnormal event detection in crowds", WACV, 2019.
       arXiv:1706.07680.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import VideoGAN
    >>> def video(speed, n_frames=21):
    ...     frames = np.zeros((n_frames, 16, 32))
    ...     for i, frame in enumerate(frames):
    ...         frame[5:11, np.arange(6) + 2 + i * speed] = 1
    ...     return frames
    >>> def pairs(frames):
    ...     return np.stack([frames[:-1], (1 + np.diff(frames, axis=0)) / 2], axis=-1)
    >>> small = {"channels": 4, "batch_size": 4, "max_epochs": 40, "lr": 0.003}
    >>> detector = VideoGAN(**small, random_state=0).fit(pairs(video(1)))
    >>> usual, faster = (
    ...     detector.score_samples(pairs(video(speed, n_frames=5))).mean()
    ...     for speed in (1, 3)
    ... )
    >>> bool(faster < usual)
    True
    """

    _network_class = VideoGANNetwork
    _resnet_layers = ("layer3",)
    _optimizer_options = {"betas": (0.5, 0.999)}
    _parameter_constraints = {
        "frame_channels": [Interval(Integral, 1, None, closed="left"), None],
        "error_weight": [Interval(Real, 0, None, closed="left")],
        "motion_weight": [Interval(Real, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "measure": [StrOptions({"generators", "discriminators"})],
    }

    frame_channels: int | None = None
    error_weight: float = 100.0
    adversarial_weight: float = 1.0
    motion_weight: float = 2.0
    dropout: float = 0.5
    measure: str = "generators"
    max_epochs: int = 10
    batch_size: int = 1
    lr: float = 2e-4

    def _check_parameters(self, X):
        super()._check_parameters(X)
        c = X.shape[-1]
        if c == 1:
            raise ValueError(
                "X has pictures of 1 channel, and VideoGAN looks at pairs of a frame "
                "and its motion: write np.stack([frames, motions], axis=-1), and where "
                "they have several channels np.concatenate([frames, motions], axis=-1) "
                "with frame_channels, how many are the frame's."
            )
        if self.frame_channels is None and c % 2:
            raise ValueError(
                f"X has pictures of {c} channels, of which there is no half: pass "
                "frame_channels, how many are the frame's; the others are its motion."
            )
        if self.frame_channels is not None and self.frame_channels >= c:
            raise ValueError(
                f"frame_channels={self.frame_channels} leaves none of the {c} channels "
                "of X for the motion."
            )

    def _of_frames(self, c):
        """Return how many of c channels are the frame's."""
        return c // 2 if self.frame_channels is None else self.frame_channels

    def _fit_embedding(self, X):
        made = self._own_embedding() if self.embedding is None else self._given()
        frames = as_tensor(X[:_FIRST])[..., : self._of_frames(X.shape[-1])]
        # pairs that come as rows have more channels than frames
        self.embedding_ = made.set_params(image_shape=None).fit(frames)
        self.embedding_._keep_dtype(self._are_rows_)

    def _network(self, shapes):
        (shape,) = shapes
        n = self._of_frames(shape[0])
        given = shape, Teacher(self.embedding_)
        return from_parameters(self, VideoGANNetwork, *given, frame_channels=n)

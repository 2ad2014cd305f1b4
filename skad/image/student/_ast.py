"""AST: where a student does not follow what a flow makes of the features."""

from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import from_parameters
from skad.image._trained import TrainedImageDetector, split_maps
from skad.nn.distillation import squared
from skad.nn.flow import sinusoids
from skad.nn.joint_flow import joint_flow
from skad.nn.residual import convolution
from skad.nn.statistics import SettledNetwork


class Block(nn.Module):
    """Two convolutions beside a skip, as the student has them."""

    def __init__(self, channels):
        super().__init__()
        self.first = convolution(channels, channels)
        self.second = convolution(channels, channels)

    def forward(self, x):
        """Return maps of the shape of `x` (b, c, h, w)."""
        found = self.second(F.leaky_relu(self.first(x)))
        return x + F.leaky_relu(found)


class ASTNetwork(SettledNetwork):
    """A flow that is told the place, and a student that cannot be inverted."""

    phases = ("teacher", "student")

    def __init__(
        self,
        shapes,
        n_steps,
        hidden_size,
        clamp,
        condition_size,
        student_channels,
        n_blocks,
    ):
        super().__init__()
        (self.shape,) = shapes
        channels, height, width = self.shape
        self.register_buffer("codes", sinusoids(condition_size, height, width))
        self.teacher = joint_flow(
            channels, n_steps, hidden_size, clamp, n_conditions=condition_size
        )
        self.student = nn.Sequential(
            nn.Conv2d(channels + condition_size, student_channels, 3, padding=1),
            nn.LeakyReLU(),
            *(Block(student_channels) for _ in range(n_blocks)),
            nn.Conv2d(student_channels, channels, 3, padding=1),
        )

    def groups(self, phase):
        """Return the parameters of the one that is trained."""
        return {"all": self.get_submodule(phase).parameters()}

    def told(self, x):
        """Return the features of samples, and codes of their places."""
        (maps,) = split_maps(x, [self.shape])
        return maps, self.codes.to(maps).expand(maps.shape[0], -1, -1, -1)

    def teacher_loss(self, x):
        """Return the negative log-likelihood of places, equation (2)."""
        maps, codes = self.told(x)
        (z,), logdet = self.teacher([maps], [codes])
        energy = 0.5 * z.square().flatten(1).sum(1)
        return (energy - logdet).mean() / self.codes[0].numel()

    def pairs(self, x):
        """Return what teacher and student say, both (b, c, h, w)."""
        maps, codes = self.told(x)
        with torch.no_grad():
            (z,), _ = self.teacher([maps], [codes])
        return z, self.student(torch.cat([maps, codes], 1))

    def loss(self, x, y):
        """Return the mean squared difference, which the student makes small."""
        return F.mse_loss(*self.pairs(x))

    def updates(self, phase, x, y):
        """Yield the loss of the one that is trained."""
        yield "all", self.teacher_loss(x) if phase == "teacher" else self.loss(x, y)

    def map(self, x):
        """Return the mean squared difference (b, h, w) over the channels."""
        return squared(*self.pairs(x)).mean(1)


@with_parameters
class AST(TrainedImageDetector):
    r"""Patches of which a student says otherwise than a flow, its teacher.

    The teacher, an invertible network of coupling blocks, takes the features
    :math:`x` of a frozen backbone to :math:`z = T(x, c)`, which is to follow the
    standard normal distribution; it is told the place by a code :math:`c` of sines and
    cosines. It minimises, by place,

    .. math:: \tfrac12 \lVert z \rVert^2
        - \log \left|\det \frac{\partial z}{\partial x}\right| .

    Then the student, an ordinary convolutional network, learns to say the same:
    :math:`\mathrm{mean} \, (T(x, c) - S(x, c))^2`. As it is built otherwise, it does
    not go on as the teacher does where features are none that both have seen. The
    anomaly of a place is the mean over the channels of the squared difference. The map
    is that, interpolated to the pixels of the picture, and the score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_steps : int, default=4
        Coupling blocks of the teacher; the last has convolutions of 5 x 5, the others
        of 3 x 3.
    hidden_size : int, default=64
        Channels between the two convolutions of a block.
    clamp : float, default=1.9
        Bound of the logarithm of what a block scales by.
    condition_size : int, default=32
        Length of the code of a place, a multiple of four.
    student_channels : int, default=1024
        Channels of the student's layers.
    n_blocks : int, default=4
        Residual blocks of the student.
    teacher_epochs : int, default=72
        Passes over the training pictures that train the teacher.
    layers : tuple of str or None, default=None
        Names of the layers whose maps are joined, at the places of the first; None is
        the third of a ResNet, and all of the bank of filters.
    max_epochs : int, default=72
        Passes over the training pictures that train the student.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels. The paper does
        not smooth.
    random_state : int, RandomState instance or None, default=None
        Draws weights, permutations and batches. Pass an int for reproducible results.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `teacher` and its `student`.

    See Also
    --------
    CSFlow : The likelihood of such a flow, over several scales.
    STFPM : The teacher is the backbone itself, the student a network like it.

    Notes
    -----
    On 31 cookies at 128 pixels, with a ResNet-18, ``hidden_size=32,
    student_channels=128`` and 20 epochs of each, the ROC AUC is .73 at the authors'
    rate, which is for thousands of steps, and .93 with ``lr=1e-3``; the mean of the map
    has .94, the distance to the mean picture .96.

    The authors' features are those of an EfficientNet-B5 at 768 pixels, whose places
    are as coarse as those of a ResNet's fifth stage; here any backbone serves. They
    report the mean of the map beside its maximum, which is ``pooling="mean"``. Their
    depth maps and masks of the foreground are left out. The student's batch norms take
    their statistics from all training pictures at the end. Training is in float32,
    scoring in the dtype of `X`.

    References
    ----------
    .. [1] M. Rudolph, T. Wehrbein, B. Rosenhahn and B. Wandt, "Asymmetric
       student-teacher networks for industrial anomaly detection", WACV, 2023,
       section 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import AST
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = AST(
    ...     layers=["scale2"],
    ...     n_steps=2,
    ...     hidden_size=16,
    ...     student_channels=16,
    ...     n_blocks=1,
    ...     teacher_epochs=5,
    ...     max_epochs=20,
    ...     lr=0.003,
    ...     random_state=0,
    ... )
    >>> detector.fit(good).predict(bad)
    array([-1])
    """

    _resnet_layers = ("layer3",)
    _epoch_parameters = ("max_epochs", "teacher_epochs")
    _parameter_constraints = {
        "n_steps": [Interval(Integral, 1, None, closed="left")],
        "hidden_size": [Interval(Integral, 1, None, closed="left")],
        "clamp": [Interval(Real, 0, None, closed="neither")],
        "condition_size": [Interval(Integral, 4, None, closed="left")],
        "student_channels": [Interval(Integral, 1, None, closed="left")],
        "n_blocks": [Interval(Integral, 0, None, closed="left")],
        "teacher_epochs": [Interval(Integral, 1, None, closed="left")],
    }

    n_steps: int = 4
    hidden_size: int = 64
    clamp: float = 1.9
    condition_size: int = 32
    student_channels: int = 1024
    n_blocks: int = 4
    teacher_epochs: int = 72
    max_epochs: int = 72
    lr: float = 2e-4
    weight_decay: float = 1e-5
    smoothing: float = 0.0

    def _epochs(self, phase):
        return self.teacher_epochs if phase == "teacher" else self.max_epochs

    def _layers(self, x):
        return [self.embedding_.embed(x).movedim(-1, 1)]

    def _network(self, shapes):
        return from_parameters(self, ASTNetwork, shapes)

"""Patch SVDD: patches whose code no patch of the normal pictures has."""

from numbers import Integral, Real

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import from_parameters
from skad.image._pixels import PixelDetector
from skad.image.memory._coreset import core_set
from skad.image.memory._search import nearest
from skad.nn.network import Network
from skad.nn.patches import (
    AROUND,
    SIDES,
    PatchEncoder,
    filled,
    neighbours,
    shaken,
    spread,
)

# Deviation of the noise on patches whose place is asked for: of colours, and of pixels.
_NOISE = 0.02


class PatchSVDDNetwork(Network):
    """An encoder of patches of two sizes, heads that tell places, and two banks."""

    banks = "large", "small"

    def __init__(
        self, shape, patch_size, code_size, svdd_weight, n_draws, step_size, ratio
    ):
        super().__init__()
        self.shape, self.svdd_weight, self.ratio = shape, svdd_weight, ratio
        self.n_draws, self.step_size = n_draws, step_size
        self.encoder = PatchEncoder(shape[0], patch_size, code_size)
        self.sides = patch_size, patch_size // 2
        self.strides = 2 * max(1, patch_size // 8), 2 * max(1, patch_size // 32)
        self.heads = nn.ModuleList(
            nn.Sequential(
                *(nn.Linear(code_size, 128), nn.LeakyReLU(0.1)),
                *(nn.Linear(128, 128), nn.LeakyReLU(0.1)),
                nn.Linear(128, len(AROUND)),
            )
            for _ in self.sides
        )
        self.register_buffer("mean", torch.zeros(shape))
        for name in self.banks:
            self.register_buffer(name, torch.zeros(0, code_size), persistent=False)

    def pictures(self, x):
        """Return samples as pictures (b, c, h, w) without the mean, filled by patches.

        And how many pixels stand before the picture's own, above and to the left.
        """
        pictures = x.unflatten(1, self.shape) - self.mean
        return filled(pictures, self.sides[0], self.strides[0])

    # ------------------------------------------------------------------------ training

    def begin(self, phase, batches):
        """Take the mean picture."""
        n, total = 0, 0.0
        for x, _ in batches():
            n, total = n + len(x), total + x.double().sum(0)
        self.mean.copy_((total / n).view(self.shape))

    def updates(self, phase, x, y):
        """Yield the losses of steps, which draw `n_draws` patches of each picture."""
        pictures, _ = self.pictures(x)
        owners = torch.arange(len(x)).repeat(self.n_draws)
        for part in owners[torch.randperm(len(owners))].split(self.step_size):
            yield "all", self.drawn_loss(pictures, part)

    def watched(self, phase, x, y):
        """Return the loss of one step."""
        pictures, _ = self.pictures(x)
        owners = torch.arange(self.step_size) % len(x)
        return self.drawn_loss(pictures, owners)

    def drawn_loss(self, pictures, owners):
        """Return equation (6) of patches drawn from pictures (b, c, h, w)."""
        total = 0.0
        for head, side in zip(self.heads, self.sides, strict=True):
            first, other, way = neighbours(pictures, owners, side)
            first, other = self.noisy(first), self.noisy(other)
            away = self.encoder.codes(first) - self.encoder.codes(other)
            total = total + F.cross_entropy(head(away), way.to(away.device))
            first, other = shaken(pictures, owners, side)
            away = self.encoder.codes(first) - self.encoder.codes(other)
            total = total + self.svdd_weight * away.norm(dim=1).mean()
        return total

    def noisy(self, patches):
        """Return patches with another tint and with noise, so that neither tells."""
        tint = torch.randn(*patches.shape[:2], 1, 1) + torch.randn(patches.shape)
        return patches + _NOISE * tint.to(patches)

    # ------------------------------------------------------------------------- scoring

    def codes(self, x):
        """Return the codes (b, gh, gw, d) of the large and of the small patches."""
        found = self.encoder.all_codes(self.pictures(x)[0], self.strides)
        return [codes.movedim(1, -1) for codes in found]

    def finish(self, batches, held=None):
        """Fill both banks with the codes of the training patches."""
        for i, name in enumerate(self.banks):
            parts = (self.codes(x)[i].flatten(0, 2) for x, _ in batches())
            setattr(self, name, core_set(parts, self.ratio))

    def distances(self, x):
        """Return the distances (b, gh, gw) to the banks, of large and small patches."""
        found = []
        for codes, name in zip(self.codes(x), self.banks, strict=True):
            bank = getattr(self, name)
            away, _ = nearest(codes.flatten(0, 2), bank, bank.square().sum(1))
            found.append(away[:, 0].reshape(codes.shape[:3]))
        return found

    def map(self, x):
        """Return the product (b, h, w) of both distances, spread over the patches."""
        _, before = self.pictures(x[:1])
        rows, columns = (
            slice(m, m + n) for m, n in zip(before, self.shape[1:], strict=True)
        )
        parts = zip(self.distances(x), self.sides, self.strides, strict=True)
        return self.together([spread(*part)[:, rows, columns] for part in parts])

    def together(self, maps):
        """Return one map (b, h, w) of those of both sizes."""
        large, small = maps
        return large * small


@with_parameters
class CodedPatchesDetector(PixelDetector):
    r"""Base of detectors that compare trained codes of patches with a bank of them.

    Parameters
    ----------
    code_size : int, default=64
        Length of codes.
    svdd_weight : float, default=1.0
        :math:`\lambda`.
    n_draws : int, default=100
        Pairs of patches of each kind that an epoch draws of a picture.
    step_size : int, default=64
        Pairs of a training step.
    coreset_ratio : float, default=0.1
        Share of the training codes that are kept for the search, a core-set of them.
        The paper keeps all.
    random_state : int, RandomState instance or None, default=None
        Draws weights and patches. Pass an int for reproducible results.
    """

    _exports = False  # the search is in blocks, whose number a model cannot have
    _parameter_constraints = {
        "code_size": [Interval(Integral, 1, None, closed="left")],
        "svdd_weight": [Interval(Real, 0, None, closed="left")],
        "n_draws": [Interval(Integral, 1, None, closed="left")],
        "step_size": [Interval(Integral, 1, None, closed="left")],
        "coreset_ratio": [Interval(Real, 0, 1, closed="right")],
    }

    code_size: int = 64
    svdd_weight: float = 1.0
    n_draws: int = 100
    step_size: int = 64
    coreset_ratio: float = 0.1
    lr: float = 1e-4


@with_parameters
class PatchSVDD(CodedPatchesDetector):
    r"""Patches whose code is far from those of all patches of the normal pictures.

    An encoder :math:`f` of patches is trained on the pictures alone. It brings patches
    :math:`p` together with those :math:`p'` that lie one or two pixels away from them,
    and has to tell from two codes in which of eight directions one patch lies of the
    other, which :math:`C` says [1]_:

    .. math:: L = \lambda \, \|f(p) - f(p')\|
        + \mathrm{CE}\big(C(f(p_1) - f(p_2)), y\big).

    There are codes of large patches, made of those of their four quarters, and of the
    small patches themselves; L is summed over both. The anomaly of a patch is the
    distance of its code to the nearest one of the training pictures. Every pixel has
    the mean over the patches that it lies in, and the map is the product of the large
    and the small patches'. The score is its maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    patch_size : {8, 16, 32, 64} or None, default=None
        Side of large patches in pixels, twice that of small ones. None is the largest
        that is no more than a quarter of the picture's shorter side: 64 for 256 pixels,
        as in the paper.
    smoothing : float, default=0.0
        Standard deviation of the Gaussian that smooths maps, in pixels. The paper does
        not smooth.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoder` and the codes `large` and `small`, of
        shapes (n_codes, code_size).

    See Also
    --------
    PatchCore : Features of a network that has seen many pictures.
    skad.one_class.DeepSVDD : Whole samples, and one centre.

    Notes
    -----
    The mean training picture is taken off, and pictures whose size the patches do not
    fill go on as they are at the border. Large patches are a quarter of their side from
    each other, small ones an eighth: 16 and 4 pixels where pictures have 256, at least
    2.
    The encoder has eight convolutions in front of 32 x 32 pixels, as in the paper, and
    half as many for half the side. An epoch is `n_draws` patches of each picture, out
    of `batch_size` pictures at a time, where the authors draw from all. With 256
    pixels training is a GPU's work.

    Departures: the authors' last layer of :math:`C` is never trained, by a slip; here
    it is. Their :math:`\lambda` differs between sets and is not published; 1 is the
    default of their code, and too much draws all codes together. They search all
    codes, which takes ten times as long and on the cookies below tells no more.

    31 cookies at 64 x 64 train it in 22 CPU seconds, 30 epochs; 46 others are told with
    a ROC AUC of 1.00 and their pixels with .91, without any pretrained weights: a
    PatchCore on a ResNet-18 has .94 and .90 there, the distance to the mean picture
    .95. Codes of random weights have 1.00 and .97 already: what helps are patches and
    the mean picture. 80 magnetic tiles are told with .66 after 10 epochs, pixels with
    .58, and with .61 and .60 by random weights; with ``svdd_weight=1e-3`` it is .50.
    PatchCore has .87 and .75, the mean picture .53. Training is in float32, scoring in
    the dtype of `X`.

    References
    ----------
    .. [1] J. Yi and S. Yoon, "Patch SVDD: patch-level SVDD for anomaly detection and
       segmentation", ACCV, 2020, equations (4) to (9).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import PatchSVDD
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(20, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:16, 16:24] = 0.9
    >>> detector = PatchSVDD(max_epochs=2, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(6 <= row <= 17 and 14 <= column <= 25)
    True
    """

    _network_class = PatchSVDDNetwork
    _parameter_constraints = {"patch_size": [Integral, None]}

    patch_size: int | None = None
    max_epochs: int = 300
    smoothing: float = 0.0

    def _check_parameters(self, X):
        super()._check_parameters(X)
        if self.patch_size not in (None, *SIDES):
            raise ValueError(f"patch_size={self.patch_size} must be one of {SIDES}.")

    def _network(self, shapes):
        shape, fitting = shapes[0], {"ratio": self.coreset_ratio}
        if self.patch_size is None:
            small_enough = [side for side in SIDES if 4 * side <= min(shape[1:])]
            fitting["patch_size"] = max(small_enough, default=SIDES[0])
        return from_parameters(self, PatchSVDDNetwork, shape, **fitting)

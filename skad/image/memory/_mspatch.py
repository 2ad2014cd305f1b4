"""MSPatch: patches of several sizes, whose codes say which patches lie near."""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import with_parameters
from skad._training import from_parameters
from skad.image.memory._patch_svdd import CodedPatchesDetector, PatchSVDDNetwork
from skad.nn.network import Network
from skad.nn.patches import CIRCLE, SIDES, PatchEncoder, near_and_far, neighbours

# Sizes of patches, where none are given: the largest that fits, a half and a quarter.
_SIZES = 3


class MSPatchNetwork(PatchSVDDNetwork):
    """For each size of patches an encoder, a head that tells ways, and a bank."""

    def __init__(
        self, shape, patch_sizes, code_size, svdd_weight, n_draws, step_size, ratio
    ):
        Network.__init__(self)
        self.shape, self.svdd_weight, self.ratio = shape, svdd_weight, ratio
        self.n_draws, self.step_size = n_draws, step_size
        self.sides = tuple(sorted(patch_sizes, reverse=True))
        self.strides = tuple(2 * max(1, side // 8) for side in self.sides)
        self.banks = tuple(f"bank_{side}" for side in self.sides)
        self.encoders = nn.ModuleList(
            PatchEncoder(shape[0], side, code_size) for side in self.sides
        )
        self.heads = nn.ModuleList(
            nn.Sequential(
                *(nn.Linear(code_size, 128), nn.LeakyReLU(0.1)),
                *(nn.Linear(128, 256), nn.LeakyReLU(0.1)),
                *(nn.Linear(256, 512), nn.LeakyReLU(0.1)),
                nn.Linear(512, len(CIRCLE)),
            )
            for _ in self.sides
        )
        self.register_buffer("mean", torch.zeros(shape))
        for name in self.banks:
            self.register_buffer(name, torch.zeros(0, code_size), persistent=False)

    def drawn_loss(self, pictures, owners):
        """Return the loss of patches drawn from pictures (b, c, h, w)."""
        total = 0.0
        for encoder, head, side in zip(
            self.encoders, self.heads, self.sides, strict=True
        ):
            first, other, way = neighbours(pictures, owners, side, CIRCLE)
            first, other = self.noisy(first), self.noisy(other)
            away = encoder.codes(first) - encoder.codes(other)
            total = total + F.cross_entropy(head(away), way.to(away.device))
            codes, near, far = (
                encoder.codes(each) for each in near_and_far(pictures, owners, side)
            )
            apart = (codes - near).norm(dim=1)
            alike = F.cosine_similarity(codes, near) - F.cosine_similarity(codes, far)
            total = total + self.svdd_weight * (apart - alike).mean()
        return total

    def codes(self, x):
        """Return the codes (b, gh, gw, d) of patches of each size."""
        pictures, _ = self.pictures(x)
        found = []
        for encoder, side, stride in zip(
            self.encoders, self.sides, self.strides, strict=True
        ):
            places = encoder.quarters(pictures)
            codes = encoder.joined(places, side // 4, stride // 2)
            found.append(codes.movedim(1, -1))
        return found

    def together(self, maps):
        """Return the sum of the maps (b, h, w) of all sizes."""
        return sum(maps)


@with_parameters
class MSPatch(CodedPatchesDetector):
    r"""Patches of several sizes whose code no patch of the normal pictures has.

    For each size of patches an encoder :math:`f` is trained on the pictures alone [1]_.
    A patch p, one :math:`p'` a few pixels away, and one :math:`p''` that lies beyond
    its neighbours are to have codes that are near, and others, and from two codes a
    head :math:`C` has to tell in which of twelve ways, 30 degrees apart, one patch lies
    of the other:

    .. math:: L = \mathrm{CE}\big(C(f(p_1) - f(p_2)), y\big)
        + \lambda \, \big(\|f(p) - f(p')\| - \cos(f(p), f(p'))
        + \cos(f(p), f(p''))\big),

    summed over the sizes. The anomaly of a patch is the distance of its code to the
    nearest one of the training pictures. Every pixel has the mean over the patches that
    it lies in, and the map is the sum over the sizes, smoothed. The score is its
    maximum.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    patch_sizes : tuple of {8, 16, 32, 64} or None, default=None
        Sides of patches in pixels. None is the largest that is no more than a quarter
        of the picture's shorter side, a half and a quarter of it: 64, 32 and 16 for 256
        pixels, as in the paper; none is below 8.
    smoothing : float, default=2.0
        Standard deviation of the Gaussian that smooths maps, in pixels.

    Attributes
    ----------
    net_ : torch.nn.Module
        The trained network, with its `encoders` and, for each size s, the codes
        ``bank_s`` of shape (n_codes, code_size), as ``bank_16``.

    See Also
    --------
    PatchSVDD : Two sizes, of which one is made of the other, and eight ways.

    Notes
    -----
    The losses, ways and distances are those of the authors' code. What differs: their
    encoders begin with the layers of one VGG-16 that was trained on photographs, and
    here each size has the encoder of :class:`PatchSVDD` for large patches, from random
    weights, with a learning rate ten times as large. One of their twelve ways has no
    step along an axis where it should have none, and adds one for the third patch; here
    it does not. They also add distances to the centres of 50 groups of codes, of which
    no gradient comes back; these are left out. Their picture score is the largest mean
    of the map over windows of 8 x 8 pixels; a Gaussian about as wide stands for them.
    Patches are a quarter of their side from each other, at least 2 pixels. Their
    figures are of the best epoch on the test set.

    Without weights from elsewhere training may harm, as in :class:`PatchSVDD`: 46
    cookies at 64 x 64 are told with a ROC AUC of 1.00 and their pixels with .96 by
    codes of random weights, which 31 others fill the banks of, and after 10 epochs (79
    CPU seconds) with .60 and .85; the distance to the mean picture gets .95 and .89.
    Drawn textures that are moved at random are told with .70 after 10 epochs of 50
    draws, by random weights with .80 (.795), and by the distance to the nearest picture
    with .55. What helps are patches and the mean picture.

    Training is in float32, scoring in the dtype of `X`.

    References
    ----------
    .. [1] C.-C. Tsai, T.-H. Wu and S.-H. Lai, "Multi-scale patch-based representation
       learning for image anomaly detection and segmentation", WACV, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import MSPatch
    >>> rng = np.random.default_rng(0)
    >>> stripes = 0.5 + 0.2 * np.sin(np.arange(64) / 2)
    >>> good = stripes + rng.normal(0, 0.01, size=(12, 64, 64))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:24, 32:48] = 0.9
    >>> detector = MSPatch(n_draws=20, max_epochs=2, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    _network_class = MSPatchNetwork
    _parameter_constraints = {"patch_sizes": [tuple, list, None]}

    patch_sizes: Sequence[int] | None = None
    svdd_weight: float = 1e-3
    max_epochs: int = 100
    smoothing: float = 2.0

    def _check_parameters(self, X):
        super()._check_parameters(X)
        sizes = self.patch_sizes
        if sizes is not None and (not sizes or not set(sizes) <= set(SIDES)):
            raise ValueError(
                f"patch_sizes={sizes!r} must be one or more of {SIDES}, or None."
            )

    def _network(self, shapes):
        shape, fitting = shapes[0], {"ratio": self.coreset_ratio}
        if self.patch_sizes is None:
            small_enough = [side for side in SIDES if 4 * side <= min(shape[1:])]
            fitting["patch_sizes"] = small_enough[-_SIZES:] or SIDES[:1]
        return from_parameters(self, MSPatchNetwork, shape, **fitting)

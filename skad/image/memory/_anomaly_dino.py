"""AnomalyDINO: patches whose direction no patch of a few normal pictures has."""

import math
from functools import partial
from numbers import Integral, Real
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812

from skad._parameters import absent, with_parameters
from skad._sklearn import Interval, StrOptions
from skad.image._base import TrainingPatches
from skad.image._turns import turned
from skad.image.memory._bank import PatchBank

# Up to so many training pictures are few, and "auto" turns them.
_FEW = 16
_TURNS = 8


def otsu(values):
    """Return of each row (b, n) which values are above Otsu's threshold, (b, n).

    The threshold parts the values so that the variance between the two classes, of
    their sizes and means, is the largest.
    """
    n = values.shape[1]
    if n == 1:
        return torch.ones_like(values, dtype=torch.bool)
    ordered, order = values.sort(1)
    below = torch.arange(1, n, device=values.device).to(values)
    sums = ordered.cumsum(1)
    means = sums[:, :-1] / below, (sums[:, -1:] - sums[:, :-1]) / (n - below)
    between = below * (n - below) * (means[1] - means[0]).square()
    between = between.masked_fill(ordered[:, 1:] == ordered[:, :-1], -1.0)
    first = between.argmax(1, keepdim=True) + 1  # of the values above
    above = torch.arange(n, device=values.device) >= first
    return torch.zeros_like(above).scatter(1, order, above)


def object_mask(features):
    """Return which patches (b, gh, gw) show the object, from features (b, gh, gw, d).

    The values along the first principal component of a picture's own patches are
    parted in two. Its sign is arbitrary: the object is the part that has more of the
    patches in the middle, a fifth away from every border, than of the others. The mask
    is dilated and closed by 3 x 3 places.
    """
    b, height, width, _ = features.shape
    rows = features.flatten(1, 2)
    rows = rows - rows.mean(1, keepdim=True)
    if rows.shape[1] < rows.shape[2]:
        values = torch.linalg.eigh(rows @ rows.mT).eigenvectors[..., -1]
    else:
        values = (rows @ torch.linalg.eigh(rows.mT @ rows).eigenvectors[..., -1:])[
            ..., 0
        ]
    mask = otsu(values).view(b, height, width)
    top, left = height // 5, width // 5
    inside = torch.zeros_like(mask[0])
    inside[top : height - top, left : width - left] = True
    share = [mask[:, part].to(features).mean(1) for part in (inside, ~inside)]
    turn = share[0] < share[1]  # never where there is no border: NaN
    mask = (mask != turn[:, None, None]).to(features)[:, None]
    wide = F.max_pool2d(mask, 3, 1, 1)  # dilated
    wide = F.max_pool2d(wide, 3, 1, 1)  # closed: dilated and eroded
    return -F.max_pool2d(-wide, 3, 1, 1)[:, 0] > 0


@with_parameters
class AnomalyDINO(PatchBank):
    r"""Patches whose direction no patch of a few normal pictures has.

    A vision transformer describes each patch of a picture by its token, brought to unit
    length, :math:`p`. A memory :math:`\mathcal{M}` keeps those of all patches of the
    normal pictures, which may be few, also of turned copies. The anomaly of a patch is

    .. math:: s(p) = \min_{m \in \mathcal{M}} \tfrac12 \lVert p - m \rVert^2
        = 1 - \max_{m \in \mathcal{M}} \cos(p, m).

    The map is that, interpolated to the pixels of the picture and smoothed. The score
    is the mean of the patches with the largest anomalies, a hundredth of all, before
    smoothing.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_rotations : int or "auto", default="auto"
        Turned copies of every training picture, by equal parts of a full turn, that the
        memory holds, itself among them. "auto" is 8 up to 16 pictures and 1, no turned
        ones, beyond.
    mask : {"pca"} or None, default=None
        Which patches count. "pca" is those of the object, which the first principal
        component of the picture's patches parts from the background: others are kept
        out of the memory and have no anomaly. None is all.
    top_share : float, default=0.01
        Share of the patches of a picture that make its score; at least one.
    coreset_ratio : float, default=1.0
        Share of the normal patches that the memory keeps.
    random_state : int, RandomState instance or None, default=None
        Draws the core-set, where not all patches are kept. Pass an int for reproducible
        results.

    Attributes
    ----------
    n_rotations_ : int
        Copies of every training picture in the memory.

    See Also
    --------
    PatchCore : Distances as they are, to a core-set.
    skad.embedding.ViTEmbedding : The transformer's patches, as `embedding`.

    Notes
    -----
    The paper is of DINOv2 (ViT-S/14) on pictures of 448 or 672 pixels:
    ``AnomalyDINO(embedding=ViTEmbedding(Dinov2Model.from_pretrained(folder),
    image_size=448))``. It is built on whatever describes patches; with another network
    it has that network's quality.

    Departures from the authors' code: they mark the object where the first component is
    above 10, which is a value of DINOv2's features alone, and turn its sign where that
    is little of the middle; here it is Otsu's threshold, of features of unit length,
    and the part that is more of the middle than of the border. They choose for each set
    of pictures by hand whether to mask. Copies are turned with the pixels of the border
    beyond it.

    With a ResNet-18 in its place, at 128 pixels, areas under the ROC curve of pictures
    / of pixels are 0.891 / 0.732 on 80 magnetic tiles and 0.993 / 0.970 on cookies,
    those of `PatchCore` 0.903 / 0.768 and 0.998 / 0.955
    (``benchmarks/results/images_training.tsv``).

    Scoring costs O(p m d) beside the backbone, for p patches, m in the memory and d
    features. With ``contamination="auto"`` the threshold comes from the training
    pictures' scores without their own patches and those of their copies. With a number,
    and all patches kept, there is no threshold: a training picture is at distance zero.

    References
    ----------
    .. [1] S. Damm, M. Laszkiewicz, J. Lederer and A. Fischer, "AnomalyDINO: boosting
       patch-based few-shot anomaly detection with DINOv2", WACV, 2025.
    .. [2] N. Otsu, "A threshold selection method from gray-level histograms", IEEE
       Transactions on Systems, Man, and Cybernetics, 1979.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import AnomalyDINO
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(4, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:12, 20:24] = 1.0
    >>> detector = AnomalyDINO(smoothing=1).fit(good)
    >>> detector.predict(bad)
    array([-1])
    """

    n_rotations: int | str = "auto"
    mask: str | None = None
    top_share: float = 0.01
    coreset_ratio: float = 1.0
    neighborhood: int = 1
    # the score is of patches, and not of the map
    pooling: Any = absent()
    quantile: Any = absent()

    _bounded = False
    _resnet_layers = ("layer2", "layer3")
    _parameter_constraints = {
        "n_rotations": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "mask": [StrOptions({"pca"}), None],
        "top_share": [Interval(Real, 0, 1, closed="right")],
    }

    @property
    def _exports(self):
        return self.mask is None  # a principal component is no operation of ONNX

    def _fit(self, X, y):
        self._choose_rotations(X)
        return super()._fit(X, y)

    def _fit_blocks(self, blocks):
        self._choose_rotations(blocks)
        return super()._fit_blocks(blocks)

    def _choose_rotations(self, X):
        few = X.shape[0] <= _FEW
        auto = _TURNS if few and not self._are_rows_ else 1
        self.n_rotations_ = auto if self.n_rotations == "auto" else self.n_rotations

    def _build(self, training, owners, random, honest):
        size = self._size(training.n_pictures * math.prod(training.grid))
        entries = self._merge(training, owners, random)
        self._set_bank(*self._thin(entries, size, random))

    def _size(self, n_patches):
        return super()._size(n_patches * self.n_rotations_)

    def _merge(self, training, owners, random):
        parts = [self._entries(training, owners, random)]
        for i in range(1, self.n_rotations_):
            copies = partial(self._turned, 2 * math.pi * i / self.n_rotations_)
            copies = TrainingPatches(self, training.X, copies)
            parts.append(self._entries(copies, owners, random))
        return tuple(torch.cat(part) for part in zip(*parts, strict=True))

    def _entries(self, training, owners, random):
        if training.kept:
            return self._candidates(training.all(), owners, random)
        return super()._merge(training, owners, random)

    def _turned(self, angle, x):
        return self._features(turned(x.movedim(-1, 1), angle).movedim(1, -1))

    def _features(self, x):
        features = self.embedding_.embed(x)
        # no token is zero but where a bank of filters sees nothing
        length = features.square().sum(3, keepdim=True).sqrt()
        return features / length.clamp(min=torch.finfo(features.dtype).tiny)

    def _candidates(self, features, owners, random):
        patches, own = super()._candidates(features, owners, random)
        if self.mask is None:
            return patches, own
        kept = object_mask(features).flatten()
        return patches[kept], own[kept]

    def _weighed(self, distances, indices):
        return distances.square() / 2

    def _found(self, features, own=None):
        patches, indices = super()._found(features, own)
        if self.mask is not None:
            patches = patches.masked_fill(~object_mask(features), 0)
        return patches, indices

    def _picture(self, patches, features, indices, own=None, maps=None):
        rows = patches.flatten(1)
        n_top = max(1, int(self.top_share * rows.shape[1]))
        return rows.topk(n_top, dim=1).values.mean(1)

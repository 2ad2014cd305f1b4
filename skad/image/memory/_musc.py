"""MuSc: patches that few of many unlabelled pictures have, scored by one another."""

import math
from collections.abc import Sequence
from numbers import Real

import torch
from torch.nn import functional as F  # noqa: N812

from skad._array import slices
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.image._base import BackboneDetector, as_tensor, owners_of
from skad.nn.residual import fit_to

# Elements of a block of products between patches.
_PRODUCTS = 2**22


def local_mean(features, side):
    """Return features (b, gh, gw, d), each the mean of a square of places around it."""
    if side == 1:
        return features
    maps = features.movedim(3, 1)
    maps = F.avg_pool2d(maps, side, 1, side // 2, count_include_pad=False)
    return maps.movedim(1, 3)


def to_pictures(queries, pictures):
    """Return distances (q, m) of patches (q, d) to pictures' nearest, (m, p, d)."""
    squares = pictures.square().sum(2).flatten()
    table = torch.addmm(squares, queries, pictures.flatten(0, 1).T, alpha=-2)
    places = table.view(len(queries), *pictures.shape[:2]).argmin(2)  # (q, m)
    rows = torch.arange(len(pictures), device=places.device)
    # once more from the differences, so that a patch of its own is at distance zero
    return (queries[:, None] - pictures[rows, places]).square().sum(2).sqrt()


def reweighted(anomaly, cosines, known, counts):
    """Return anomalies (b,) averaged with those of the most similar pictures.

    Parameters
    ----------
    anomaly : tensor of shape (b,)
        Of the pictures by themselves.
    cosines : tensor of shape (b, n)
        To the pictures of the pool; what is not positive has no weight.
    known : tensor of shape (n,)
        Anomalies of the pool.
    counts : sequence of int
        Numbers of pictures, itself among them, over which means are taken, weighted by
        the cosines; the mean of these means is returned.
    """
    weights, order = cosines.clamp(min=0).sort(dim=1, descending=True, stable=True)
    values, found = known[order], 0
    for k in counts:
        own = weights[:, : k - 1]
        total = anomaly + (own * values[:, : k - 1]).sum(1)
        found = found + total / (1 + own.sum(1))
    return found / len(counts)


@with_parameters
class MuSc(BackboneDetector):
    r"""Patches that few of the pictures in an unlabelled pool have.

    Normal patches recur in most pictures, and those of a defect in few, so that
    unlabelled pictures can score one another [1]_. A vision transformer describes the
    patches of a picture; those of each layer are brought to mean zero and deviation
    one, and averaged over squares of 1, 3 and 5 places. The anomaly of a patch
    :math:`p` is its distance to the share `pool_share` of the pictures :math:`X_j` of
    the pool that are nearest to it,

    .. math:: s(p) = \mathrm{mean}_{j \in L(p)} \min_{m \in X_j} \lVert p - m \rVert,

    and the mean of that over layers and squares. The map is that, interpolated to the
    pixels. The score is its maximum, then averaged with those of the pictures of the
    pool that look most alike.

    `fit` keeps the pictures of the pool, which may be the very ones that are to be
    judged, defects among them, and ``mutual_anomaly_`` says how the others score each.
    A new picture is scored against the pool and does not join it. So a picture of the
    pool, given once more, has a copy of itself there, and scores lower than
    ``mutual_anomaly_`` says.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    pool_share : float, default=0.3
        Share of the pool that a patch is compared with: those of its pictures that are
        nearest to it, one at least.
    sides : tuple of int, default=(1, 3, 5)
        Sides of the squares of places over which features are averaged, odd.
    n_alike : tuple of int, default=(1, 2, 3)
        Numbers of pictures, itself among them, over which scores are averaged, weighted
        by the cosines of what describes whole pictures: the class token of the last
        layer, or the mean of its patches where there is none. ``(1,)`` averages
        nothing.

    Attributes
    ----------
    pool_ : list of tensor of shape (n_pictures, grid_height, grid_width, n_features)
        The patches of the pool, layer by layer.
    mutual_anomaly_ : tensor of shape (n_pictures,)
        The anomaly of each picture of the pool by the others, not averaged with those
        that look alike.

    See Also
    --------
    SoftPatch : A memory without what is an outlier in it.
    AnomalyDINO : A memory of few pictures that are known to be normal.

    Notes
    -----
    The paper's is ``MuSc(embedding=ViTEmbedding(model, layers=(5, 11, 17, 23),
    norm=False, image_size=518))`` with CLIP's ViT-L/14. It is built on whatever
    describes patches; with another network it has that network's quality: with the
    third stage of a ResNet-18, at 128 pixels, areas under the ROC curve of pictures /
    of pixels are 0.823 / 0.749 against a pool of 80 magnetic tiles and 0.940 / 0.918 on
    cookies, those of `PatchCore` 0.903 / 0.768 and 0.998 / 0.955
    (``benchmarks/results/images_training.tsv``). On a CLIP it was not measured here.

    The pool is kept whole, and a picture costs O(s n p^2 d) beside the backbone, for n
    pictures of p patches, d features of all layers and s squares; `fit` costs that for
    every picture. Layers of coarser grids are repeated on that of the first.

    Departures from the authors' code: there a batch of the test pictures is scored, and
    all scores change with the batch; here the pool is what is fitted, and a new picture
    has the same score in any batch. Their scores are brought to 0..1 before they are
    averaged, which changes no order. Pools of less than 5 pictures have a share of no
    picture there.

    With ``contamination="auto"`` the threshold comes from the scores of the pool's
    pictures by the others; the scores with which these are averaged are of a pool with
    the picture. Where a share of the pool has defects, pass it as `contamination`.

    References
    ----------
    .. [1] X. Li, Z. Huang, F. Xue and Y. Zhou, "MuSc: zero-shot industrial anomaly
       classification and segmentation with mutual scoring of the unlabeled images",
       ICLR, 2024, equations (1) to (8).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import MuSc
    >>> rng = np.random.default_rng(0)
    >>> pictures = rng.normal(0.5, 0.02, size=(12, 32, 32))
    >>> pictures[0, 8:12, 20:24] = 1.0
    >>> detector = MuSc(layers=["scale2"]).fit(pictures)
    >>> int(detector.mutual_anomaly_.argmax())
    0
    """

    pool_share: float = 0.3
    sides: Sequence[int] = (1, 3, 5)
    n_alike: Sequence[int] = (1, 2, 3)
    smoothing: float = 0.0

    _honesty = "leave one out"
    _parameter_constraints = {
        "pool_share": [Interval(Real, 0, 1, closed="right")],
        "sides": [tuple, list],
        "n_alike": [tuple, list],
    }

    def _check_parameters(self, X):
        for name, step in (("sides", 2), ("n_alike", 1)):
            given = getattr(self, name)
            if not given or any(n < 1 or (n - 1) % step for n in given):
                kind = "odd numbers" if step == 2 else "numbers"
                raise ValueError(
                    f"{name}={given!r} has to be {kind}, each 1 or more, one at least."
                )

    # ------------------------------------------------------------------------- learning

    def _fit(self, X, y):
        self._fit_embedding(X)
        parts = []
        for rows in self._batches(X.shape[0]):
            with torch.no_grad():
                layers, whole = self._described(as_tensor(X[rows]))
                parts.append((*layers, whole))
        *pool, self._whole_ = (torch.cat(part) for part in zip(*parts, strict=True))
        self.pool_ = pool
        owners = owners_of(X).to(self._whole_.device)
        self._owners_ = owners
        honest = self._leaves_out(owners)
        anomaly, alone = [], len(owners.unique()) == 1
        for rows in self._batches(len(owners)):
            own = None if alone else owners[rows]
            anomaly.append(self._pool(self._away(self._of_pool(rows), own)))
        self.mutual_anomaly_ = torch.cat(anomaly)
        found = []
        for rows in self._batches(len(owners)):
            whole = self._whole_[rows]
            if honest:
                mutual = self.mutual_anomaly_[rows]
                found.append(self._averaged(mutual, whole, owners[rows]))
            else:
                patches = self._away(self._of_pool(rows))
                found.append(self._averaged(self._pool(patches), whole))
        return torch.cat(found)

    def _of_pool(self, rows):
        """Return the layers of some pictures of the pool."""
        return [layer[rows] for layer in self.pool_]

    def _described(self, x):
        """Return patches (b, gh, gw, d), layer by layer, and descriptions (b, d)."""
        token = None
        if hasattr(self.embedding_, "tokens"):
            tokens = self.embedding_.tokens(x)
            maps, token = [each for _, each in tokens], tokens[-1][0]
        else:
            maps = self.embedding_.feature_maps(x)
        if token is None:
            token = maps[-1].mean((2, 3))
        grid = maps[0].shape[2:]
        layers = [fit_to(each, grid).movedim(1, 3) for each in maps]
        layers = [F.layer_norm(each, each.shape[3:]) for each in layers]
        return layers, F.normalize(token, dim=1)

    # -------------------------------------------------------------------------- scoring

    def _away(self, layers, own=None):
        """Return the anomaly (b, gh, gw) of the patches of layers (b, gh, gw, d).

        `own` (b,) are the pictures of the pool that are left out, of each its own.
        """
        b, *grid = layers[0].shape[:3]
        n, p = len(self.pool_[0]), math.prod(grid)
        left = n if own is None else n - int(self._owners_.bincount().max())
        k, found = max(1, int(self.pool_share * left)), []
        for layer, pool in zip(layers, self.pool_, strict=True):
            size = max(1, _PRODUCTS // (b * p * max(p, layer.shape[3])))
            for side in self.sides:
                queries = local_mean(layer, side).flatten(0, 2)
                away = queries.new_empty(b * p, n)
                for rows in slices(n, size):
                    known = local_mean(pool[rows].to(queries), side)
                    away[:, rows] = to_pictures(queries, known.flatten(1, 2))
                if own is not None:
                    mine = own.repeat_interleave(p)[:, None] == self._owners_
                    away.masked_fill_(mine, torch.inf)
                found.append(away.topk(k, 1, largest=False).values.mean(1))
        return torch.stack(found).mean(0).view(b, *grid)

    def _averaged(self, anomaly, whole, own=None):
        """Return anomalies (b,) averaged with those of pictures that look alike."""
        cosines = (whole[:, None] * self._whole_.to(whole)).sum(2)
        if own is not None:
            cosines = cosines.masked_fill(own[:, None] == self._owners_, 0)
        known = self.mutual_anomaly_.to(anomaly)
        return reweighted(anomaly, cosines, known, self.n_alike)

    def _patches(self, x):
        return self._away(self._described(x)[0])

    def _anomaly(self, X):
        with torch.no_grad():
            features, whole = self._described(as_tensor(X))
            return self._averaged(self._pool(self._away(features)), whole)

    def _inspect(self, X):
        with torch.no_grad():
            features, whole = self._described(as_tensor(X))
            maps = self._upsampled(self._away(features))
            return self._averaged(self._summary(maps), whole), self._as_map(maps)

"""PatchCore: distance to the nearest patch in a memory of normal ones."""

import math
from functools import partial
from numbers import Integral, Real

import torch
from sklearn import get_config

from skad._array import on_device, slices
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.image._base import (
    BackboneDetector,
    TrainingPatches,
    as_tensor,
    owners_of,
)
from skad.image.memory._coreset import GreedyKCenter, project
from skad.image.memory._peaks import highest_pixels
from skad.image.memory._search import mask_own, nearest

# Patches of each training picture that are searched together.
_AT_ONCE = 16


def _core_set(detector, X, seed, first):
    """Return what is left of the patches of a block's pictures, and their pictures."""
    return detector._merge(*_of_block(detector, X, first), generator(seed))


def _block_anomaly(detector, X, first, honest):
    """Return the anomaly of a block's pictures, which were learned from."""
    return detector._of_training(*_of_block(detector, X, first), honest)


def _of_block(detector, X, first):
    """Return the features of a block's pictures, and the number of each picture."""
    X = on_device(X, detector.device_)
    training = TrainingPatches(detector, X, detector.embedding_.embed)
    return training, first + torch.arange(X.shape[0])


@with_parameters
class PatchCore(BackboneDetector):
    r"""Patches unlike every patch of the normal pictures.

    A network describes each patch of a picture by features of its middle layers, each
    averaged over its surroundings. A memory bank :math:`\mathcal{M}` keeps the
    features of normal patches, thinned out to a core-set that covers all of them. The
    anomaly of a patch :math:`p` is

    .. math:: s(p) = \min_{m \in \mathcal{M}} \lVert p - m \rVert,

    the map is that, interpolated to the pixels of the picture and smoothed, and the
    score is its maximum. With `n_neighbors` the score is the paper's instead: of the
    patch :math:`p^*` with the largest :math:`s^* = s(p^*)` and the neighbour
    :math:`m^*`,

    .. math:: a = \left(1 - \frac{\exp \lVert p^* - m^* \rVert}
        {\sum_{m \in N_b(m^*)} \exp \lVert p^* - m \rVert}\right) s^*,

    where :math:`N_b(m^*)` are the `n_neighbors` patches of the bank nearest to
    :math:`m^*`: a patch counts more where the bank is sparse.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    coreset_ratio : float, default=0.1
        Share of the normal patches that the bank keeps.
    bank_size : int or None, default=None
        Number of patches that the bank keeps, instead of a share.
    n_neighbors : int or None, default=None
        :math:`b`, 9 in the paper; 1 is :math:`s^*` itself, as in the authors' code.
        None is what `pooling` makes of the map, which is not used otherwise.
    projection_eps : float or None, default=0.9
        The core-set is chosen on random projections that keep distances up to this
        share; None chooses on the features themselves.
    neighborhood : int, default=3
        Places, in both directions, over which features are averaged; odd.
    random_state : int, RandomState instance or None, default=None
        Draws the projection and the first patch of the core-set. Pass an int for
        reproducible results.

    Attributes
    ----------
    bank_ : tensor of shape (n_patches, n_patch_features)
        The memory bank.
    owners_ : tensor of shape (n_patches,)
        Number of the training picture that each patch of the bank comes from.

    See Also
    --------
    PaDiM : A Gaussian for each place of aligned pictures.
    PatchDetector : Any detector on the features of patches.

    Notes
    -----
    The core-set is the greedy k-center set, the one that adding the farthest patch one
    by one chooses, found a few hundred at a time. While the features of all training
    patches fit in scikit-learn's ``working_memory`` (1 GiB unless `sklearn.set_config`
    says otherwise) they are thinned out together; beyond that, batches of pictures are
    thinned out to `coreset_ratio` each as they come and all that is left to the size
    of the bank, a core-set of core-sets; then the backbone computes the features once
    more for the threshold. Scoring a picture costs O(p m d) beside the
    backbone, for p patches, m in the bank and d features. Features are averaged as in
    anomalib, with zeros beyond the border; the authors' code also averages groups of
    channels.

    The default departs from the paper's score. On nine sets of pictures, seven of them
    textures that were drawn for it, and two backbones the maximum of the smoothed map
    orders pictures better than the largest patch in the mean, and the factor adds
    nothing to either (``benchmarks/results/images_pooling.tsv``).

    With ``contamination="auto"`` the threshold comes from the training pictures' scores
    without their own patches: in the bank and among the neighbours of :math:`m^*` only
    those of other pictures count. Of one picture no other is left, and its own score is
    the threshold. A number takes the scores with the own patches in the bank, which are
    lower than those of new normal pictures.

    References
    ----------
    .. [1] K. Roth, L. Pemula, J. Zepeda, B. Schölkopf, T. Brox and P. Gehler, "Towards
       total recall in industrial anomaly detection", CVPR, 2022, equations (4) to (7)
       and algorithm 1.
    .. [2] O. Sener and S. Savarese, "Active learning for convolutional neural networks:
       a core-set approach", ICLR, 2018, algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import PatchCore
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(8, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:12, 20:24] = 1.0
    >>> detector = PatchCore(smoothing=1, random_state=0).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(7 <= row <= 12 and 19 <= column <= 24)
    True
    """

    coreset_ratio: float = 0.1
    bank_size: int | None = None
    n_neighbors: int | None = None
    projection_eps: float | None = 0.9
    neighborhood: int = 3
    random_state: Seed = None

    _honesty = "leave one out"
    _resnet_layers = ("layer2", "layer3")
    _exports = True
    _parameter_constraints = {
        "coreset_ratio": [Interval(Real, 0, 1, closed="right")],
        "bank_size": [Interval(Integral, 1, None, closed="left"), None],
        "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "projection_eps": [Interval(Real, 0, 1, closed="neither"), None],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _fit(self, X, y):
        self._fit_embedding(X)
        training = TrainingPatches(self, X, self.embedding_.embed)
        owners = owners_of(X).to(training.device)
        honest = self._leaves_out(owners)
        n_patches = training.n_pictures * math.prod(training.grid)
        size = self.bank_size or max(1, round(self.coreset_ratio * n_patches))
        random = generator(self.random_state)
        if not training.kept:
            patches, own = self._merge(training, owners, random)
            self._set_bank(*self._thin(patches, own, size, random))
            return self._of_training(training, owners, honest)
        features = training.all()  # (n, gh, gw, d)
        patches = features.flatten(0, 2)
        own = owners.repeat_interleave(math.prod(training.grid))
        chosen = self._choose(patches, size, random, own if honest else None)
        self._set_bank(patches[chosen.picks], own[chosen.picks])
        if self.n_neighbors is None and self.pooling != "max":
            return self._of_training(training, owners, honest)
        near = chosen.other if honest else chosen.owner
        return self._training_anomaly(features, near, owners if honest else None)

    def _fit_blocks(self, blocks):
        self._fit_embedding(blocks.head)
        grid = TrainingPatches(self, blocks.head, self.embedding_.embed).grid
        n_patches = blocks.shape[0] * math.prod(grid)
        size = self.bank_size or max(1, round(self.coreset_ratio * n_patches))
        random = generator(self.random_state)
        seeds = [random.randint(2**31 - 1) for _ in range(len(blocks))]
        left = blocks.map(_core_set, seeds, blocks.starts)
        patches, own = (torch.cat(parts) for parts in zip(*left, strict=True))
        self._set_bank(*self._thin(patches, own, size, random))
        honest = self._leaves_out(torch.arange(blocks.shape[0]))
        found = blocks.map(_block_anomaly, blocks.starts, [honest] * len(blocks))
        return torch.cat(found)

    def _choose(self, patches, size, random, groups=None):
        """Return the core-set of `size` among patches (n, d)."""
        seed, start = random.randint(2**31 - 1), random.randint(len(patches))
        points = patches
        if self.projection_eps is not None:
            points = project(patches, seed, self.projection_eps)
        size = min(size, len(patches))
        chosen = GreedyKCenter(points, size, start, groups=groups)
        for _ in self._steps(chosen, "core-set", None):
            pass
        return chosen

    def _thin(self, patches, owners, size, random):
        """Return the patches (m, d) of the core-set and their pictures (m,)."""
        picks = self._choose(patches, size, random).picks
        return patches[picks], owners[picks]

    def _training_anomaly(self, features, near, owners=None):
        """Return the anomaly (n,) of training pictures with patches (n, gh, gw, d).

        The distance to the patch of the bank that was nearest in the projection is
        never less than that to the nearest: not every patch has to be searched.

        Parameters
        ----------
        features : tensor of shape (n, gh, gw, d)
            The patches.
        near : tensor of shape (n gh gw,)
            A patch of the bank near to each; -1 where there is none.
        owners : tensor of shape (n,) or None
            The pictures whose own patches are left out, of each its own.
        """
        near = near.reshape(features.shape[:3])
        bounds = torch.cat(
            [
                (part - self.bank_[own]).square().sum(3).sqrt()
                for part, own in zip(
                    features.split(self.batch_size),
                    near.split(self.batch_size),
                    strict=True,
                )
            ]
        ).masked_fill_(near < 0, math.inf)
        if self.n_neighbors is None:
            found = self._highest(features, bounds, owners)
        else:
            found = self._farthest(features.flatten(1, 2), bounds.flatten(1), owners)
        return found[found.isfinite()]  # the others put in all of the bank

    def _highest(self, features, bounds, owners):
        """Return the largest pixel (n,) of each picture's map."""
        axes, found = self._smoothers(bounds), []
        for rows in slices(len(features), self.batch_size):
            own = None if owners is None else owners[rows]
            exact = partial(self._exact, features[rows], own)
            found.append(highest_pixels(bounds[rows], exact, *axes))
        return torch.cat(found)

    def _exact(self, features, owners, picture, row, column):
        """Return the distances (m,) of patches of pictures to the bank."""
        own = None if owners is None else owners[picture]
        queries = features[picture, row, column]
        return nearest(queries, self.bank_, self._squares_, own, self.owners_)[0]

    def _farthest(self, features, bounds, owners):
        """Return the paper's anomaly (n,) of pictures with patches (n, p, d).

        Patches are searched in the order of their bounds, until these fall below what
        was found.
        """
        n_pictures, n_patches = features.shape[:2]
        found = features.new_zeros(n_pictures)
        bounds, order = bounds.sort(dim=1, descending=True)
        place, neighbour = (order.new_zeros(n_pictures) for _ in range(2))
        for start in range(0, n_patches, _AT_ONCE):
            # rounding must not end the search early
            open_ = (bounds[:, start] * (1 + 1e-3) >= found).nonzero()[:, 0]
            if not len(open_):
                break
            which = order[open_, start : start + _AT_ONCE]  # (o, k)
            queries = features[open_[:, None], which].flatten(0, 1)
            own = None
            if owners is not None:
                own = owners[open_].repeat_interleave(which.shape[1])
            distances, indices = nearest(
                queries, self.bank_, self._squares_, own, self.owners_
            )
            largest, k = distances.reshape(which.shape).max(1)
            rows = torch.arange(len(open_), device=k.device)
            better = (largest > found[open_]) | (start == 0)
            open_, k, rows = open_[better], k[better], rows[better]
            found[open_] = largest[better]
            place[open_] = which[rows, k]
            neighbour[open_] = indices.reshape(which.shape)[rows, k]
        rows = torch.arange(n_pictures, device=features.device)
        return self._weighted(features[rows, place], found, neighbour, owners)

    def _merge(self, training, owners, random):
        """Return what is left of all patches when each batch is thinned out.

        `owners` (n,) are the pictures; what is left comes with those of each patch.
        """
        left, batch, most = [], [], get_config()["working_memory"] * 2**18
        n_bytes = start = first = 0
        for features in training:
            batch.append(features.flatten(0, 2))
            n_bytes += features.nbytes
            start += len(features)
            if n_bytes > most or start == training.n_pictures:
                patches = torch.cat(batch)
                own = owners[first:start].to(patches.device)
                own = own.repeat_interleave(len(patches) // len(own))
                left.append(self._share(patches, own, random))
                batch, n_bytes, first = [], 0, start
        return tuple(torch.cat(parts) for parts in zip(*left, strict=True))

    def _share(self, patches, owners, random):
        size = max(1, round(self.coreset_ratio * len(patches)))
        if self.bank_size is not None:
            size = self.bank_size
        return self._thin(patches, owners, size, random)

    def _set_bank(self, bank, owners):
        self.bank_, self.owners_ = bank.contiguous(), owners
        self._squares_ = bank.square().sum(1)

    def _search(self, features, own=None):
        """Return distances (b, gh, gw) to the bank and indices of the neighbours.

        `own` (b,) are the pictures whose own patches are left out.
        """
        kind = {"dtype": features.dtype, "device": features.device}
        bank, squares = self.bank_.to(**kind), self._squares_.to(**kind)
        owners = None
        if own is not None:
            owners = self.owners_
            own = own.repeat_interleave(math.prod(features.shape[1:3]))
        found = nearest(features.flatten(0, 2), bank, squares, own, owners)
        return tuple(each.reshape(features.shape[:3]) for each in found)

    def _weighted(self, patch, largest, neighbour, own=None):
        """Return the anomaly (b,) of pictures: equations (6) and (7).

        Parameters
        ----------
        patch : tensor of shape (b, d)
            The patch of each picture that is farthest from the bank.
        largest : tensor of shape (b,)
            Its distance.
        neighbour : tensor of shape (b,)
            Index of the patch of the bank nearest to it.
        own : tensor of shape (b,) or None
            The pictures whose own patches are left out.
        """
        k = min(self.n_neighbors, len(self.bank_))
        if k == 1:
            return largest
        kind = {"dtype": patch.dtype, "device": patch.device}
        bank, squares = self.bank_.to(**kind), self._squares_.to(**kind)
        around = squares - 2 * bank[neighbour] @ bank.T
        if own is not None:
            mask_own(around, own, self.owners_)
        rows = torch.arange(patch.shape[0], device=patch.device)
        around[rows, neighbour] = -math.inf  # the neighbour itself is the first
        away, near = around.topk(k, dim=1, largest=False)
        to_near = (patch[:, None] - bank[near]).square().sum(2).sqrt()  # (b, k)
        to_near.masked_fill_(away == math.inf, -math.inf)  # its own count for nothing
        return (1 - torch.softmax(to_near, 1)[:, 0]) * largest

    def _known(self, features):
        return self._score(features, *self._search(features))

    def _left_out(self, features, own):
        found = self._score(features, *self._search(features, own), own)
        return found[found.isfinite()]  # the others put in all of the bank

    def _score(self, features, distances, indices, own=None, maps=None):
        """Return the anomaly (b,) of pictures from what `_search` found, and the maps.

        `maps` (b, h, w) are those of the distances, where they are there already.
        """
        if self.n_neighbors is None:
            return self._pool(distances) if maps is None else self._summary(maps)
        largest, place = distances.flatten(1).max(1)
        rows = torch.arange(features.shape[0], device=features.device)
        patch = features.flatten(1, 2)[rows, place]
        return self._weighted(patch, largest, indices.flatten(1)[rows, place], own)

    def _anomaly(self, X):
        with torch.no_grad():
            return self._known(self.embedding_.embed(as_tensor(X)))

    def _inspect(self, X):
        with torch.no_grad():
            features = self.embedding_.embed(as_tensor(X))
            distances, indices = self._search(features)
            maps = self._upsampled(distances)
            anomaly = self._score(features, distances, indices, maps=maps)
            return anomaly, self._as_map(maps)

    def _patches(self, x):
        return self._search(self.embedding_.embed(x))[0]

    def _graph(self, x):
        # the search goes through the bank in blocks, whose number a model cannot have
        features = self.embedding_.embed(x)
        kind = {"dtype": features.dtype, "device": features.device}
        bank, squares = self.bank_.to(**kind), self._squares_.to(**kind)
        indices = (squares - 2 * features @ bank.T).argmin(-1)  # (b, gh, gw)
        distances = (features - bank[indices]).square().sum(-1).sqrt()
        maps = self._upsampled(distances)
        return self._score(features, distances, indices, maps=maps), maps

"""PatchCore: distance to the nearest patch in a memory of normal ones."""

import math
from numbers import Integral, Real

import torch
from sklearn import get_config

from skad._array import on_device
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.image._base import BackboneDetector, TrainingPatches, as_tensor
from skad.image.memory._coreset import GreedyKCenter, project
from skad.image.memory._search import nearest

# Patches of each training picture that are searched together.
_AT_ONCE = 16


def _core_set(detector, X, seed):
    """Return what is left of the patches of pictures that are thinned out alone."""
    X = on_device(X, detector.device_)
    training = TrainingPatches(detector, X, detector.embedding_.embed)
    return detector._merge(training, generator(seed))


@with_parameters
class PatchCore(BackboneDetector):
    r"""Patches unlike every patch of the normal pictures.

    A network describes each patch of a picture by features of its middle layers, each
    averaged over its surroundings. A memory bank :math:`\mathcal{M}` keeps the
    features of normal patches, thinned out to a core-set that covers all of them. With
    :math:`s^* = \max_p \min_{m \in \mathcal{M}} \lVert p - m \rVert` over the patches
    of a picture, reached at the patch :math:`p^*` with neighbour :math:`m^*`, the
    anomaly is

    .. math:: a = \left(1 - \frac{\exp \lVert p^* - m^* \rVert}
        {\sum_{m \in N_b(m^*)} \exp \lVert p^* - m \rVert}\right) s^*,

    where :math:`N_b(m^*)` are the `n_neighbors` patches of the bank nearest to
    :math:`m^*`: a patch counts more where the bank is sparse. The map is the distance
    of each patch to the bank, interpolated to the pixels of the picture and smoothed;
    without the factor and the smoothing its maximum is the score.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    coreset_ratio : float, default=0.1
        Share of the normal patches that the bank keeps.
    bank_size : int or None, default=None
        Number of patches that the bank keeps, instead of a share.
    n_neighbors : int or None, default=9
        :math:`b`; None scores :math:`s^*` itself.
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
    of the bank, a core-set of core-sets. Scoring a picture costs O(p m d) beside the
    backbone, for p patches, m in the bank and d features. Features are averaged as in
    anomalib, with zeros beyond the border; the authors' code also averages groups of
    channels. The normal pictures' own patches are in the bank, so that their scores,
    from which `contamination` takes the threshold, are lower than those of new normal
    pictures; where a threshold matters, calibrate it on pictures that were held out.

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
    n_neighbors: int | None = 9
    projection_eps: float | None = 0.9
    neighborhood: int = 3
    random_state: Seed = None

    _resnet_layers = ("layer2", "layer3")
    _parameter_constraints = {
        "coreset_ratio": [Interval(Real, 0, 1, closed="right")],
        "bank_size": [Interval(Integral, 1, None, closed="left"), None],
        "n_neighbors": [Interval(Integral, 2, None, closed="left"), None],
        "projection_eps": [Interval(Real, 0, 1, closed="neither"), None],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _fit(self, X, y):
        self._fit_embedding(X)
        training = TrainingPatches(self, X, self.embedding_.embed)
        n_patches = training.n_pictures * math.prod(training.grid)
        size = self.bank_size or max(1, round(self.coreset_ratio * n_patches))
        random = generator(self.random_state)
        if training.kept is None:
            self._set_bank(self._thin(self._merge(training, random), size, random))
            return None
        features = training.all()
        patches = features.flatten(0, 2)
        chosen = self._choose(patches, size, random)
        self._set_bank(patches[chosen.picks])
        return self._training_anomaly(features.flatten(1, 2), chosen.owner)

    def _fit_blocks(self, blocks):
        self._fit_embedding(blocks.head)
        grid = TrainingPatches(self, blocks.head, self.embedding_.embed).grid
        n_patches = blocks.shape[0] * math.prod(grid)
        size = self.bank_size or max(1, round(self.coreset_ratio * n_patches))
        random = generator(self.random_state)
        seeds = [random.randint(2**31 - 1) for _ in range(len(blocks))]
        left = torch.cat(blocks.map(_core_set, seeds))
        self._set_bank(self._thin(left, size, random))

    def _choose(self, patches, size, random):
        """Return the core-set of `size` among patches (n, d)."""
        seed, start = random.randint(2**31 - 1), random.randint(len(patches))
        points = patches
        if self.projection_eps is not None:
            points = project(patches, seed, self.projection_eps)
        chosen = GreedyKCenter(points, min(size, len(patches)), start)
        for _ in self._steps(chosen, "core-set", None):
            pass
        return chosen

    def _thin(self, patches, size, random):
        """Return the patches (m, d) of the core-set."""
        return patches[self._choose(patches, size, random).picks]

    def _training_anomaly(self, features, owner):
        """Return the anomaly (n,) of training pictures with patches (n, p, d).

        The distance to the patch of the bank that was nearest in the projection is
        never less than that to the nearest. Patches are searched in the order of this
        bound, until it falls below what was found.
        """
        n_pictures, n_patches = features.shape[:2]
        found = features.new_zeros(n_pictures)
        place, neighbour = (owner.new_zeros(n_pictures) for _ in range(2))
        bounds = torch.cat(
            [
                (part - self.bank_[own]).square().sum(2).sqrt()
                for part, own in zip(
                    features.split(self.batch_size),
                    owner.reshape(n_pictures, -1).split(self.batch_size),
                    strict=True,
                )
            ]
        )
        bounds, order = bounds.sort(dim=1, descending=True)
        for start in range(0, n_patches, _AT_ONCE):
            # rounding must not end the search early
            open_ = (bounds[:, start] * (1 + 1e-3) >= found).nonzero()[:, 0]
            if not len(open_):
                break
            which = order[open_, start : start + _AT_ONCE]  # (o, k)
            queries = features[open_[:, None], which]
            distances, indices = nearest(
                queries.flatten(0, 1), self.bank_, self._squares_
            )
            largest, k = distances.reshape(which.shape).max(1)
            rows = torch.arange(len(open_), device=k.device)
            better = (largest > found[open_]) | (start == 0)
            open_, k, rows = open_[better], k[better], rows[better]
            found[open_] = largest[better]
            place[open_] = which[rows, k]
            neighbour[open_] = indices.reshape(which.shape)[rows, k]
        rows = torch.arange(n_pictures, device=features.device)
        return self._weighted(features[rows, place], found, neighbour)

    def _merge(self, training, random):
        """Return what is left of all patches when each batch is thinned out."""
        left, batch, most = [], [], get_config()["working_memory"] * 2**18
        n_bytes = 0
        for features in training:
            batch.append(features.flatten(0, 2))
            n_bytes += features.nbytes
            if n_bytes > most:
                left.append(self._share(torch.cat(batch), random))
                batch, n_bytes = [], 0
        if batch:
            left.append(self._share(torch.cat(batch), random))
        return torch.cat(left)

    def _share(self, patches, random):
        size = max(1, round(self.coreset_ratio * len(patches)))
        if self.bank_size is not None:
            size = self.bank_size
        return self._thin(patches, size, random)

    def _set_bank(self, bank):
        self.bank_ = bank.contiguous()
        self._squares_ = bank.square().sum(1)

    def _search(self, features):
        """Return distances (b, gh, gw) to the bank and indices of the neighbours."""
        own = {"dtype": features.dtype, "device": features.device}
        bank, squares = self.bank_.to(**own), self._squares_.to(**own)
        distances, indices = nearest(features.flatten(0, 2), bank, squares)
        return distances.reshape(features.shape[:3]), indices.reshape(
            features.shape[:3]
        )

    def _weighted(self, patch, largest, neighbour):
        """Return the anomaly (b,) of pictures: equations (6) and (7).

        Parameters
        ----------
        patch : tensor of shape (b, d)
            The patch of each picture that is farthest from the bank.
        largest : tensor of shape (b,)
            Its distance.
        neighbour : tensor of shape (b,)
            Index of the patch of the bank nearest to it.
        """
        k = min(self.n_neighbors or 1, len(self.bank_))
        if k == 1:
            return largest
        own = {"dtype": patch.dtype, "device": patch.device}
        bank, squares = self.bank_.to(**own), self._squares_.to(**own)
        around = squares - 2 * bank[neighbour] @ bank.T
        rows = torch.arange(patch.shape[0], device=patch.device)
        around[rows, neighbour] = -math.inf  # the neighbour itself is the first
        near = bank[around.topk(k, dim=1, largest=False).indices]  # (b, k, d)
        to_near = (patch[:, None] - near).square().sum(2).sqrt()
        return (1 - torch.softmax(to_near, 1)[:, 0]) * largest

    def _anomaly(self, X):
        with torch.no_grad():
            features = self.embedding_.embed(as_tensor(X))
            distances, indices = (each.flatten(1) for each in self._search(features))
            largest, place = distances.max(1)
            rows = torch.arange(len(features), device=features.device)
            patch = features.flatten(1, 2)[rows, place]
            return self._weighted(patch, largest, indices[rows, place])

    def _patches(self, x):
        return self._search(self.embedding_.embed(x))[0]

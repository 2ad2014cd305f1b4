"""What detectors share that keep patches of normal pictures: PatchCore's parts.

A method states what differs: which patches may enter the bank (`_candidates`), the
choice among them (`_build`), what the search makes of a patch (`_search`, `_weighed`)
and the score of a picture (`_picture`).
"""

import math
from functools import partial
from numbers import Integral, Real

import torch
from sklearn import get_config

from skad._array import on_device, slices
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.image._base import BackboneDetector, TrainingPatches, as_tensor, owners_of
from skad.image.memory._coreset import GreedyKCenter, project
from skad.image.memory._peaks import highest_pixels
from skad.image.memory._search import nearest


def _core_set(detector, X, seed, first):
    """Return what is left of the patches of a block's pictures, and their pictures."""
    return detector._merge(*_of_block(detector, X, first), generator(seed))


def _block_anomaly(detector, X, first, honest):
    """Return the anomaly of a block's pictures, which were learned from."""
    return detector._of_training(*_of_block(detector, X, first), honest)


def _of_block(detector, X, first):
    """Return the features of a block's pictures, and the number of each picture."""
    X = on_device(X, detector.device_)
    training = TrainingPatches(detector, X, detector._features)
    return training, first + torch.arange(X.shape[0])


@with_parameters
class PatchBank(BackboneDetector):
    """Base of detectors that keep patches of normal pictures and search among them.

    Parameters
    ----------
    coreset_ratio : float, default=0.1
        Share of the normal patches that the bank keeps.
    bank_size : int or None, default=None
        Number of patches that the bank keeps, instead of a share.
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
    """

    coreset_ratio: float = 0.1
    bank_size: int | None = None
    projection_eps: float | None = 0.9
    neighborhood: int = 3
    random_state: Seed = None

    _honesty = "leave one out"
    _resnet_layers = ("layer2", "layer3")
    _exports = True
    # Whether the anomaly of a patch is its distance to the nearest entry, and every
    # training patch may become one: then an entry that is near bounds the anomaly.
    _bounded = True
    # Whether parts of the pictures can be thinned out one by one.
    _in_parts = True
    _parameter_constraints = {
        "coreset_ratio": [Interval(Real, 0, 1, closed="right")],
        "bank_size": [Interval(Integral, 1, None, closed="left"), None],
        "projection_eps": [Interval(Real, 0, 1, closed="neither"), None],
        "neighborhood": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    # ----------------------------------------------------------------------- learning

    def _fit(self, X, y):
        self._fit_embedding(X)
        training = TrainingPatches(self, X, self._features)
        owners = owners_of(X).to(training.device)
        honest = self._leaves_out(owners)
        near = self._build(training, owners, generator(self.random_state), honest)
        if near is None:
            return self._of_training(training, owners, honest)
        own = owners if honest else None
        return self._training_anomaly(training.all(), near, own)

    def _fit_blocks(self, blocks):
        if not self._in_parts:
            return super()._fit_blocks(blocks)
        self._fit_embedding(blocks.head)
        grid = TrainingPatches(self, blocks.head, self._features).grid
        size = self._size(blocks.shape[0] * math.prod(grid))
        random = generator(self.random_state)
        seeds = [random.randint(2**31 - 1) for _ in range(len(blocks))]
        left = blocks.map(_core_set, seeds, blocks.starts)
        entries = tuple(torch.cat(parts) for parts in zip(*left, strict=True))
        self._set_bank(*self._thin(entries, size, random))
        honest = self._leaves_out(torch.arange(blocks.shape[0]))
        found = blocks.map(_block_anomaly, blocks.starts, [honest] * len(blocks))
        return torch.cat(found)

    def _build(self, training, owners, random, honest):
        """Fill the bank from the training patches of pictures with `owners` (n,).

        Returns
        -------
        near : tensor of shape (n gh gw,) or None
            An entry near each training patch, -1 where there is none, of another
            picture with `honest`; None where that does not bound the anomaly.
        """
        size = self._size(training.n_pictures * math.prod(training.grid))
        if not training.kept and self._in_parts:
            entries = self._merge(training, owners, random)
            self._set_bank(*self._thin(entries, size, random))
            return None
        entries = self._candidates(training.all(), owners, random)
        if not self._bounded:
            self._set_bank(*self._thin(entries, size, random))
            return None
        groups = entries[1] if honest else None
        chosen = self._choose(entries[0], size, random, groups)
        self._set_bank(*(part[chosen.picks] for part in entries))
        if not self._uses_bounds():
            return None
        return chosen.other if honest else chosen.owner

    def _uses_bounds(self):
        """Tell whether entries near patches spare looking at most of them."""
        return self.pooling == "max"

    def _features(self, x):
        """Return the features (b, gh, gw, d) of the patches of pictures."""
        return self.embedding_.embed(x)

    def _candidates(self, features, owners, random):
        """Return what may enter the bank: patches (m, d), their pictures (m,), ...

        Parameters
        ----------
        features : tensor of shape (n, gh, gw, d)
            Training patches, of all pictures or of a part of them.
        owners : tensor of shape (n,)
            The pictures.
        random : RandomState
            Draws what a method draws for it.
        """
        n_places = math.prod(features.shape[1:3])
        return features.flatten(0, 2), owners.repeat_interleave(n_places)

    def _set_bank(self, bank, owners):
        """Keep the chosen ones of what `_candidates` returns."""
        self.bank_, self.owners_ = bank.contiguous(), owners
        self._squares_ = bank.square().sum(1)

    def _size(self, n_patches):
        """Return how many of so many patches are kept."""
        return self.bank_size or max(1, round(self.coreset_ratio * n_patches))

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

    def _thin(self, entries, size, random):
        """Return the core-set of `size` among what `_candidates` returns."""
        if size >= len(entries[0]):
            return entries
        picks = self._choose(entries[0], size, random).picks
        return tuple(part[picks] for part in entries)

    def _merge(self, training, owners, random):
        """Return what is left of all candidates when parts are thinned out one by one.

        `owners` (n,) are the pictures.
        """
        left, batch, most = [], [], get_config()["working_memory"] * 2**18
        n_bytes = start = first = 0
        for features in training:
            batch.append(features)
            n_bytes += features.nbytes
            start += len(features)
            if n_bytes > most or start == training.n_pictures:
                part = torch.cat(batch)  # (b, gh, gw, d)
                own = owners[first:start].to(part.device)
                entries = self._candidates(part, own, random)
                size = self._size(math.prod(part.shape[:3]))
                left.append(self._thin(entries, size, random))
                batch, n_bytes, first = [], 0, start
        return tuple(torch.cat(parts) for parts in zip(*left, strict=True))

    # ----------------------------------------------------- scores of training pictures

    def _training_anomaly(self, features, near, owners=None):
        """Return the anomaly (n,) of training pictures with patches (n, gh, gw, d).

        The distance to the patch of the bank that was nearest in the projection is
        never less than that to the nearest: not every patch has to be searched.

        Parameters
        ----------
        features : tensor of shape (n, gh, gw, d)
            The patches.
        near : tensor of shape (n gh gw,)
            As `_build` returns them.
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
        found = self._from_bounds(features, bounds, owners)
        return found[found.isfinite()]  # the others put in all of the bank

    def _from_bounds(self, features, bounds, owners):
        """Return the anomaly (n,), of maps the largest pixel, from bounds of patches.

        Parameters
        ----------
        features : tensor of shape (n, gh, gw, d)
            The patches.
        bounds : tensor of shape (n, gh, gw)
            At least the distance of each.
        owners : tensor of shape (n,) or None
            The pictures whose own patches are left out.
        """
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
        found, _ = nearest(queries, self.bank_, self._squares_, own, self.owners_)
        return found[:, 0]

    # ------------------------------------------------------------------------- scoring

    def _known_bank(self, like):
        """Return the bank and its squared lengths in a tensor's dtype and place."""
        kind = {"dtype": like.dtype, "device": like.device}
        return self.bank_.to(**kind), self._squares_.to(**kind)

    def _search(self, features, own=None):
        """Return distances (b, gh, gw) to the bank and indices of the neighbours.

        `own` (b,) are the pictures whose own patches are left out.
        """
        if own is not None:
            own = own.repeat_interleave(math.prod(features.shape[1:3]))
        bank = self._known_bank(features)
        found = nearest(features.flatten(0, 2), *bank, own, self.owners_)
        return tuple(each.reshape(features.shape[:3]) for each in found)

    def _weighed(self, distances, indices):
        """Return the anomaly (b, gh, gw) of patches from what `_search` returns."""
        return distances

    def _picture(self, patches, features, indices, own=None, maps=None):
        """Return the anomaly (b,) of pictures from that (b, gh, gw) of their patches.

        `maps` (b, h, w) are those of the patches, where they are there already.
        """
        return self._pool(patches) if maps is None else self._summary(maps)

    def _found(self, features, own=None):
        """Return the anomaly (b, gh, gw) of patches, and their neighbours."""
        distances, indices = self._search(features, own)
        return self._weighed(distances, indices), indices

    def _known(self, features):
        patches, indices = self._found(features)
        return self._picture(patches, features, indices)

    def _left_out(self, features, own):
        patches, indices = self._found(features, own)
        found = self._picture(patches, features, indices, own)
        return found[found.isfinite()]  # the others put in all of the bank

    def _anomaly(self, X):
        with torch.no_grad():
            return self._known(self._features(as_tensor(X)))

    def _inspect(self, X):
        with torch.no_grad():
            features = self._features(as_tensor(X))
            patches, indices = self._found(features)
            maps = self._upsampled(patches)
            anomaly = self._picture(patches, features, indices, maps=maps)
            return anomaly, self._as_map(maps)

    def _patches(self, x):
        return self._found(self._features(x))[0]

    def _graph(self, x):
        # the search goes through the bank in blocks, whose number a model cannot have
        features = self._features(x)
        bank, squares = self._known_bank(features)
        indices = (squares - 2 * features @ bank.T).argmin(-1)  # (b, gh, gw)
        distances = (features - bank[indices]).square().sum(-1).sqrt()
        patches = self._weighed(distances, indices)
        maps = self._upsampled(patches)
        return self._picture(patches, features, indices, maps=maps), maps

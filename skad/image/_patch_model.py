"""What detectors share that learn one model from the patches of all pictures."""

from numbers import Integral, Real

import numpy as np
import torch
from sklearn.base import clone

from skad._array import to_numpy
from skad._members import anomaly_of
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.base import BaseDetector
from skad.embedding import RawPatches
from skad.image._base import (
    BackboneDetector,
    ImageDetector,
    TrainingPatches,
    owners_of,
)
from skad.image._cross_fitted import CrossFittedMixin
from skad.image._layers import LayersMixin


def drawn(n, most, random):
    """Return the numbers, in order, of at most `most` of n patches; None is all."""
    if most is None or most >= n:
        return np.arange(n)
    return np.sort(random.permutation(n)[:most])


def picked(features, chosen, start):
    """Return the features (m, d) of chosen patches among a batch (b, gh, gw, d).

    Parameters
    ----------
    features : tensor of shape (b, gh, gw, d)
        The batch.
    chosen : ndarray of int
        Numbers of patches, in order, over all batches.
    start : int
        Number of the first patch of the batch.
    """
    first, last = np.searchsorted(chosen, [start, start + features[..., 0].numel()])
    own = torch.as_tensor(chosen[first:last] - start, device=features.device)
    return features.flatten(0, 2)[own]


@with_parameters
class PatchModel(CrossFittedMixin, LayersMixin, ImageDetector):
    """Base of detectors that learn from patches drawn from all pictures.

    A method states its embedding (`_made_embedding`), what is learned from the patches
    of some pictures (`_fit_members`), and the anomaly of patches by their features
    (`_anomaly_of_patches`). Copies that learn without a part of the pictures set the
    threshold; the embedding sees pictures once.

    Parameters
    ----------
    max_patches : int or None, default=20000
        Patches, drawn at random, that one model of all places learns from; None is all.
    random_state : int, RandomState instance or None, default=None
        Draws the patches, and seeds what learns from them. Pass an int for reproducible
        results.
    """

    max_patches: int | None = 20000
    random_state: Seed = None

    _parameter_constraints = {
        "max_patches": [Interval(Integral, 2, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    def _made_embedding(self):
        """Return what describes patches, unfitted."""
        raise NotImplementedError

    def _tells_layers(self):
        """Tell whether the layers of the embedding are modelled apart."""
        return False

    def _draw(self, random):
        """Draw what all copies share, when the shape of pictures is known."""

    def _fit_members(self, training, pictures, random):
        """Set what is learned from the patches of some pictures, given by number."""
        raise NotImplementedError

    def _anomaly_of_patches(self, features):
        """Return the anomaly (b, gh, gw) of patches (b, gh, gw, d)."""
        raise NotImplementedError

    def _fit(self, X, y):
        self.embedding_ = clone(self._made_embedding()).set_params(
            image_shape=self.image_shape, device=self.device_
        )
        self.embedding_.fit(X)
        self.embedding_._keep_dtype(self._are_rows_)
        self._widths_ = None if self._tells_layers() else ()
        random = generator(self.random_state)
        self._draw(random)
        training = TrainingPatches(self, X, self._measured)
        owners = owners_of(X)
        honest = self._leaves_out(owners)
        self._fit_members(training, np.arange(training.n_pictures), random)
        if honest:
            return self._cross_fitted(training, owners.numpy(), random)
        return self._of_training(training, owners, False)

    def _drawn(self, training, pictures, random):
        """Return features (m, d) of at most `max_patches` patches and their places."""
        n_places = training.grid[0] * training.grid[1]
        chosen = drawn(n_places * len(pictures), self.max_patches, random)
        parts, start = [], 0
        for features in training.of(pictures):
            parts.append(picked(features, chosen, start))
            start += len(features) * n_places
        return torch.cat(parts), torch.as_tensor(chosen % n_places)

    def _as_input(self, rows, detector):
        """Return rows as `detector` takes them: NumPy arrays on the host."""
        on_gpu = rows.device.type != "cpu" and isinstance(detector, BaseDetector)
        return rows if on_gpu else to_numpy(rows)

    def _anomaly_of(self, rows, member):
        return torch.as_tensor(anomaly_of(member, self._as_input(rows, member)))

    def _patches(self, x):
        return self._anomaly_of_patches(self._measured(x))

    def _known(self, features):
        return self._pool(self._anomaly_of_patches(features))


@with_parameters
class BackboneModel(PatchModel, BackboneDetector):
    """Base of those that name a backbone and its layers themselves."""

    def _made_embedding(self):
        return self._own_embedding() if self.embedding is None else self._given()


@with_parameters
class PyramidModel(PatchModel):
    """Base of those that look at pixels of patches, on the levels of a pyramid.

    Parameters
    ----------
    patch_size : int, default=7
        Side of a patch in pixels, on every level.
    stride : int, default=4
        From one patch to the next, at most `patch_size`.
    n_levels : int, default=4
        Levels of the pyramid, each half as large as the one before.
    min_deviation : float, default=0.01
        Deviation of noise of each pixel that the model allows for, above 0; pictures
        are in 0..1.
    """

    patch_size: int = 7
    stride: int = 4
    n_levels: int = 4
    min_deviation: float = 0.01

    # Whether the mean of a patch is taken off.
    _center = False
    _parameter_constraints = {
        "patch_size": [Interval(Integral, 1, None, closed="left")],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "n_levels": [Interval(Integral, 1, None, closed="left")],
        "min_deviation": [Interval(Real, 0, None, closed="neither")],
    }

    def _made_embedding(self):
        return RawPatches(
            self.patch_size,
            self.stride,
            center=self._center,
            n_levels=self.n_levels,
            batch_size=self.batch_size,
        )

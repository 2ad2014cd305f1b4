"""SPADE: distance to the pixels of the normal pictures that are most alike."""

import math
from numbers import Integral
from typing import Any

import torch

from skad._parameters import absent, with_parameters
from skad._sklearn import Interval
from skad.embedding._taps import join_maps
from skad.image._base import BackboneDetector, as_tensor, owners_of
from skad.image.memory._search import mask_own, nearest


@with_parameters
class SPADE(BackboneDetector):
    r"""Pictures unlike the normal pictures nearest to them, as a whole and in places.

    A backbone describes a picture as a whole by :math:`f`, the mean over places of its
    deepest layer, and each place :math:`p` by the features :math:`F(p)` of all layers.
    With the :math:`K` normal pictures :math:`N_K(y)` nearest to a picture :math:`y`,
    the anomaly of the picture is

    .. math:: d(y) = \frac{1}{K} \sum_{y' \in N_K(y)} \lVert f(y') - f(y) \rVert^2,

    and the map the squared distance :math:`\lVert F(y, p) - F(y', p') \rVert^2` of each
    place to the nearest place of those pictures, interpolated to the pixels of the
    picture and smoothed. Score and map are two answers: the score is not a summary of
    the map.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    n_pictures : int, default=50
        :math:`K`; all of the training pictures where there are fewer.
    layers : tuple of str or None, default=None
        Names of the layers whose output describes a patch; None is the first three of a
        ResNet, and all of the bank of filters.

    Attributes
    ----------
    embedding_ : PatchEmbedding
        What describes pictures and places.
    pictures_ : tensor of shape (n_samples, n_channels)
        :math:`f` of the training pictures.
    maps_ : list of tensor of shape (n_samples, c, h, w)
        The layers' maps of the training pictures.
    owners_ : tensor of shape (n_samples,)
        Number of the picture that each of them is, or is a tile of.

    See Also
    --------
    PatchCore : One thinned out memory for all pictures.

    Notes
    -----
    All maps of the training pictures are kept, and the map of a picture costs
    :math:`O(K p^2 d)` for p places and d features: hundreds of times more than
    `PatchCore`. The paper's whole-picture features come from the layer before the
    classifier; here they come from the deepest of `layers`. The paper takes the mean of
    the kappa nearest places and sets kappa to one, as here. A training picture is among
    its own neighbours, except for the threshold of ``contamination="auto"``: there it
    is not, and of one picture, which has no other, its own score is the threshold.

    References
    ----------
    .. [1] N. Cohen and Y. Hoshen, "Sub-image anomaly detection with deep pyramid
       correspondences", 2020, equations (1) to (3).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import SPADE
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(8, 32, 32))
    >>> bad = good[:1].copy()
    >>> bad[0, 8:12, 20:24] = 1.0
    >>> detector = SPADE(n_pictures=3, smoothing=1).fit(good)
    >>> detector.predict(bad)
    array([-1])
    >>> row, column = np.unravel_index(detector.transform(bad)[0].argmax(), (32, 32))
    >>> bool(7 <= row <= 12 and 19 <= column <= 24)
    True
    """

    n_pictures: int = 50
    # the score is of the picture as a whole, and none of its map
    pooling: Any = absent()
    quantile: Any = absent()

    _honesty = "leave one out"
    _exports = True
    _parameter_constraints = {
        "n_pictures": [Interval(Integral, 1, None, closed="left")],
    }

    def _fit(self, X, y):
        self._fit_embedding(X)
        pictures = []
        for rows in self._batches(X.shape[0]):
            found = self.embedding_.feature_maps(as_tensor(X[rows]))
            if rows.start == 0:
                self.maps_ = [
                    layer.new_empty((X.shape[0], *layer.shape[1:])) for layer in found
                ]
            for whole, layer in zip(self.maps_, found, strict=True):
                whole[rows] = layer
            pictures.append(self._whole(found))
        self.pictures_, self.owners_ = torch.cat(pictures), owners_of(X)
        honest = self._leaves_out(self.owners_)
        parts = self.pictures_.split(self._block_rows(self.device_))
        return self._of_training(parts, self.owners_, honest)

    def _whole(self, maps):
        """Return the description (b, c) of whole pictures."""
        return maps[-1].mean((2, 3))

    def _neighbours(self, whole, own=None):
        """Return squared distances (b, K) to pictures, and their indices.

        `own` (b,) are pictures that are left out; where fewer than K are left, the
        distances to the others are infinite.
        """
        known = self.pictures_.to(whole)
        k = min(self.n_pictures, len(known))
        distances = (whole[:, None] - known[None]).square().sum(2)
        if own is not None:
            mask_own(distances, own, self.owners_)
        return distances.topk(k, dim=1, largest=False)

    def _known(self, whole):
        return self._neighbours(whole)[0].mean(1)

    def _left_out(self, whole, own):
        distances = self._neighbours(whole, own)[0]
        distances = distances.masked_fill(distances == math.inf, math.nan)
        return distances.nanmean(1)

    def _anomaly(self, X):
        with torch.no_grad():
            maps = self.embedding_.feature_maps(as_tensor(X))
            return self._known(self._whole(maps))

    def _patches(self, x):
        maps = self.embedding_.feature_maps(x)
        return self._places(maps, self._neighbours(self._whole(maps))[1])

    def _inspect(self, X):
        with torch.no_grad():
            maps = self.embedding_.feature_maps(as_tensor(X))
            distances, alike = self._neighbours(self._whole(maps))
            found = self._upsampled(self._places(maps, alike))
            return distances.mean(1), self._as_map(found)

    def _places(self, maps, neighbours):
        """Return squared distances (b, gh, gw) to places of the neighbours (b, K)."""
        places = join_maps(maps)  # (b, gh, gw, d)
        found = places.new_empty(places.shape[:3])
        for i, own in enumerate(neighbours):
            own = own.to(self.pictures_.device)
            alike = join_maps([layer[own].to(places) for layer in self.maps_])
            bank = alike.flatten(0, 2)
            distances, _ = nearest(places[i].flatten(0, 1), bank, bank.square().sum(1))
            found[i] = distances[:, 0].square().reshape(found.shape[1:])
        return found

    def _graph(self, x):
        # the loop over pictures, all at once
        maps = self.embedding_.feature_maps(x)
        distances, alike = self._neighbours(self._whole(maps))
        places = join_maps(maps)  # (b, gh, gw, d)
        known = join_maps([layer.to(places) for layer in self.maps_]).flatten(1, 2)
        bank = known[alike].flatten(1, 2)  # (b, K p, d)
        rows = places.flatten(1, 2)
        near = (bank.square().sum(2)[:, None] - 2 * rows @ bank.mT).argmin(2)  # (b, p)
        near = bank.gather(1, near[..., None].expand(-1, -1, bank.shape[2]))
        found = (rows - near).square().sum(2).unflatten(1, places.shape[1:3])
        return distances.mean(1), self._upsampled(found)

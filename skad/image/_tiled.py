"""Large pictures, tile by tile."""

from collections.abc import Sequence
from itertools import product
from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn import config_context

from skad._array import is_torch, like, namespace, on_device, to_numpy
from skad._limits import limit_of_seen
from skad._members import fit_within, seeded_clone
from skad._parameters import KW_ONLY, with_parameters
from skad._picture_input import Pictures, check_pictures
from skad._random import Seed, generator
from skad._sklearn import HasMethods, Interval
from skad.base import BaseDetector
from skad.image._base import ImageDetector
from skad.image.memory._patchcore import PatchCore

# Pictures are cut one by one, and together only where they are smaller than this.
_PICTURE_ELEMENTS = 2**18


def starts(length, tile, overlap):
    """Return where tiles begin along an axis; the last one ends where the axis ends."""
    return [*range(0, length - tile, tile - overlap), length - tile]


def ramp(tile, overlap):
    """Return the weights (tile,) of a tile's places, which fall towards its borders."""
    places = np.arange(tile)
    return np.minimum(np.minimum(places, places[::-1]) + 1.0, overlap + 1.0)


class Tiles(Pictures):
    """The tiles of pictures, one after the other, cut when they are asked for.

    Parameters
    ----------
    pictures : ndarray, tensor or Pictures of shape (n, h, w, c)
        The pictures.
    size : tuple of int
        (height, width) of a tile.
    overlap : int
        Pixels that neighbours share at least.
    """

    def __init__(self, pictures, size, overlap):
        self.pictures, self.size, self.overlap = pictures, size, overlap
        self.corners = list(
            product(
                starts(pictures.shape[1], size[0], overlap),
                starts(pictures.shape[2], size[1], overlap),
            )
        )
        n_tiles = pictures.shape[0] * len(self.corners)
        self.shape = (n_tiles, *size, pictures.shape[3])
        self.dtype = np.dtype(str(pictures.dtype).removeprefix("torch."))
        self._last = None, None

    def __getitem__(self, rows):
        """Return the tiles of a slice or of indices, (b, h, w, c)."""
        tiles = [self._cut(i) for i in np.arange(len(self))[rows]]
        return namespace(tiles[0]).stack(tiles)

    def _cut(self, i):
        which, corner = divmod(int(i), len(self.corners))
        if self._last[0] != which:  # tiles of one picture come one after the other
            self._last = which, self.pictures[which : which + 1][0]
        top, left = self.corners[corner]
        height, width = self.size
        return self._last[1][top : top + height, left : left + width]

    @property
    def owners(self):
        """The picture (n,) that each tile is a part of."""
        return torch.arange(len(self.pictures)).repeat_interleave(len(self.corners))

    def to(self, device):
        """Return the same tiles, cut from pictures that are read to another device."""
        return Tiles(on_device(self.pictures, device), self.size, self.overlap)


@with_parameters(kw_only=False)
class TiledDetector(BaseDetector):
    r"""Large pictures with a tile that a detector on pictures finds anomalous.

    Pictures are cut into tiles that overlap. The detector learns from the tiles of the
    normal pictures; the anomaly of a picture is that of its most anomalous tile,

    .. math:: a(x) = \max_t a(x_t),

    and the map puts the tiles' maps together, where they overlap as an average whose
    weights fall towards the borders of a tile. One picture is held at a time.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    detector : detector or None, default=None
        Any detector on pictures; is cloned. None is ``PatchCore()``.
    tile : int or tuple of int, default=256
        Side, or (height, width), of a tile in pixels; smaller pictures are one tile.
    overlap : int, default=32
        Pixels that neighbouring tiles share at least, less than `tile`.
    image_shape : tuple of int or None, default=None
        (height, width) or (height, width, channels) of pictures that come as rows.
    random_state : int, RandomState instance or None, default=None
        Seeds the detector. Pass an int for reproducible results.

    Attributes
    ----------
    detector_ : detector
        The detector, fitted on tiles.
    tile_ : tuple of int
        (height, width) of a tile.
    image_shape_ : tuple of int
        (height, width, channels) of pictures.
    n_features_in_ : int
        Number of elements of a picture.

    See Also
    --------
    PatchCore : A detector that does not care where in a picture a tile was.
    skad.embedding.PatchEmbedding : Its `image_size` makes pictures smaller instead.

    Notes
    -----
    A tile is described without its surroundings, so that maps differ from those of
    whole pictures near the borders of tiles: let `overlap` be as wide as what a patch
    of the detector's backbone sees. The threshold comes from the detector's scores of
    the training tiles, without what all tiles of the same picture put in
    (``contamination="auto"``; `PaDiM` leaves single tiles out); the detector's own
    `contamination` is not used. A detector with a model for each place, such as
    PaDiM, learns one tile's layout for all tiles. The cost is the detector's for every
    tile.

    References
    ----------
    .. [1] S. Akcay et al., "Anomalib: a deep learning library for anomaly detection",
       ICIP, 2022 (tiles of large pictures).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.image import PatchCore, TiledDetector
    >>> rng = np.random.default_rng(0)
    >>> good = rng.normal(0.5, 0.02, size=(2, 100, 150))
    >>> bad = good[:1].copy()
    >>> bad[0, 80:84, 40:44] = 1.0
    >>> detector = TiledDetector(PatchCore(smoothing=1), tile=64, random_state=0)
    >>> detector.fit(good).predict(bad)
    array([-1])
    >>> detector.transform(bad).shape
    (1, 100, 150)
    """

    detector: Any = None
    _: KW_ONLY
    tile: int | Sequence[int] = 256
    overlap: int = 32
    image_shape: Sequence[int] | None = None
    random_state: Seed = None

    _honesty = "its members'"
    _data = "pictures"
    _parameter_constraints = {
        "detector": [HasMethods(["fit", "score_samples", "transform"]), None],
        "tile": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "overlap": [Interval(Integral, 0, None, closed="left")],
        "image_shape": [tuple, list, None],
        "random_state": ["random_state"],
    }

    def _validate(self, X, *, reset):
        return check_pictures(self, X, reset=reset)

    def _sides(self):
        return (self.tile,) * 2 if isinstance(self.tile, Integral) else self.tile

    def _check_parameters(self, X):
        sides = self._sides()
        if len(sides) != 2 or min(sides) <= self.overlap:
            raise ValueError(
                f"tile={self.tile} must be one side or (height, width), larger than "
                f"overlap={self.overlap}."
            )

    def _block_rows(self, device):
        return max(1, _PICTURE_ELEMENTS // self.n_features_in_)

    def _fit(self, X, y):
        pairs = zip(self._sides(), X.shape[1:3], strict=True)
        self.tile_ = tuple(int(min(side, length)) for side, length in pairs)
        detector = PatchCore() if self.detector is None else self.detector
        detector = seeded_clone(detector, generator(self.random_state))
        if isinstance(detector, ImageDetector):
            # its scores set the threshold here, and are those that it needs for its own
            detector.set_params(contamination=self.contamination)
        tiles = self._tiles(X)
        context = self._subtask("fit detector")
        self.detector_ = fit_within(context, self, detector, tiles, None)
        found = vars(self.detector_).pop("_threshold_anomaly_", None)
        seen = vars(self.detector_).pop("_learned_anomaly_", None)
        if seen is not None:
            self._seen_worst_ = self._worst(seen, tiles)
        return None if found is None else self._worst(to_numpy(found), tiles)

    def _honest_anomaly(self, X, y, anomaly, **params):
        # None where the detector does not leave out all tiles of a picture
        if anomaly is None:
            return super()._honest_anomaly(X, y, anomaly, **params)
        return anomaly

    def _least_limit(self):
        seen = vars(self).pop("_seen_worst_", None)
        if seen is None:
            return super()._least_limit()
        return limit_of_seen(seen, self.false_alarm_rate)

    def _tiles(self, X):
        return Tiles(X, self.tile_, min(self.overlap, min(self.tile_) - 1))

    def _worst(self, anomaly, tiles):
        """Return the anomaly (b,) of pictures from that of all of their tiles."""
        return anomaly.reshape(-1, len(tiles.corners)).max(1)

    def _anomaly(self, X):
        tiles = self._tiles(X)
        return self._worst(-self.detector_.score_samples(tiles), tiles)

    def _map(self, X):
        tiles = self._tiles(X)
        with config_context(transform_output="default"):
            maps = self.detector_.transform(tiles)
        return self._together(maps, tiles, X)

    def _inspect(self, X):
        if not hasattr(self.detector_, "inspect"):
            return super()._inspect(X)
        tiles = self._tiles(X)
        found = self.detector_.inspect(tiles)
        return self._worst(-found.scores, tiles), self._together(found.maps, tiles, X)

    def _together(self, maps, tiles, X):
        """Return maps of pictures `X` from those of their tiles."""
        maps = maps.reshape(-1, len(tiles.corners), *self.tile_)
        weights = np.multiply.outer(*(ramp(side, tiles.overlap) for side in self.tile_))
        whole, total = np.zeros(tuple(X.shape[:3])), np.zeros(tuple(X.shape[1:3]))
        for corner, (top, left) in enumerate(tiles.corners):
            place = slice(top, top + self.tile_[0]), slice(left, left + self.tile_[1])
            whole[(slice(None), *place)] += weights * maps[:, corner]
            total[place] += weights
        whole = like(whole / total, X) if is_torch(X) else whole / total
        return whole.reshape(X.shape[0], -1) if self._are_rows_ else whole

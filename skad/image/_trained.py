"""What detectors on pictures share that train a network on a backbone's features.

The backbone is frozen, so what it says of the training pictures is computed once: the
one loop trains on feature maps. They are kept where they fit in memory; `Maps` asks the
backbone again for each batch where they do not.
"""

import math
from typing import Any

import numpy as np
import torch
from sklearn import get_config

from skad._array import slices
from skad._parameters import absent, with_parameters
from skad._samples import Maps
from skad._training import TorchDetector
from skad.embedding._resnet import ResNet
from skad.image._base import BackboneDetector, as_tensor, owners_of
from skad.nn.network import Network

# Pictures of few pixels are scored together up to this many elements.
_SCORED_ELEMENTS = 2**14


def split_maps(samples, shapes):
    """Return the maps, a list of tensors (b, c, h, w), of samples (b, m).

    Parameters
    ----------
    samples : tensor of shape (b, m)
        Flat maps of all layers, one behind the other.
    shapes : list of tuple
        (c, h, w) of each layer.
    """
    parts = samples.split([math.prod(shape) for shape in shapes], dim=1)
    return [part.unflatten(1, shape) for part, shape in zip(parts, shapes, strict=True)]


@with_parameters
class TrainedImageDetector(BackboneDetector, TorchDetector):
    """Base of detectors on pictures that train a network on a frozen backbone.

    A method writes `_network(shapes)`, for layers with maps of those shapes (c, h, w),
    and where samples are not all the layers' maps, `_kind` or `_layers`. The network's
    `map` returns the anomaly (b, gh, gw) of patches, of any grid; it gets samples as
    `_describe` returns them (`split_maps` undoes the flattening).

    Parameters
    ----------
    batch_size : int, default=8
        Pictures of a training step, and that are scored together; bounds the memory.
    max_epochs : int, default=50
        Passes over the training pictures.
    amp : {"bf16", "fp16"} or None, default=None
        Lower precision of the backbone and of the training, for devices that have it.
    warm_start : bool, default=False
        Whether another `fit` goes on from the weights of the last one, with its
        backbone.

    Attributes
    ----------
    n_samples_seen_ : int
        Training pictures.
    """

    _costly = ("image_size",)
    _keeps_samples = True
    _exports = True
    # What samples are: "maps" of the frozen backbone's layers, "pictures" as it takes
    # them, "pixels" in 0..1 of the size of these, or some with a "+", maps last.
    _kind = "maps"

    # ---------------------------------------------------------------------- samples

    def _layers(self, x):
        """Return what a sample consists of, tensors (b, ...), of pictures (b, h, w, c).

        All of shape (b, c, h, w): what `_kind` says, unless a method says otherwise.
        """
        kinds = self._kind.split("+")
        pictures = [self.embedding_._resized(x)] if "pixels" in kinds else []
        if "pictures" in kinds:
            pictures.append(self.embedding_.network_input(x))
        maps = self.embedding_.feature_maps(x) if "maps" in kinds else []
        return [*pictures, *maps]

    def _describe(self, x):
        """Return the samples (b, m) of a tensor of pictures (b, h, w, c)."""
        return torch.cat([each.flatten(1) for each in self._layers(x)], 1)

    def _resnet_name(self):
        """Return the name of the backbone where it is one of our ResNets, else None."""
        backbone = self.embedding_.backbone_
        return backbone.name if isinstance(backbone, ResNet) else None

    def _sample_shape(self):
        return self._shapes_

    def _samples(self, X):
        """Return the samples of the training pictures: kept, or computed when asked."""
        # in the blocks that are scored, on whose size the rounding depends
        blocks = list(slices(len(X), self._block_rows(self.device_)))
        parts = iter(self._steps(blocks, "embed", len(blocks)))
        rows = next(parts)
        with torch.no_grad():
            layers = self._layers(as_tensor(X[rows]).float())
        # the first batch tells what samples are like
        self._shapes_ = [tuple(each.shape[1:]) for each in layers]
        first = torch.cat([each.flatten(1) for each in layers], 1)
        maps = Maps(X, self._describe, first)
        if maps.nbytes > get_config()["working_memory"] * 2**20:
            return maps
        kept = first.new_empty(maps.shape)
        kept[rows] = first
        for rows in parts:
            kept[rows] = maps[rows]
        return kept

    def _patches(self, x):
        return self.net_.map(self._describe(x))

    # --------------------------------------------------------------------- training

    def _fit_work(self, X):
        return self._whole_epochs(X) * super()._fit_work(X)

    def _wants_unit_scale(self):
        return False  # what the backbone makes of pictures has its own

    def _check_parameters(self, X):
        if self.patience is not None and X.shape[0] < 3:
            raise ValueError(
                f"patience={self.patience} needs 3 pictures at least, X has "
                f"{X.shape[0]}."
            )
        source = getattr(X, "source", X)
        if not hasattr(source, "max"):  # files and tiles
            return
        for rows in slices(len(source), max(1, 2**20 // math.prod(source.shape[1:]))):
            TorchDetector._check_parameters(self, source[rows])

    def _train(self, X, y, n_epochs=None):
        if not hasattr(self, "embedding_"):  # a warm start goes on with its own
            self._fit_embedding(X)
        self._n_tiles_ = len(X) // len(owners_of(X).unique())
        super()._train(X, y, n_epochs)

    def _open_checkpoint(self, X, labels):
        # what pictures are, wherever they are read to
        return super()._open_checkpoint(getattr(X, "source", X), labels)

    def _split(self, n, labels, n_before=None):
        # all tiles of a picture are held out, or none
        t = self._n_tiles_
        parts = super()._split(n // t, labels if t == 1 else None, n_before)
        if t == 1 or parts[0] is None:
            return parts
        return tuple((t * rows[:, None] + np.arange(t)).ravel() for rows in parts)

    # ---------------------------------------------------------------------- scoring

    def _held_out_anomaly(self, held):
        return self._kept_for_tiles(super()._held_out_anomaly(held))

    def _learned_anomaly(self, rows):
        # the samples are there: no picture is described twice
        return self._described_anomaly(rows)

    def _n_held(self, held):
        return len(held) // self._n_tiles_

    def _beside_few(self):
        seen = super()._beside_few()
        if self._n_tiles_ > 1:  # their pictures ask for it
            self._learned_anomaly_ = seen
        return seen

    def _seen_anomaly(self, X, anomaly):
        # samples are in float32: at a tie of float64 another picture would be flagged
        if anomaly is None and str(X.dtype).endswith("float32"):
            anomaly = self._described_anomaly(np.arange(len(X)))
        return super()._seen_anomaly(X, anomaly)

    def _block_rows(self, device):
        return max(self.batch_size, _SCORED_ELEMENTS // self.n_features_in_)

    def _sample_anomaly(self, network, x):
        return self._pool(network.map(x))

    def _anomaly(self, network, X):
        with torch.no_grad():
            return self._sample_anomaly(network, self._describe(as_tensor(X)))

    def _map(self, network, X):
        with torch.no_grad():
            found = network.map(self._describe(as_tensor(X)))
            return self._as_map(self._upsampled(found))

    def _inspect(self, network, X):
        with torch.no_grad():
            maps = self._upsampled(network.map(self._describe(as_tensor(X))))
            return self._summary(maps), self._as_map(maps)


class OwnScoreNetwork(Network):
    """A network that scores pictures itself, not by way of the map."""

    def both(self, x):
        """Return the anomaly (b, gh, gw) of places and that (b,) of pictures."""
        raise NotImplementedError

    def map(self, x):
        """Return the anomaly (b, gh, gw) of places."""
        return self.both(x)[0]

    def anomaly(self, x):
        """Return the anomaly (b,) of pictures."""
        return self.both(x)[1]


@with_parameters
class OwnScoreDetector(TrainedImageDetector):
    """Base of those whose network, an `OwnScoreNetwork`, scores pictures itself."""

    pooling: Any = absent()
    quantile: Any = absent()

    def _sample_anomaly(self, network, x):
        return network.anomaly(x)

    def _inspect(self, network, X):
        with torch.no_grad():
            patches, anomaly = network.both(self._describe(as_tensor(X)))
            return anomaly, self._as_map(self._upsampled(patches))

    def _graph(self, x):
        patches, anomaly = self.net_.both(self._describe(x))
        return anomaly, self._upsampled(patches)

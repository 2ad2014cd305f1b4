"""What detectors on pictures share that train a network on a backbone's features.

The backbone is frozen, so what it says of the training pictures is computed once: the
one loop trains on feature maps. They are kept where they fit in memory; `Maps` asks the
backbone again for each batch where they do not.
"""

import math
from numbers import Integral

import torch
from sklearn import get_config

from skad._array import is_torch, slices
from skad._parameters import with_parameters
from skad._samples import Maps
from skad._training import TorchDetector
from skad.embedding._resnet import ResNet
from skad.image._base import BackboneDetector, as_tensor

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
    and where samples are not all the layers' maps, `_describe` and `_shapes`. The
    network's `map` returns the anomaly (b, gh, gw) of patches, of any grid; it gets
    samples as `_describe` returns them (`split_maps` undoes the flattening).

    Parameters
    ----------
    batch_size : int, default=8
        Pictures of a training step, and that are scored together; bounds the memory.
    max_epochs : int, default=50
        Passes over the training pictures.
    patience : int or None, default=None
        Epochs without a better loss on held-out pictures after which training stops and
        the best weights are taken. None holds nothing out.
    validation_fraction : float, default=0.1
        Share of the pictures that `patience` holds out.
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

    _without = ("architecture", "hidden_sizes")

    # ---------------------------------------------------------------------- samples

    def _describe(self, x):
        """Return the samples (b, m) of a tensor of pictures (b, h, w, c)."""
        maps = self.embedding_.feature_maps(x)
        return torch.cat([each.flatten(1) for each in maps], 1)

    def _shapes(self, x):
        """Return the shapes (c, h, w) that `_describe` flattens, of one picture `x`."""
        return [tuple(each.shape[1:]) for each in self.embedding_.feature_maps(x)]

    def _resnet_name(self):
        """Return the name of the backbone where it is one of our ResNets, else None."""
        backbone = self.embedding_.backbone_
        return backbone.name if isinstance(backbone, ResNet) else None

    def _input_size(self):
        """Return the height and width of pictures as the backbone takes them."""
        size = self.image_size
        if size is None:
            return self.image_shape_[:2]
        return (size, size) if isinstance(size, Integral) else tuple(size)

    def _sample_shape(self):
        return self._shapes_

    def _samples(self, X):
        """Return the samples of the training pictures: kept, or computed when asked."""
        maps = Maps(X, self._describe)
        if maps.nbytes > get_config()["working_memory"] * 2**20:
            return maps
        kept = torch.empty(maps.shape, device=maps.device)
        for rows in self._batches(len(maps)):
            kept[rows] = maps[rows]
        return kept

    # --------------------------------------------------------------------- training

    def _fit_work(self, X):
        return self.max_epochs * super()._fit_work(X)

    def _check_parameters(self, X):
        if self.patience is not None and X.shape[0] < 3:
            raise ValueError(
                f"patience={self.patience} needs 3 pictures at least, X has "
                f"{X.shape[0]}."
            )
        source = X if is_torch(X) else X.source
        if not hasattr(source, "max"):  # files hold values in 0..1
            return
        for rows in slices(len(source), max(1, 2**20 // math.prod(source.shape[1:]))):
            TorchDetector._check_parameters(self, source[rows])

    def _train(self, X, y, n_epochs=None):
        if not hasattr(self, "embedding_"):  # a warm start goes on with its own
            self._fit_embedding(X)
            self._shapes_ = self._shapes(as_tensor(X[:1]))
        super()._train(X, y, n_epochs)

    def _open_checkpoint(self, X, labels):
        # what pictures are, wherever they are read to
        return super()._open_checkpoint(getattr(X, "source", X), labels)

    # ---------------------------------------------------------------------- scoring

    def _block_rows(self, device):
        return max(self.batch_size, _SCORED_ELEMENTS // self.n_features_in_)

    def _anomaly(self, network, X):
        with torch.no_grad():
            return self._pool(network.map(self._describe(as_tensor(X))))

    def _map(self, network, X):
        with torch.no_grad():
            maps = self._upsampled(network.map(self._describe(as_tensor(X))))
        return maps.flatten(1) if self._are_rows_ else maps

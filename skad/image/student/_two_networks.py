"""What detectors on pictures share that look through two frozen networks."""

from sklearn.base import clone

from skad._parameters import with_parameters
from skad.embedding import PatchEmbedding
from skad.image._trained import TrainedImageDetector

# The layers of our own backbones, the finest first.
_LAYERS = {
    "gabor": ("scale1", "scale2", "scale3", "scale4"),
    "resnet18": ("layer1", "layer2", "layer3", "layer4"),
}


@with_parameters
class TwoNetworksDetector(TrainedImageDetector):
    """Base of detectors that look through a second frozen network as well.

    Parameters
    ----------
    other : PatchEmbedding or None, default=None
        The second network, with as many layers as the first; is cloned. None is the
        bank of filters, or, where the first is that, a ResNet-18 with random weights.

    Attributes
    ----------
    other_ : PatchEmbedding
        The second network, fitted.
    """

    _parameter_constraints = {"other": [PatchEmbedding, None]}

    other: PatchEmbedding | None = None

    def _fit_embedding(self, X):
        super()._fit_embedding(X)
        n, other = len(self.embedding_.layers_), self.other
        if other is None:
            name = "resnet18" if self.backbone == "gabor" else "gabor"
            weights = "random" if name == "resnet18" else None
            other = PatchEmbedding(
                name, _LAYERS[name][:n], weights=weights, image_size=self.image_size
            )
        shared = {"image_shape": self.image_shape, "device": self.device_}
        self.other_ = clone(other).set_params(**shared).fit(X)
        self.other_._keep_dtype(self._are_rows_)
        if len(self.other_.layers_) != n:
            raise ValueError(
                f"other has {len(self.other_.layers_)} layers and the backbone {n}: "
                "they are mapped to each other one by one."
            )

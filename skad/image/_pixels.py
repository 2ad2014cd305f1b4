"""What detectors on pictures share that train a network on pixels alone."""

from typing import Any

from skad._parameters import absent, with_parameters
from skad.embedding import RawPatches
from skad.image._trained import TrainedImageDetector


@with_parameters
class PixelDetector(TrainedImageDetector):
    """Base of detectors whose network sees pictures, and nothing that knows others.

    Samples are pictures (c, h, w) in 0..1 of `image_size`, flat; `_network` gets their
    shape as the only one of its list.

    Attributes
    ----------
    embedding_ : RawPatches
        What brings pictures to `image_size`.
    """

    # no network that has seen other pictures
    backbone: Any = absent()
    layers: Any = absent()
    weights: Any = absent()
    normalization: Any = absent()
    embedding: Any = absent()

    _kind = "pixels"

    def _fit_embedding(self, X):
        made = RawPatches(  # pixels, as they are
            *(1, 1),
            image_size=self.image_size,
            image_shape=self.image_shape,
            batch_size=self.batch_size,
            device=self.device_,
        )
        self.embedding_ = made.fit(X)
        self.embedding_._keep_dtype(self._are_rows_)

"""The base of networks for rows alone, whose layers pictures do not go through."""

from typing import Any

from skad._parameters import absent, with_parameters
from skad._training._shaped import ShapedDetector


@with_parameters
class RowNetworkDetector(ShapedDetector):
    """Base of networks that look at the single features of rows."""

    architecture: Any = absent()
    image_shape: Any = absent()

    _exports = False
    _without = ("image_shape_",)
    image_shape_ = None

    def _validate(self, X, *, reset):
        return super(ShapedDetector, self)._validate(X, reset=reset)

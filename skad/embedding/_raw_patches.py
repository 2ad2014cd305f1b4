"""From pictures to the pixels of their patches."""

from numbers import Integral

from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval
from skad.embedding._backbones import Backbone
from skad.embedding._gabor import smooth
from skad.embedding._pictures import PictureEmbedding


def cut(x, size, stride):
    """Return the squares (b, c, size^2, gh, gw) around the cells of pictures.

    Pixels beyond the border are those at the border.

    Parameters
    ----------
    x : tensor of shape (b, c, h, w)
        The pictures.
    size, stride : int
        Side of a square and of a cell of the grid, in pixels.
    """
    b, c, *shape = x.shape
    grid = [-(-n // stride) for n in shape]
    before = (size - stride) // 2
    after = [
        (cells - 1) * stride + size - n - before
        for cells, n in zip(grid, shape, strict=True)
    ]
    x = F.pad(x, (before, after[1], before, after[0]), mode="replicate")
    return F.unfold(x, size, stride=stride).view(b, c, size**2, *grid)


def check_overlap(size, stride, squares):
    """Raise where squares, of patches or of regions, would leave pixels out."""
    if stride > size:
        raise ValueError(
            f"stride={stride} must be at most size={size}, or pixels between "
            f"{squares} would not be seen."
        )


class Pixels(nn.Module):
    """Squares of pixels around the cells of a grid, as channels, level by level."""

    def __init__(self, size, stride, center, n_levels):
        super().__init__()
        self.size, self.stride, self.center = size, stride, center
        self.n_levels = n_levels

    def forward(self, x):
        """Return the maps (b, c size^2, gh, gw) of pictures, one for each level."""
        maps = []
        for level in range(self.n_levels):
            x = smooth(x)[:, :, ::2, ::2] if level else x
            patches = cut(x, self.size, self.stride)
            if self.center:
                patches = patches - patches.mean(2, keepdim=True)
            maps.append(patches.flatten(1, 2))
        return maps


@with_parameters(kw_only=False)
class RawPatches(PictureEmbedding):
    """Pixels of the patches of pictures.

    A patch is the square of pixels around a cell of a grid, and its features are the
    pixels, those of one channel after those of the other. Nothing is learned. Methods
    of texture look at pictures like this: with a `GMM`, `PCAReconstruction` or `KNN` on
    the patches, a `PatchDetector` says which of them are like no normal one.

    It stands wherever a `PatchEmbedding` does: ``embedding=`` of the detectors on
    pictures.

    Read more in the :ref:`User Guide <image>`.

    Parameters
    ----------
    size : int, default=15
        Side of a patch in pixels.
    stride : int, default=4
        Side of a cell of the grid in pixels, at most `size`: patches overlap.
    center : bool, default=True
        Whether the mean of a patch is taken off, in every channel.
    n_levels : int, default=1
        Levels of a Gaussian pyramid: patches of the picture, of the picture at half its
        size, and so on. Their features are side by side, at the grid of the first:
        those of coarser levels are repeated.

    Attributes
    ----------
    backbone_ : torch.nn.Module
        What cuts pictures (b, c, h, w) and returns a map for each level.
    layers_ : tuple of str
        ("pixels",), or a name for each level.

    See Also
    --------
    PatchEmbedding : Features of filters or of a trained network.

    Notes
    -----
    Beyond the border a picture goes on as it is at the border.

    Pixels see defects that stand out of a texture, and little else. On pictures of 128
    x 128 the area under the ROC curve of a `PatchDetector` with its default detector is
    0.88 on the cookies, 0.89 with patches of 7 x 7, below that of the distance to the
    mean picture (0.95) and of the built-in filters (0.92). On the magnetic tiles it is
    0.51, chance, where the filters have 0.76.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.embedding import RawPatches
    >>> pictures = np.zeros((2, 64, 100), np.uint8)
    >>> RawPatches(size=7).fit_transform(pictures).shape
    (2, 16, 25, 49)
    """

    size: int = 15
    stride: int = 4
    _: KW_ONLY
    center: bool = True
    n_levels: int = 1

    interpolation = "nearest"  # patches of a level stay as they are
    _parameter_constraints = {
        "size": [Interval(Integral, 1, None, closed="left")],
        "stride": [Interval(Integral, 1, None, closed="left")],
        "center": ["boolean"],
        "n_levels": [Interval(Integral, 1, None, closed="left")],
    }

    def _resolved(self):
        check_overlap(self.size, self.stride, "patches")
        pixels = Pixels(self.size, self.stride, self.center, self.n_levels)
        coarser = (f"pixels / {2**level}" for level in range(1, self.n_levels))
        return Backbone(pixels, ("pixels", *coarser))

"""Pictures that a network bends towards what is usual, and back.

Fields (b, 2, h, w) say for each pixel how far away it is read from: to the right and
down, in halves of the picture's side, so that a side is from -1 to 1, the middles of
the outer pixels.
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.nn.residual import Norm, convolution

# Pixels of a block, of which one coordinate is told, and the other within it.
_BLOCK = 4


def warped(x, field):
    """Return pictures (b, c, h, w) read from where a field says, within the border."""
    axes = [torch.linspace(-1, 1, n, dtype=x.dtype) for n in x.shape[2:]]
    down, right = torch.meshgrid(*axes, indexing="ij")
    places = torch.stack([right, down]).to(x.device) + field.to(x.dtype)
    places = places.expand(x.shape[0], -1, -1, -1).clamp(-1, 1)
    return F.grid_sample(x, places.permute(0, 2, 3, 1), align_corners=True)


def lengths(field):
    """Return the lengths (b, h, w) of the vectors of a field."""
    return torch.linalg.vector_norm(field, dim=1)


def roughness(field):
    """Return the mean distance of a field from the mean of the eight places around.

    Zeros are beyond the border.
    """
    weights = field.new_full((3, 3), -1 / 8)
    weights[1, 1] = 1
    return F.conv2d(field, weights.expand(2, 1, 3, 3), padding=1, groups=2).abs().mean()


def coordinates(size):
    """Return where pixels are (4, h, w), in -1..1: within blocks of 4, and the block.

    Of rows, then of columns; the place within is counted from that of the block.
    """
    found = []
    for axis, n in enumerate(size):
        place = torch.linspace(0, 1, n)
        block = torch.linspace(0, 1, max(1, n // _BLOCK))
        block = block[(torch.arange(n) // _BLOCK).clamp(max=len(block) - 1)]
        for each in (place - block, block):
            row = 2 * each - 1
            found.append(row[:, None].expand(size) if axis == 0 else row.expand(size))
    return torch.stack(found)


class _Placed(nn.Module):
    """A convolution that is told where its pixels are, its norm and a rectifier."""

    def __init__(self, into, out, size):
        super().__init__()
        self.register_buffer("places", coordinates(size))
        self.convolution = convolution(into + len(self.places), out)

    def forward(self, x):
        places = self.places.expand(x.shape[0], -1, -1, -1)
        return F.relu(self.convolution(torch.cat([x, places], 1)))


class Deformation(nn.Module):
    """Finds a coarse and a fine field that bend a picture, and those that bend it back.

    Parameters
    ----------
    n_channels : int
        Of pictures.
    size : tuple of int
        (h, w) of pictures.
    width : int, default=64
        Channels of the convolutions.
    shifts : pair of float, default=(1 / 32, 3 / 256)
        Largest shift along an axis of the coarse and of the fine field, as a share of
        the side.
    """

    def __init__(self, n_channels, size, width=64, shifts=(1 / 32, 3 / 256)):
        super().__init__()
        self.size, self.shifts = tuple(size), tuple(shifts)
        self.first = nn.Sequential(
            _Placed(n_channels, width, size), _Placed(width, width, size)
        )
        self.second = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            Norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
        )
        self.norm = Norm(width)
        # coarse and fine, there and back
        self.heads = nn.ModuleList(
            self._head(width, halvings) for halvings in (3, 1, 3, 1)
        )

    @staticmethod
    def _head(width, halvings):
        parts, into = [], 2 * width
        for _ in range(halvings):
            parts += [convolution(into, width, 3, (2, 2)), nn.ReLU()]
            into = width
        return nn.Sequential(*parts, nn.Conv2d(width, 2, 3, padding=1), nn.Tanh())

    def forward(self, x):
        """Return the four fields (b, 2, h, w): coarse, fine, and those back."""
        x = self.first(x)
        x = torch.cat([self.norm(x + self.second(x)), x], 1)
        return [
            F.interpolate(
                2 * shift * head(x), self.size, mode="bilinear", align_corners=True
            )
            for head, shift in zip(self.heads, 2 * self.shifts, strict=True)
        ]

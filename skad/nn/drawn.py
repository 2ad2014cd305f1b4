"""Drawn defects: ellipses, rectangles and lines of one colour."""

import math

import torch
from torch import nn

# The share of its length that a line is wide.
_THIN = 0.1


class DrawnShapes(nn.Module):
    """Draws spots, rectangles and lines over pictures, as one would by hand.

    Each is turned by any angle, its middle is any pixel and its colour any that
    pictures can have.

    Parameters
    ----------
    most : int, default=3
        Shapes of a picture: 1 to as many, each number as often.
    sizes : pair of float, default=(0.05, 0.3)
        Least and largest length and height, as shares of the picture's longer side. A
        line is a tenth as wide as it is long, and a pixel at least.
    """

    def __init__(self, most=3, sizes=(0.05, 0.3)):
        super().__init__()
        self.most, self.sizes = most, sizes

    def masks(self, b, size):
        """Draw the shapes (b, most, h, w) of pictures, of bool."""
        n = b, self.most
        rows, columns = (
            torch.arange(side) - torch.randint(side, n)[..., None] for side in size
        )
        low, high = (share * max(size) / 2 for share in self.sizes)
        along, across = low + (high - low) * torch.rand(2, *n)
        kind = torch.randint(3, n)
        across = torch.where(kind == 2, _THIN * along, across).clamp(min=0.5)
        along = along.clamp(min=0.5)
        angle = 2 * math.pi * torch.rand(n)
        cos, sin, along, across = (
            each[..., None, None] for each in (angle.cos(), angle.sin(), along, across)
        )
        rows, columns = rows[..., :, None], columns[..., None, :]  # (b, m, h, 1), ...
        down = (cos * rows + sin * columns) / along
        right = (cos * columns - sin * rows) / across
        round_ = down.square() + right.square() <= 1
        straight = (down.abs() <= 1) & (right.abs() <= 1)
        found = torch.where((kind == 0)[..., None, None], round_, straight)
        counts = torch.randint(1, self.most + 1, (b, 1))
        return found & (torch.arange(self.most) < counts)[..., None, None]

    def forward(self, x, low=0.0, high=1.0):
        """Return the altered pictures (b, c, h, w) and where they are, (b, h, w).

        `low` and `high`, numbers or tensors (c, 1, 1), are what colours are between.
        """
        masks = self.masks(len(x), tuple(x.shape[2:])).to(x.device)
        colours = torch.rand(self.most, *x.shape[:2], 1, 1).to(x)
        seen = x
        for mask, colour in zip(masks.unbind(1), colours, strict=True):
            seen = torch.where(mask[:, None], low + (high - low) * colour, seen)
        return seen, masks.any(1)

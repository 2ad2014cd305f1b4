"""Perlin noise, which draws the outlines of made anomalies."""

import math

import torch
from torch.nn import functional as F  # noqa: N812


def perlin(size, cells, angles):
    """Return Perlin noise (..., h, w), in -1..1.

    At every corner of a grid of cells stands a gradient; a place has the products of
    its way from the four corners around it with their gradients, faded between them by
    :math:`6 t^5 - 15 t^4 + 10 t^3`.

    Parameters
    ----------
    size : pair of int
        Height and width.
    cells : pair of int
        Rows and columns of cells.
    angles : tensor of shape (..., rows + 1, columns + 1)
        Directions of the gradients, in radians.
    """
    axes = [(torch.arange(n) + 0.5) / n * m for n, m in zip(size, cells, strict=True)]
    corners = [axis.floor().long() for axis in axes]
    y, x = axes[0] - corners[0], axes[1] - corners[1]
    across, along = angles.cos(), angles.sin()

    def product(down, right):
        rows, columns = corners[0] + down, corners[1] + right
        ways = (along, (y - down)[:, None]), (across, x - right)
        return sum(part[..., rows, :][..., columns] * way for part, way in ways)

    fade_y, fade_x = (t**3 * (t * (6 * t - 15) + 10) for t in (y, x))
    above = torch.lerp(product(0, 0), product(0, 1), fade_x)
    below = torch.lerp(product(1, 0), product(1, 1), fade_x)
    return math.sqrt(2) * torch.lerp(above, below, fade_y[:, None])


def rotated(noise, angles):
    """Return noise (n, h, w) turned about its middle by angles (n,), in radians.

    Values are those of the nearest place, and zero beyond the border.
    """
    h, w = noise.shape[1:]
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    # places are told from -1 to 1 along either side, whatever its length
    rows = [cosine, -sine * h / w, zero], [sine * w / h, cosine, zero]
    ways = torch.stack([torch.stack(row, 1) for row in rows], 1)  # (n, 2, 3)
    places = F.affine_grid(ways, (len(noise), 1, h, w), align_corners=False)
    return F.grid_sample(noise[:, None], places, "nearest", align_corners=False)[:, 0]


def perlin_masks(n, size, threshold, most=6, turned=False):
    """Draw masks (n, h, w) of places where Perlin noise exceeds a threshold.

    Cells divide a side by powers of two, by 1 up to :math:`2^{most}` and no more than
    the side has places, each power as often. Noise that is nowhere above the threshold
    is brought to -1..1 first. With `turned` it is then turned by up to a right angle in
    either direction, and there is nothing in the corners that this leaves. What is
    drawn is drawn on the host.
    """
    found = torch.zeros(n, *size, dtype=torch.bool)
    powers = [min(most, int(math.log2(side))) for side in size]
    drawn = torch.stack([torch.randint(p + 1, (n,)) for p in powers], 1)  # (n, 2)
    for some in drawn.unique(dim=0):  # those of equal cells together
        rows = (drawn == some).all(1).nonzero()[:, 0]
        cells = [2**power for power in some.tolist()]
        angles = torch.rand(len(rows), cells[0] + 1, cells[1] + 1)
        noise = perlin(size, cells, 2 * math.pi * angles)
        least, largest = noise.amin((1, 2), True), noise.amax((1, 2), True)
        spread = (largest - least).clamp(min=torch.finfo(noise.dtype).tiny)
        whole = 2 * (noise - least) / spread - 1
        above = torch.where(largest > threshold, noise, whole) > threshold
        if turned:
            angles = math.pi * (torch.rand(len(rows)) - 0.5)
            above = rotated(above.float(), angles) > 0.5
        found[rows] = above
    return found

"""Simplex noise: smooth, without a grid that shows."""

import torch

# A twelfth of directions each: from the centre of a cube to the middles of its edges.
_DIRECTIONS = torch.tensor(
    [
        *([1, 1, 0], [-1, 1, 0], [1, -1, 0], [-1, -1, 0]),
        *([1, 0, 1], [-1, 0, 1], [1, 0, -1], [-1, 0, -1]),
        *([0, 1, 1], [0, -1, 1], [0, 1, -1], [0, -1, -1]),
    ],
    dtype=torch.float32,
)
# Brings the largest values to about one.
_GAIN = 76.0


def simplex_noise(points, table):
    """Return simplex noise (...) in -1..1 at points (..., 3).

    Space is cut into tetrahedra; every corner has a direction, and the noise is the sum
    of the slopes of the four around a point, which fade with the distance (Perlin,
    "Noise hardware", 2001; Gustavson, "Simplex noise demystified", 2005). They fade out
    at half a unit squared, within the neighbouring tetrahedra: so it is smooth.

    Parameters
    ----------
    points : tensor of float, of shape (..., 3)
        Places.
    table : tensor of int, of shape (256,)
        A permutation, which says the corners' directions; it repeats beyond.
    """
    cell = (points + points.sum(-1, keepdim=True) / 3).floor()
    inside = points - cell + cell.sum(-1, keepdim=True) / 6
    # from corner to corner along the axes, the longest way first
    rank = inside.argsort(-1, descending=True).argsort(-1)
    total, directions = 0.0, _DIRECTIONS.to(points)
    for k in range(4):
        step = (rank < k).to(points.dtype)
        away = inside - step + k / 6
        found = 0
        for axis in (cell + step).long().unbind(-1):
            found = table[(axis + found) % 256]
        slope = (directions[found % 12] * away).sum(-1)
        total = total + (0.5 - away.square().sum(-1)).clamp(min=0) ** 4 * slope
    return _GAIN * total


def octaves(points, n=6, persistence=0.6, wavelength=32.0):
    """Return simplex noise of several wavelengths, each half as long and weaker.

    Parameters
    ----------
    points : tensor of float, of shape (..., 3)
        Places, in pixels.
    n : int, default=6
        Wavelengths.
    persistence : float, default=0.6
        Amplitude of each next one.
    wavelength : float, default=32.0
        The first one, in pixels.
    """
    table, total = torch.randperm(256), 0.0
    for i in range(n):
        total = total + persistence**i * simplex_noise(
            points * 2**i / wavelength, table
        )
    return total

"""From a coarse grid of patches to a smooth map on the picture's own pixels.

Bilinear interpolation and Gaussian smoothing are both linear along rows and along
columns, so both together are one small matrix from the left and one from the right,
whatever the width of the Gaussian.
"""

from functools import lru_cache

import numpy as np
import torch


def upsample(patches, size, sigma):
    """Return maps of shape (b, h, w) from the anomaly of patches (b, gh, gw).

    Parameters
    ----------
    patches : tensor of shape (b, gh, gw)
        Anomaly of each patch.
    size : tuple of int
        (h, w) of the map.
    sigma : pair of float
        Standard deviations of the Gaussian along both axes in pixels of the map; 0 does
        not smooth.
    """
    rows, columns = smoothers(patches, size, sigma)
    return rows @ patches @ columns.T


def smoothers(patches, size, sigma):
    """Return the matrices (h, gh) and (w, gw) that `upsample` multiplies by."""
    return tuple(
        torch.as_tensor(smoother(n, m, float(s)), dtype=patches.dtype).to(
            patches.device
        )
        for n, m, s in zip(patches.shape[1:], size, sigma, strict=True)
    )


@lru_cache(maxsize=64)
def smoother(n_in, n_out, sigma):
    """Return the matrix (n_out, n_in) that interpolates and smooths one axis."""
    matrix = interpolation_matrix(n_in, n_out)
    return gaussian_matrix(n_out, sigma) @ matrix if sigma else matrix


def interpolation_matrix(n_in, n_out):
    """Return the weights (n_out, n_in) of bilinear interpolation along one axis.

    Pixels have areas and the outer areas coincide (`align_corners=False` of torch).
    """
    centres = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    left = np.minimum(centres.astype(int), max(n_in - 2, 0))
    share = centres - left
    matrix = np.zeros((n_out, n_in))
    matrix[np.arange(n_out), left] = 1 - share
    matrix[np.arange(n_out), np.minimum(left + 1, n_in - 1)] += share
    return matrix


def gaussian_matrix(n, sigma, truncate=4.0):
    """Return the weights (n, n) of a Gaussian filter, mirrored at the borders.

    The same as `scipy.ndimage.gaussian_filter1d` with its default mode "reflect".
    """
    radius = int(truncate * sigma + 0.5)
    steps = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    kernel /= kernel.sum()
    places = np.arange(n)[:, None] + steps[None, :]
    folded = np.mod(places, 2 * n)  # mirrored as often as the kernel is longer than n
    folded = np.where(folded < n, folded, 2 * n - 1 - folded)
    matrix = np.zeros((n, n))
    np.add.at(matrix, (np.arange(n)[:, None], folded), kernel)
    return matrix

"""The batch algorithm of self-organising maps, for arrays and tensors."""

from numbers import Integral

import numpy as np

from skad._array import blocks, device_of, is_torch, like, namespace
from skad._distances import middle, squared_distances


def check_map_shape(shape):
    """Raise unless `map_shape` is the rows and columns of a map."""
    if len(shape) != 2 or not all(isinstance(n, Integral) and n > 0 for n in shape):
        raise ValueError(
            f"map_shape={shape} must be two numbers, rows and columns of the map, "
            "each at least 1."
        )


def batch_step(X, nodes, width, shape):
    r"""Return the nodes (k, d) after a step of the batch algorithm.

    .. math:: \mu_j = \frac{\sum_x h_{j b(x)} x}{\sum_x h_{j b(x)}}, \qquad
        h_{jl} = \exp \frac{-\delta_{jl}^2}{2 w^2},

    with the nearest node :math:`b(x)` of a row, the distance :math:`\delta` of two
    nodes on the map and the width w. Of width zero it is a step of k-means. Nodes
    without weight stay.
    """
    xp, k = namespace(X), len(nodes)
    count, total = sums_of_nodes(X, nearest_node(X, nodes), nodes)
    sums = xp.concat([count[:, None], total], axis=1).reshape(*shape, -1)
    # the kernel is one of rows times one of columns of the map
    for axis, n in enumerate(shape):
        squares = (np.arange(n)[:, None] - np.arange(n)) ** 2
        kernel = np.exp(-squares / (2 * width**2)) if width > 0 else np.eye(n)
        sums = xp.tensordot(like(kernel, X), sums, axes=([1], [axis]))
        sums = xp.moveaxis(sums, 0, axis)
    sums = sums.reshape(k, -1)
    weight = sums[:, :1]
    return xp.where(weight > 0, sums[:, 1:] / xp.where(weight > 0, weight, 1.0), nodes)


def sums_of_nodes(X, best, nodes):
    """Return how many rows (k,) are nearest to each node, and their sums (k, d)."""
    total = namespace(X).zeros_like(nodes)
    if is_torch(X):
        count = best.bincount(minlength=len(nodes)).to(X)
        return count, total.index_add_(0, best, X)
    np.add.at(total, best, X)
    return np.bincount(best, minlength=len(nodes)).astype(X.dtype), total


def nearest_node(X, nodes):
    """Return the number (n,) of the node nearest to each row."""
    xp, centre = namespace(X), middle(nodes)
    return xp.concat(
        [
            xp.argmin(squared_distances(X[rows], nodes, centre), axis=1)
            for rows in blocks(len(X), 2 * len(nodes), device_of(X))
        ]
    )

"""Trees that split by random planes: all grown together, all walked together.

Nodes are numbered as in a heap: those below node i are 2 i + 1 and 2 i + 2.
"""

from typing import NamedTuple

import numpy as np

from skad.ensemble._paths import average_path_length


class Planes(NamedTuple):
    """Trees of one depth, each with a plane in every node that splits."""

    normals: np.ndarray  # (t, m, d), m nodes that could split
    points: np.ndarray  # (t, m, d), one in each plane
    offsets: np.ndarray  # (t, m), normals times points
    splits: np.ndarray  # (t, m), which nodes do
    counts: np.ndarray  # (t, 2 m + 1), how many rows have reached each node
    depth: int

    def lengths(self):
        """Return the expected path lengths (t, 2 m + 1) of rows that end in nodes."""
        return node_depths(self.counts.shape[1]) + average_path_length(self.counts)


def node_depths(n_nodes):
    """Return how deep the nodes of a heap lie, of shape (n_nodes,)."""
    return np.log2(np.arange(1, n_nodes + 1)).astype(int)


def grown(X, drawn, n_features, random):
    """Return trees of rows, and in which nodes the rows have ended.

    Parameters
    ----------
    X : ndarray of shape (n, d)
        The rows.
    drawn : ndarray of shape (t, m)
        Which rows each tree is grown from.
    n_features : int
        Entries of a normal that are not zero.
    random : RandomState
        Draws the planes.

    Returns
    -------
    planes : Planes
    ends : ndarray of shape (t, m)
    """
    t, m = drawn.shape
    d, depth = X.shape[1], int(np.ceil(np.log2(max(m, 2))))
    n_inner = 2**depth - 1
    normals, points = np.zeros((2, t, n_inner, d))
    offsets, splits = np.zeros((t, n_inner)), np.zeros((t, n_inner), dtype=bool)
    counts = np.zeros((t, 2 * n_inner + 1), dtype=np.int64)
    rows, trees = X[drawn.ravel()], np.repeat(np.arange(t), m)
    here = np.zeros(t * m, dtype=np.int64)
    alive = np.arange(t * m)  # those whose node may split
    for level in range(depth + 1):
        first = 2**level - 1
        key = trees[alive] * 2**level + here[alive] - first
        number = np.bincount(key, minlength=t * 2**level)
        counts[:, first : first + 2**level] = number.reshape(t, 2**level)
        if level == depth or not len(alive):
            break
        order = np.argsort(key, kind="stable")
        alive, key = alive[order], key[order]
        starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
        own = rows[alive]
        lowest = np.minimum.reduceat(own, starts)
        size = np.maximum.reduceat(own, starts) - lowest
        splitting = size.any(axis=1)
        k = int(splitting.sum())
        tree, node = np.divmod(key[starts][splitting], 2**level)
        node += first
        normal = random.standard_normal((k, d))
        if n_features < d:
            zeros = random.random_sample((k, d)).argsort(axis=1)[:, n_features:]
            np.put_along_axis(normal, zeros, 0.0, axis=1)
        point = lowest[splitting] + random.random_sample((k, d)) * size[splitting]
        normals[tree, node], points[tree, node] = normal, point
        offsets[tree, node] = np.einsum("ij,ij->i", normal, point)
        splits[tree, node] = True
        goes_on = np.repeat(splitting, np.diff(np.r_[starts, len(key)]))
        alive, which = (
            alive[goes_on],
            np.cumsum(splitting)[
                np.repeat(np.arange(len(starts)), np.diff(np.r_[starts, len(key)]))
            ][goes_on]
            - 1,
        )
        side = np.einsum("ij,ij->i", rows[alive], normal[which])
        right = side >= np.einsum("ij,ij->i", normal, point)[which]
        here[alive] = 2 * here[alive] + 1 + right
    planes = Planes(normals, points, offsets, splits, counts, depth)
    return planes, here.reshape(t, m)


def step(planes, X, trees, here):
    """Return where rows are after one more split, those in leaves as they are.

    Parameters
    ----------
    planes : Planes
        The trees.
    X : ndarray of shape (b, 1, d) or (b, d)
        Rows.
    trees, here : ndarray of shape (b, t) or (b,)
        Trees, and the nodes in which rows are.
    """
    inner = np.minimum(here, planes.splits.shape[1] - 1)
    moves = planes.splits[trees, inner] & (here == inner)
    side = np.einsum("...j,...j->...", planes.normals[trees, inner], X)
    right = side >= planes.offsets[trees, inner]
    return np.where(moves, 2 * here + 1 + right, here)


def ends_of(planes, X):
    """Return the nodes (b, t) in which rows end, in all trees."""
    trees = np.arange(len(planes.splits))[None, :]
    here = np.zeros((len(X), trees.shape[1]), dtype=np.int64)
    for _ in range(planes.depth):
        here = step(planes, X[:, None, :], trees, here)
    return here


def lengths_without(planes, X, drawn, ends):
    """Return the path lengths (t, m) of trees' own rows in the trees without each.

    A row that is cut off alone goes on, as in an isolation forest, on the other side of
    its last split, which is none without it.
    """
    trees = np.broadcast_to(np.arange(len(drawn))[:, None], drawn.shape)
    count = planes.counts[trees, ends]
    depths = node_depths(planes.counts.shape[1])
    found = depths[ends] + average_path_length(count - 1)
    tree, place = np.nonzero((count == 1) & (ends > 0))
    here = ends[tree, place]
    here = here + np.where(here % 2 == 1, 1, -1)  # the other one below the same node
    rows = X[drawn[tree, place]]
    for _ in range(planes.depth):
        here = step(planes, rows, tree, here)
    found[tree, place] = planes.lengths()[tree, here] - 1
    return found


def gains(planes, X):
    """Return what splits add to path lengths, by feature, summed over trees (b, d).

    Each split is booked by how much the features pull a row to its side.
    """
    t = len(planes.splits)
    trees, maps = np.arange(t)[None, :], np.zeros_like(X)
    lengths = planes.lengths()
    here = np.zeros((len(X), t), dtype=np.int64)
    for _ in range(planes.depth):
        there = step(planes, X[:, None, :], trees, here)
        moved = there != here
        inner = np.where(moved, here, 0)
        pull = X[:, None, :] - planes.points[trees, inner]
        pull *= planes.normals[trees, inner]
        pull *= np.where(there % 2 == 0, 1.0, -1.0)[..., None]
        pull = np.maximum(pull, 0)
        whole = pull.sum(axis=2)
        gain = np.where(moved, lengths[trees, there] - lengths[trees, here], 0.0)
        # on the plane itself no feature pulls
        share = gain / np.where(whole > 0, whole, 1.0)
        maps += np.einsum("ij,ijk->ik", share, pull)
        here = there
    return maps

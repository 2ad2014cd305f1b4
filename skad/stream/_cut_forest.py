"""Random cut trees of one size: grown, all together, and walked.

The rows of all trees stand below one another. Nodes are numbered by levels, those of
all trees together, and the first are the roots.
"""

from typing import NamedTuple

import numpy as np

from skad._array import row_sums


class CutForest(NamedTuple):
    """Trees of boxes: arrays of one entry a node, and the leaf of each row (t, n)."""

    low: np.ndarray  # (nodes, d), the least values of a node's rows
    high: np.ndarray  # (nodes, d)
    count: np.ndarray  # rows
    feature: np.ndarray  # that is cut
    cut: np.ndarray  # rows up to it go to the left child
    left: np.ndarray  # the left child, the right one is the next; 0 for leaves
    displaced: np.ndarray  # the largest ratio of siblings above, the node's rows beside
    leaves: np.ndarray


def grow(rows, random):
    """Return the trees of rows (t, n, d), cut as by Guha et al., definition 1.

    A feature is drawn in proportion to the length of the box of a node's rows, and a
    cut evenly within it, until the rows of a node are equal.
    """
    n_trees, n, d = rows.shape
    X = rows.reshape(-1, d)
    node = np.repeat(np.arange(n_trees), n)  # of each row
    leaves = node.copy()
    levels, n_nodes = [], 0
    at = np.arange(len(X))  # rows that are in no leaf yet, those of a node together
    displaced = np.zeros(n_trees)
    while len(at):
        starts = np.flatnonzero(np.diff(node[at], prepend=-1))
        inside = X[at]
        low = np.minimum.reduceat(inside, starts)
        high = np.maximum.reduceat(inside, starts)
        count = np.diff(starts, append=len(at))
        ends = np.cumsum(high - low, axis=1)
        inner = ends[:, -1] > 0
        drawn = random.uniform(size=len(count)) * ends[:, -1]
        feature = np.minimum(np.sum(ends <= drawn[:, None], axis=1), d - 1)
        each = np.arange(len(count))
        cut = high[each, feature] - (ends[each, feature] - drawn)
        # rounding must not leave a side empty
        least, most = low[each, feature], high[each, feature]
        cut = np.where((cut >= least) & (cut < most), cut, least)
        inner &= cut < most
        first = n_nodes + len(count)
        left = np.where(inner, first + 2 * (np.cumsum(inner) - 1), 0)
        own = np.repeat(each, count)
        leaves[at] = n_nodes + own
        levels.append((low, high, count, feature, cut, left, displaced))
        right = inside[np.arange(len(at)), feature[own]] > cut[own]
        kept = inner[own]
        at, child = at[kept], (left[own] + right)[kept]
        node[at] = child
        order = np.argsort(child, kind="stable")
        at, child = at[order], child[order]
        sizes = np.bincount(child - first, minlength=2 * inner.sum())
        siblings = sizes.reshape(-1, 2)[:, ::-1].ravel()
        above = np.repeat(displaced[inner], 2)
        displaced = np.maximum(above, siblings / np.maximum(sizes, 1))
        n_nodes = first
    parts = [np.concatenate(part) for part in zip(*levels, strict=True)]
    return CutForest(*parts, leaves.reshape(n_trees, n))


def displacements(forest, X, *, by_feature=False):
    """Return the collusive displacements (b, t) that rows would have in each tree.

    They are expected values over the cuts that put a row into a tree. At a node the row
    is cut off with the probability of its way to the node's box in the extents of both,
    and is then the node's sibling; else it goes on, as the node's own rows do.

    Parameters
    ----------
    forest : CutForest
        The trees.
    X : ndarray of shape (b, d)
        The rows.
    by_feature : bool, default=False
        Whether to return shares of the features (b, t, d), of which each has as much as
        it has of the way at the cuts, instead of their sum.
    """
    (b, d), n_trees = X.shape, len(forest.leaves)
    found = np.zeros((b * n_trees, d) if by_feature else b * n_trees)
    pair = np.arange(b * n_trees)
    row, node = np.divmod(pair, n_trees)
    left_over, above = np.ones(len(pair)), np.zeros(len(pair))
    extents = row_sums(forest.high - forest.low)
    while len(pair):
        x, ways, beyond = X[row], forest.low[node], forest.high[node]
        ways -= x
        np.subtract(x, beyond, out=beyond)
        np.maximum(ways, beyond, out=ways)
        np.maximum(ways, 0, out=ways)
        way, extent = row_sums(ways), extents[node]
        outside, leaf = way > 0, forest.left[node] == 0
        share = np.divide(way, way + extent, out=np.zeros_like(way), where=outside)
        share[leaf & outside] = 1.0
        own = left_over * share * np.maximum(forest.count[node], above)
        same = left_over * above * (leaf & ~outside)
        if by_feature:
            per_way = np.divide(own, way, out=np.zeros_like(way), where=outside)
            found[pair] += ways * per_way[:, None] + (same / d)[:, None]
        else:
            found[pair] += own + same
        goes_on = ~leaf & (share < 1)
        pair, row, node = pair[goes_on], row[goes_on], node[goes_on]
        left_over = (left_over * (1 - share))[goes_on]
        right = X[row, forest.feature[node]] > forest.cut[node]
        child, sibling = forest.left[node] + right, forest.left[node] + ~right
        ratio = forest.count[sibling] / (forest.count[child] + 1)
        node, above = child, np.maximum(above[goes_on], ratio)
    return found.reshape((b, n_trees, d) if by_feature else (b, n_trees))

"""How long the paths of rows are in a tree, and in the tree without each of them."""

import numpy as np


def average_path_length(n_samples):
    """Return `c(n)`, the mean path length of unsuccessful searches among `n` rows."""
    n_samples = np.asarray(n_samples, dtype=float)
    many = np.maximum(n_samples, 3)
    harmonic = np.log(many - 1.0) + np.euler_gamma
    length = 2.0 * harmonic - 2.0 * (many - 1.0) / many
    return np.where(n_samples > 2, length, np.where(n_samples == 2, 1.0, 0.0))


def path_ends(tree):
    """Return the expected path length of a row that ends in each node of a tree."""
    return tree.compute_node_depths() + average_path_length(tree.n_node_samples) - 1.0


def lengths_without(tree, X, ends, times):
    """Return the path lengths (n,) of a tree's own rows in the tree without each.

    Without a row that is cut off alone its last split falls into a gap and is none:
    what was on the other side moves up, and the row goes on there. That is a tree of
    the other rows, grown from the same draws.

    Parameters
    ----------
    tree : sklearn.tree._tree.Tree
        The tree.
    X : ndarray or CSR array of shape (n, n_features), float32
        Rows that it was grown from.
    ends : ndarray of shape (n,)
        The leaves in which they end.
    times : ndarray of shape (n,)
        How often the tree has drawn each.
    """
    if tree.n_node_samples[0] < times.sum():
        times = 1  # nodes count different rows
    left = tree.n_node_samples[ends] - times
    lengths = path_ends(tree)
    found = lengths[ends] - average_path_length(tree.n_node_samples[ends])
    found += average_path_length(left)
    alone = np.flatnonzero(left == 0)
    siblings = np.full(tree.node_count, -1)
    inner = np.flatnonzero(tree.children_left >= 0)
    children = tree.children_left[inner], tree.children_right[inner]
    siblings[children[0]], siblings[children[1]] = children[1], children[0]
    here = siblings[ends[alone]]
    alone, here = alone[here >= 0], here[here >= 0]
    while True:
        down = np.flatnonzero(tree.children_left[here] >= 0)
        if not len(down):
            break
        nodes = here[down]
        values = np.asarray(X[alone[down], tree.feature[nodes]]).ravel()
        right = values > tree.threshold[nodes]
        right |= np.isnan(values) & ~tree.missing_go_to_left[nodes].astype(bool)
        here[down] = np.where(
            right, tree.children_right[nodes], tree.children_left[nodes]
        )
    found[alone] = lengths[here] - 1
    return found

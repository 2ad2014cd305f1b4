"""How long the paths of rows are in a tree, and in the tree without each of them."""

import numpy as np


def average_path_length(n_samples):
    """Return `c(n)`, the mean path length of unsuccessful searches among `n` rows."""
    n_samples = np.asarray(n_samples, dtype=float)
    many = np.maximum(n_samples, 3)
    harmonic = np.log(many - 1.0) + np.euler_gamma
    length = 2.0 * harmonic - 2.0 * (many - 1.0) / many
    return np.where(n_samples > 2, length, np.where(n_samples == 2, 1.0, 0.0))


def lengths_without(nodes, n_samples, X, seen, ends, times):
    """Return the path lengths (m,) of trees' own rows in the trees without each.

    Without a row that is cut off alone its last split falls into a gap and is none:
    what was on the other side moves up, and the row goes on there. That is a tree of
    the other rows, grown from the same draws.

    Parameters
    ----------
    nodes : Nodes
        The trees' nodes.
    n_samples : ndarray of shape (n_nodes,)
        How many rows have reached each of them.
    X : ndarray or CSR array of shape (n, n_features), float32
        Rows that the trees were grown from.
    seen : ndarray of shape (m,)
        Numbers of rows that a tree was grown from, of all trees.
    ends : ndarray of shape (m,)
        The leaves in which they end.
    times : ndarray of shape (m,)
        How often the nodes count each.
    """
    left = n_samples[ends] - times
    found = nodes.lengths[ends] - average_path_length(n_samples[ends])
    found += average_path_length(left)
    alone = np.flatnonzero(left == 0)
    first, second = nodes.children.reshape(-1, 2).T
    siblings = np.full(len(first), -1)
    inner = np.flatnonzero(first != np.arange(len(first)))
    siblings[first[inner]], siblings[second[inner]] = second[inner], first[inner]
    here = siblings[ends[alone]]
    alone, here = alone[here >= 0], here[here >= 0]
    missing_left = nodes.missing_left
    down = np.flatnonzero(first[here] != here)
    while len(down):
        at = here[down]
        values = np.asarray(X[seen[alone[down]], nodes.features[at]]).ravel()
        right = values > nodes.thresholds[at]
        if missing_left is not None:
            right |= np.isnan(values) & ~missing_left[at]
        here[down] = np.where(right, second[at], first[at])
        down = down[first[here[down]] != here[down]]
    found[alone] = nodes.lengths[here] - 1
    return found

"""The nodes of a forest's trees in arrays, for walks of all trees together."""

from typing import NamedTuple

import numpy as np

from skad.ensemble._paths import average_path_length


class Nodes(NamedTuple):
    """The nodes of all trees in one array after the other; a leaf leads to itself."""

    roots: np.ndarray  # (n_trees,)
    features: np.ndarray  # that a node splits
    thresholds: np.ndarray  # float32; at most the threshold: left, else right
    children: np.ndarray  # (2 * n_nodes,): left and right child of node i at 2i, 2i + 1
    lengths: np.ndarray  # expected path length of a row that ends here
    gains: np.ndarray  # change of the expected path length on the way into a node
    causes: np.ndarray  # feature of the split that leads into a node
    depth: int  # of the deepest tree
    missing_left: np.ndarray | None = None  # where NaN goes; not in files of 0.1


def flatten(trees, trees_features):
    """Return the `Nodes` of fitted trees, each with the features that it was given."""
    names = (
        "children_left",
        "children_right",
        "feature",
        "threshold",
        "n_node_samples",
    )
    arrays = [np.concatenate([getattr(tree, k) for tree in trees]) for k in names]
    left, right, feature, threshold, n_samples = arrays
    counts = [tree.node_count for tree in trees]
    starts = np.cumsum([0, *counts[:-1]])
    widths = [len(own) for own in trees_features]
    inner = np.flatnonzero(left >= 0)
    start = np.repeat(starts, counts)[inner]
    left, right = left[inner] + start, right[inner] + start
    children = np.repeat(np.arange(len(feature)), 2).reshape(-1, 2)
    children[inner, 0], children[inner, 1] = left, right
    features = np.zeros(len(feature), dtype=np.int64)
    own = feature[inner] + np.repeat(np.cumsum([0, *widths[:-1]]), counts)[inner]
    features[inner] = np.concatenate(trees_features)[own]
    # rows are float32, for which this is the same comparison
    thresholds = threshold.astype(np.float32)
    too_large = thresholds > threshold
    thresholds[too_large] = np.nextafter(thresholds[too_large], np.float32(-np.inf))
    rest = average_path_length(n_samples)
    depths = np.concatenate([tree.compute_node_depths() for tree in trees])
    gains, causes = np.zeros(len(feature)), np.zeros_like(features)
    for child in (left, right):
        gains[child] = 1 + rest[child] - rest[inner]
        causes[child] = features[inner]
    missing = [tree.missing_go_to_left.astype(bool) for tree in trees]
    return Nodes(
        roots=starts,
        features=features,
        thresholds=thresholds,
        children=children.ravel(),
        lengths=depths + rest - 1.0,
        gains=gains,
        causes=causes,
        depth=max(tree.max_depth for tree in trees),
        missing_left=np.concatenate(missing),
    )

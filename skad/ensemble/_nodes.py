"""The nodes of a forest's trees in arrays, for walks of all trees together."""

from typing import NamedTuple

import numpy as np

from skad.ensemble._paths import average_path_length, path_ends


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
    parts = {name: [] for name in Nodes._fields}
    start = 0
    for tree, own in zip(trees, trees_features, strict=True):
        inner = np.flatnonzero(tree.children_left >= 0)
        left, right = tree.children_left[inner], tree.children_right[inner]
        here = np.arange(tree.node_count)
        children = np.stack((here, here), axis=1)
        children[inner] = np.stack((left, right), axis=1)
        features = np.zeros(tree.node_count, dtype=np.int64)
        features[inner] = own[tree.feature[inner]]
        # rows are float32, for which this is the same comparison
        thresholds = tree.threshold.astype(np.float32)
        too_large = thresholds > tree.threshold
        thresholds[too_large] = np.nextafter(thresholds[too_large], np.float32(-np.inf))
        rest = average_path_length(tree.n_node_samples)
        gains, causes = np.zeros(tree.node_count), np.zeros_like(features)
        for child in (left, right):
            gains[child] = 1 + rest[child] - rest[inner]
            causes[child] = features[inner]
        parts["roots"].append([start])
        parts["missing_left"].append(tree.missing_go_to_left.astype(bool))
        parts["features"].append(features)
        parts["thresholds"].append(thresholds)
        parts["children"].append(children.ravel() + start)
        parts["lengths"].append(path_ends(tree))
        parts["gains"].append(gains)
        parts["causes"].append(causes)
        start += tree.node_count
    depth = max(tree.max_depth for tree in trees)
    del parts["depth"]
    return Nodes(**{k: np.concatenate(v) for k, v in parts.items()}, depth=depth)

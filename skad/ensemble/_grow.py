"""How scikit-learn's forest grows its trees, without what it does again for each."""

from copy import deepcopy
from itertools import chain
from numbers import Integral

import numpy as np
from joblib import effective_n_jobs
from scipy.sparse import issparse
from sklearn.utils import check_random_state
from sklearn.utils.parallel import Parallel, delayed

from skad._sklearn import drawn_for_tree
from skad.ensemble._paths import average_path_length

# scikit-learn draws seeds below this.
_SEEDS = np.iinfo(np.int32).max


def grow(forest, rows, sample_weight=None):
    """Grow the trees that `forest` lacks, as its `fit` does, and from the same draws.

    For each tree scikit-learn reads and checks parameters anew, and hands it all rows,
    of which those of no weight are most: that took longer than to split the others.

    Returns
    -------
    samples : list of ndarray
        The rows that each new tree was given; empty for sparse rows, whose trees
        scikit-learn grows.
    """
    if issparse(rows):
        forest.fit(rows, sample_weight=sample_weight)
        return []
    n_estimators, state = forest.n_estimators, deepcopy(forest.random_state)
    first = len(getattr(forest, "estimators_", ()))
    # the first new one is scikit-learn's, which sets the forest up
    forest.set_params(n_estimators=first + 1)
    forest.fit(rows, sample_weight=sample_weight)
    forest.set_params(n_estimators=n_estimators)
    if isinstance(state, Integral):
        y = check_random_state(state).uniform(size=rows.shape[0])
        draws = check_random_state(state)
        draws.randint(_SEEDS, size=first + 1)
    else:
        y, draws = state.uniform(size=rows.shape[0]), forest.random_state
    more = draws.randint(_SEEDS, size=n_estimators - first - 1)
    samples = [drawn_for_tree(forest, forest._seeds[-1])[1]]
    if len(more):
        n_jobs = min(effective_n_jobs(forest.n_jobs), len(more))
        parts = Parallel(n_jobs=n_jobs, prefer="threads")(
            delayed(_trees)(forest, rows, y, seeds)
            for seeds in np.array_split(more, n_jobs)
        )
        trees, features, seen = (
            list(chain.from_iterable(column)) for column in zip(*parts, strict=True)
        )
        forest.estimators_ += trees
        forest.estimators_features_ += features
        forest._seeds = np.concatenate([forest._seeds, more])
        samples += seen
        _set_lengths(forest, [estimator.tree_ for estimator in trees])
    return samples


def _trees(forest, rows, y, seeds):
    """Return trees, the features and the rows of each, from a seed each."""
    parameters = forest.estimator_.get_params(deep=False)
    kind, draws = type(forest.estimator_), np.random.RandomState()
    all_features = forest._max_features == rows.shape[1]
    trees, trees_features, samples = [], [], []
    for seed in seeds:
        draws.seed(seed)  # a tenth of the time of another generator
        parameters["random_state"] = draws.randint(_SEEDS)
        draws.seed(seed)
        features, seen = drawn_for_tree(forest, draws)
        times = None
        if forest.bootstrap:
            some, times = np.unique(seen, return_counts=True)
        else:
            some = np.sort(seen)
        own = rows[some] if all_features else rows[np.ix_(some, features)]
        tree = kind(**parameters)
        trees.append(tree.fit(own, y[some], sample_weight=times, check_input=False))
        trees_features.append(features)
        samples.append(seen)
    return trees, trees_features, samples


def _set_lengths(forest, trees):
    """Tell a forest the lengths of paths in the last of its trees, which it keeps."""
    counts = [tree.node_count for tree in trees]
    lengths = average_path_length(np.concatenate([t.n_node_samples for t in trees]))
    forest._average_path_length_per_tree += tuple(
        np.split(lengths, np.cumsum(counts)[:-1])
    )
    forest._decision_path_lengths += tuple(t.compute_node_depths() for t in trees)

"""The one place that imports what scikit-learn keeps private or has only since 1.9.

The bases of our classes come from here too: scikit-learn ships no types, and what type
checkers see instead is in `_sklearn.pyi` beside this file.
"""

import sys
from functools import cache

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MetaEstimatorMixin,
    OneToOneFeatureMixin,
    OutlierMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import (
    HasMethods,
    Hidden,
    Interval,
    RealNotInt,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import _check_sample_weight, validate_data

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn 1.8

    class CallbackSupportMixin:
        """Stands in for the callback support of scikit-learn 1.9."""


class ScikitLearnDetector(
    OneToOneFeatureMixin, TransformerMixin, OutlierMixin, BaseEstimator
):
    """What scikit-learn calls a detector, and its map a transform."""

    @classmethod
    def _get_param_names(cls):
        return list(_parameter_names(cls))


@cache
def _parameter_names(cls):
    """Return what scikit-learn reads from a constructor, twice in each `fit`."""
    return BaseEstimator._get_param_names.__func__(cls)


__all__ = [
    "BaseEstimator",
    "CallbackSupportMixin",
    "ClassNamePrefixFeaturesOutMixin",
    "HasMethods",
    "Hidden",
    "Interval",
    "MetaEstimatorMixin",
    "OneToOneFeatureMixin",
    "RealNotInt",
    "ScikitLearnDetector",
    "StrOptions",
    "TransformerMixin",
    "_BaseComposition",
    "_check_sample_weight",
    "_fit_context",
    "_safe_indexing",
    "condensed_tree",
    "drawn_for_tree",
    "splits_series",
    "thread_count",
    "torch_namespace",
    "tree_class",
    "validate_data",
    "validate_parameter_constraints",
]


def torch_namespace():
    """Return torch behind the array API standard's names (imports torch)."""
    import sklearn.externals.array_api_compat.torch as namespace

    return namespace


def tree_class():
    """Return the compiled class of scikit-learn's fitted trees."""
    from sklearn.tree._tree import Tree

    return Tree


def drawn_for_tree(forest, draws):
    """Return the features, and the rows, that a forest draws for a tree from a seed."""
    from sklearn.ensemble._bagging import _generate_bagging_indices

    return _generate_bagging_indices(
        draws,
        forest.bootstrap_features,
        forest.bootstrap,
        forest.n_features_in_,
        forest._n_samples,
        forest._max_features,
        forest._max_samples,
        forest._sample_weight,
    )


def condensed_tree(X, min_cluster_size, core_distances):
    """Return the condensed tree of scikit-learn's `HDBSCAN` of rows (n, d).

    A structured array of edges (parent, child, value, cluster_size): `value` is the
    density, one over the level of mutual reachability, and clusters count from n. With
    the core distances (n,) from outside it has no neighbours to search.
    """
    from sklearn.cluster._hdbscan._linkage import mst_from_data_matrix
    from sklearn.cluster._hdbscan._tree import _condense_tree
    from sklearn.cluster._hdbscan.hdbscan import _process_mst
    from sklearn.metrics import DistanceMetric

    X, core_distances = map(np.ascontiguousarray, (X, core_distances))
    euclidean = DistanceMetric.get_metric("euclidean")
    edges = mst_from_data_matrix(X, core_distances, euclidean, 1.0)
    with np.errstate(divide="ignore"):
        return _condense_tree(_process_mst(edges), min_cluster_size)


def thread_count():
    """Return the threads of scikit-learn's compiled loops."""
    from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

    return _openmp_effective_n_threads()


def splits_series(rows):
    """Tell whether a cross-validation of scikit-learn has cut what is at work.

    It got `groups` and does not pass them on, or the rows of this fold, "train" or
    "test", leave out others in between. Only the frames of the calls tell.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("sklearn.model_selection."):
            known = frame.f_locals
            params = known.get("params")
            if known.get("groups") is not None:
                return True
            if isinstance(params, dict) and params.get("groups") is not None:
                return True
            fold = known.get(rows)
            if getattr(fold, "dtype", None) == np.int64 and (np.diff(fold) != 1).any():
                return True
        frame = frame.f_back
    return False

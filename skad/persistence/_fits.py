"""Whether the parts of a detector fit each other, so that compiled code can trust them.

NumPy and torch check every index and every shape. What does not is written down here:
trees and centres of scikit-learn, recurrent layers, and indices of our own that size
what they lead into.
"""

import sys

import numpy as np
from scipy.sparse import csr_array
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors

from skad._array import is_torch
from skad._sklearn import thread_count, tree_class, validate_parameter_constraints
from skad.neighbors._search import METRICS

# Jobs of a parallel step; a thread is started for each, however many are asked for.
_MOST_JOBS = 2**10

# Bytes of shared arrays and wide strings that a file may ask for beyond its own size.
_ROOM = 10**8


def check(fits, message):
    """Raise ValueError with `message` unless `fits`."""
    if not fits:
        raise ValueError(message)


def allowance(n_bytes):
    """Return the bytes that a file of `n_bytes` may make beside its arrays."""
    return _ROOM + n_bytes


def text_bytes(text):
    """Return an upper bound of the memory that the values of a JSON text take."""
    weights = {"{": 240, "[": 80, ",": 80}
    return len(text) + sum(w * text.count(sign) for sign, w in weights.items())


def check_parameters(estimator):
    """Check the constructor parameters of an estimator by its class's constraints."""
    constraints = getattr(estimator, "_parameter_constraints", None)
    if constraints is None:
        return  # a class of somebody's own
    names = estimator._get_param_names()
    # a file of an older release lacks what is new
    found = {n: getattr(estimator, n) for n in names if hasattr(estimator, n)}
    validate_parameter_constraints(constraints, found, type(estimator).__name__)


def check_width(estimator):
    """Check how many features an estimator says that it was fitted on, if it does."""
    known = vars(estimator)
    if "n_features_in_" in known:
        width = known["n_features_in_"]
        fits = _is_int(width, 1, 2**31)
        check(fits, f"{type(estimator).__name__} with n_features_in_={width!r}")


def check_fit(made):
    """Check the objects of a detector, all of which have their attributes."""
    for value in made:
        kind = type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        jobs = getattr(value, "__dict__", {}).get("n_jobs")
        check(
            jobs is None or (_is_int(jobs) and jobs <= _MOST_JOBS),
            f"{kind.__name__} with n_jobs={jobs!r}",
        )
        if isinstance(value, BaseEstimator) and not isinstance(value, NearestNeighbors):
            check_parameters(value)
            check_width(value)
        if name in _FITS:
            _FITS[name](value)
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(value, torch.nn.RNNBase):
            _recurrent(value)
        if torch is not None and isinstance(value, torch.nn.MultiheadAttention):
            heads = value.num_heads
            fits = _is_int(heads) and heads > 0 and value.embed_dim % heads == 0
            check(fits, f"{heads} heads of attention")


def _is_int(number, least=None, below=None):
    fits = isinstance(number, int | np.integer) and not isinstance(number, bool)
    return (
        fits
        and (least is None or number >= least)
        and (below is None or number < below)
    )


def _is_array(array, shape, kinds):
    """Tell whether it is an array of a shape, where None is any length."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype.kind in kinds
        and array.ndim == len(shape)
        and all(n in (own, None) for n, own in zip(shape, array.shape, strict=True))
    )


def _within(indices, n):
    return indices.size == 0 or bool(indices.min() >= 0 and indices.max() < n)


# ----------------------------------------------------------------------- scikit-learn


def _fitted(value, name):
    """Tell whether it is fitted; what it checks its input by has to be there."""
    if name not in vars(value):
        return False
    check(
        _is_int(vars(value).get("n_features_in_"), 1, 2**31),
        f"{type(value).__name__} without the number of its features",
    )
    return True


def _tree_estimator(value):
    if _fitted(value, "tree_"):
        check(isinstance(value.tree_, tree_class()), "a tree that is none")
        fits = value.tree_.n_features == value.n_features_in_
        check(fits, "a tree for other features than its input has")


def _forest(value):
    from sklearn.tree import ExtraTreeRegressor

    if not _fitted(value, "estimators_"):
        return
    trees, columns, n = value.estimators_, value.estimators_features_, None
    fits = isinstance(trees, list) and isinstance(columns, list)
    check(fits and 0 < len(trees) == len(columns), "a forest of other trees")
    n = value.n_features_in_
    for tree, own in zip(trees, columns, strict=True):
        fits = type(tree) is ExtraTreeRegressor and _fitted(tree, "tree_")
        check(fits, "a forest of something else than trees")
        width = tree.n_features_in_
        # scikit-learn leaves the choice of columns out where it would choose all
        fits = _is_array(own, (width,), "iu") and _within(own, n)
        check(fits, "a tree of a forest for features that are not there")
        check(value._max_features != n or width == n, "a tree with other features")


def _k_means(value):
    if _fitted(value, "cluster_centers_"):
        centres = value.cluster_centers_
        fits = _is_array(centres, (None, value.n_features_in_), "f")
        check(
            fits and len(centres) > 0 and centres.flags.c_contiguous,
            "centres for other features than the input has",
        )
        value._n_threads = thread_count()  # of this machine


# --------------------------------------------------------------------------- skad


def _isolation_forest(value):
    from sklearn.ensemble import IsolationForest

    if "forest_" not in vars(value):
        return
    forest, d = value.forest_, value.n_features_in_
    check(type(forest) is IsolationForest, "a forest that is none")
    check(forest.n_features_in_ == d, "a forest for other features")
    nodes = vars(value).get("_nodes_")
    check(type(nodes).__name__ == "Nodes", "nodes that are none")
    n, n_trees = len(nodes.lengths), len(forest.estimators_)
    shapes = {"roots": (n_trees,), "children": (2 * n,)}
    for name, part in nodes._asdict().items():
        if name == "depth":
            check(_is_int(part, 0, max(n, 1)), "an impossible depth")
            continue
        if name == "missing_left" and part is None:  # in files of 0.1
            continue
        kinds = "f" if name in ("thresholds", "lengths", "gains") else "i"
        kinds = "b" if name == "missing_left" else kinds
        check(_is_array(part, shapes.get(name, (n,)), kinds), f"other {name} of nodes")
    for name, below in {"roots": n, "children": n, "features": d, "causes": d}.items():
        check(_within(getattr(nodes, name), below), f"{name} that lead outside")
    ends = [one.tree_.node_count for one in forest.estimators_]
    fits = np.array_equal(nodes.roots, np.cumsum([0, *ends[:-1]])) and n == sum(ends)
    check(fits, "nodes of other trees")


def _neighbor_search(value):
    bank, metric = value.bank, value.metric
    check(metric in METRICS, "an unknown metric")
    fits = is_torch(bank) or isinstance(bank, np.ndarray)
    check(fits and bank.ndim == 2 and len(bank) > 0, "other training rows")
    n, d = bank.shape
    for name, shape in (("products", (d + 1, n)), ("centre", (d,))):
        part = vars(value).get(name)
        if part is not None:
            check(tuple(part.shape) == shape, f"other {name} of the training rows")
    check((value.products is None) or "centre" in vars(value), "products of nothing")
    apart = value.apart
    if apart is not None:
        places = apart.places
        fits = isinstance(places, np.ndarray) and places.dtype.kind == "i"
        fits = fits and places.shape == (n,) and bool((np.diff(places) >= 0).all())
        check(fits and _is_int(apart.gap, 0, None), "places of other rows")
    index = value.index
    if index is not None:
        fits = isinstance(index, NearestNeighbors) and index._fit_X.shape == (n, d)
        check(fits, "an index of other rows")


def _sparse_search(value):
    bank = value.bank
    check(value.metric in METRICS, "an unknown metric")
    check(type(bank) is csr_array and bank.shape[0] > 0, "other training rows")
    check(_is_array(value.norms, bank.shape[:1], "f"), "norms of other rows")
    check(value._turned is None, "rows that are turned already")


def _searches(value):
    """Check what a detector of tables searches by its own number of features."""
    if "_search_" in vars(value):
        n, d = value._search_.bank.shape
        check(d == value.n_features_in_, "training rows of other features")
        k = vars(value).get("n_neighbors_", value.n_neighbors)
        check(_is_int(k, 1, n), f"{k} neighbours of {n} rows")
        check(vars(value).get("n_samples_fit_", n) == n, "rows that are not there")


def _sparse_vectors(value):
    """Check that sparse support vectors are of the features of the input."""
    vectors = vars(value).get("support_vectors_")
    if isinstance(vectors, csr_array):
        check(vectors.shape[1] == value.n_features_in_, "vectors of other features")


def _joined(value):
    """Check how many nearest windows are kept by the training series of a profile."""
    if "_series_" in vars(value):
        known = value._series_
        known = known if isinstance(known, list | tuple) else [known]
        steps = sum(each.nbytes // each.itemsize for each in known)
        check(value.n_neighbors <= steps, f"{value.n_neighbors} neighbours of {steps}")


def _edge_counts(value):
    check(_is_array(value.multiplier, (None, None), "i"), "other hashes")
    shape = value.multiplier.shape
    check(_is_array(value.shift, shape, "i"), "other hashes")
    check(_is_array(value.total, (*shape, None), "f"), "other counts")
    check(value.total.shape[-1] > 0, "no counts")
    check(_is_array(value.present, value.total.shape, "f"), "other counts")


def _window(value):
    check(_is_array(value.counts, (None,), "i"), "other counts")
    check(_is_int(value.n, 0, None), "an impossible number of rows")


def _cut_forest(value):
    """Check the trees of an RRCF, whose walk has to end."""
    if "_forest_" not in vars(value):
        return
    forest, d = value._forest_, value.n_features_in_
    check(type(forest).__name__ == "CutForest", "trees that are none")
    check(_is_array(forest.count, (None,), "i"), "other counts of nodes")
    n = len(forest.count)
    for name in ("low", "high"):
        check(_is_array(getattr(forest, name), (n, d), "f"), f"other {name} of nodes")
    for name, kinds in {
        "cut": "f",
        "displaced": "f",
        "feature": "i",
        "left": "i",
    }.items():
        check(_is_array(getattr(forest, name), (n,), kinds), f"other {name} of nodes")
    check(_is_array(forest.leaves, (value.n_estimators, None), "i"), "other leaves")
    check(_within(forest.feature, d) and _within(forest.leaves, n), "other places")
    ends = forest.left == 0
    below = (forest.left > np.arange(n)) & (forest.left < n - 1)
    check(bool((ends | below).all()), "children that lead back")


def _owned(bank):
    """Return a check that every entry of a `bank` of pictures has its owner."""

    def check_owners(value):
        if bank in vars(value) and "owners_" in vars(value):
            owners, entries = value.owners_, getattr(value, bank)
            fits = is_torch(owners) and is_torch(entries) and entries.ndim == 2
            check(fits and not owners.is_floating_point(), "other owners")
            check(tuple(owners.shape) == entries.shape[:1], "owners of other patches")

    return check_owners


def _tail(value):
    import torch

    check(isinstance(value.module, torch.nn.Module), "a module that is none")
    head = () if value.head is None else value.head
    check(isinstance(head, tuple) and all(map(is_torch, head)), "a head that is none")


def _recurrent(value):
    """Compare a recurrent layer with a fresh one of its sizes, which has no memory."""
    parts = vars(value)["_parameters"]
    sizes = ("input_size", "hidden_size", "num_layers", "proj_size")
    numbers = {name: getattr(value, name) for name in sizes}
    check(all(_is_int(one, 0, 2**31) for one in numbers.values()), "other sizes")
    check(0 < value.num_layers <= len(parts), "other layers")
    if "proj_size" in numbers and not numbers["proj_size"]:
        del numbers["proj_size"]
    flags = {n: getattr(value, n) for n in ("bias", "batch_first", "bidirectional")}
    check(all(isinstance(one, bool) for one in flags.values()), "other flags")
    kind = type(value)
    fresh = kind(**numbers, **flags, dropout=value.dropout, device="meta")
    shapes = {name: tuple(one.shape) for name, one in fresh.named_parameters()}
    found = {name: tuple(one.shape) for name, one in parts.items()}
    check(shapes == found, f"weights of another {kind.__name__}")
    fits = len({(one.dtype, one.is_contiguous()) for one in parts.values()}) == 1
    check(fits, f"weights of several kinds in {kind.__name__}")
    for name in ("mode", "_flat_weights_names", "_all_weights"):
        check(getattr(value, name) == getattr(fresh, name), f"{name} of another layer")


_FITS = {
    "sklearn.tree._classes.ExtraTreeRegressor": _tree_estimator,
    "sklearn.ensemble._iforest.IsolationForest": _forest,
    "sklearn.cluster._kmeans.KMeans": _k_means,
    "skad.ensemble._isolation_forest.IsolationForest": _isolation_forest,
    "skad.neighbors._search.NeighborSearch": _neighbor_search,
    "skad.neighbors._sparse_search.SparseSearch": _sparse_search,
    "skad.neighbors._knn.KNN": _searches,
    "skad.neighbors._lof.LOF": _searches,
    "skad.one_class._svm.OneClassSVM": _sparse_vectors,
    "skad.series._edges.EdgeCounts": _edge_counts,
    "skad.series._matrix_profile.MatrixProfile": _joined,
    "skad.stream._counts.Window": _window,
    "skad.stream._rrcf.RRCF": _cut_forest,
    "skad.image.memory._graph_core.GraphCore": _owned("bank_"),
    "skad.image.memory._patchcore.PatchCore": _owned("bank_"),
    "skad.image.memory._sel_formaly.SelFormaly": _owned("bank_"),
    "skad.image.memory._spade.SPADE": _owned("pictures_"),
    "skad.embedding._module_tail.ModuleTail": _tail,
}

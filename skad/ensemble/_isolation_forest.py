"""Isolation forest: anomalies are cut off by few random splits."""

import warnings
from copy import copy, deepcopy
from numbers import Integral

import numpy as np
import sklearn.ensemble
from scipy.sparse import issparse

from skad._array import (
    blocks,
    device_of,
    is_torch,
    like,
    namespace,
    to_numpy,
)
from skad._parameters import KW_ONLY, with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval, RealNotInt, StrOptions
from skad._weights import SampleWeightMixin
from skad.base import BaseDetector
from skad.ensemble._grow import grow
from skad.ensemble._nodes import Nodes, flatten
from skad.ensemble._paths import average_path_length, lengths_without
from skad.ensemble._walk import (
    fingerprint,
    in_units,
    path_gains,
    path_lengths,
    rows_of_features,
    single,
    typical,
)

# From this many rows on, scikit-learn's compiled walk of one tree after the other is
# faster than the walk of all trees together.
_TREEWISE_ROWS = 500


@with_parameters(kw_only=False)
class IsolationForest(SampleWeightMixin, BaseDetector):
    r"""Rows that few random splits cut off from the rest.

    Each tree splits a random subsample of `m` rows at random thresholds of random
    features until rows are alone or the depth is :math:`\lceil \log_2 m \rceil`. With
    :math:`h_t(x)` the depth at which `x` ends in tree `t`, plus :math:`c(n)` where it
    ends among `n` rows, the anomaly is

    .. math:: a(x) = 2^{-E_t[h_t(x)] / c(m)}, \qquad
        c(n) = 2 H_{n-1} - 2 (n - 1) / n,

    with the harmonic numbers :math:`H_i \approx \ln i + 0.5772`. ``score_samples`` is
    scikit-learn's. The map books what each split on a row's path does to the expected
    path length: going from `n` to `n'` rows changes it by :math:`1 + c(n') - c(n)`.
    The changes, averaged over the trees, negated and divided by :math:`c(m)`, are
    booked on the features that are split, and sum to :math:`1 + \log_2 a(x)`. Splits
    that cut off more than they had to count for normality, so entries may be negative.

    Read more in the :ref:`User Guide <ensemble>`.

    Parameters
    ----------
    n_estimators : int, default=100
        Number of trees.
    max_samples : "auto", int or float, default="auto"
        Rows `m` of each tree: a number or a share of the training rows. "auto" is 256,
        or all rows where there are fewer; a number above them warns and takes all.
    max_features : int or float, default=1.0
        Features of each tree, drawn at random: a number or a share.
    bootstrap : bool, default=False
        Whether a tree's rows are drawn with replacement.
    warm_start : bool, default=False
        Whether another `fit` keeps the trees and grows those that `n_estimators` has
        more than there are, of the rows that it is given.
    n_jobs : int or None, default=None
        Threads that grow trees; None is 1 unless in a joblib context, -1 all cores.
    random_state : int, RandomState instance or None, default=None
        Draws rows, features and thresholds. Pass an int for reproducible results.

    Attributes
    ----------
    centre_, scale_ : ndarray of shape (n_features,)
        What the trees see is ``(X - centre_) / scale_``, in float32: the median of each
        feature and the median distance from it.
    forest_ : sklearn.ensemble.IsolationForest
        The forest fitted to that.
    estimators_ : list of sklearn.tree.ExtraTreeRegressor
        Its trees.
    estimators_features_, estimators_samples_ : list of ndarray
        The features, and the training rows, that each tree was given.
    max_samples_ : int
        Rows `m` of each tree.

    See Also
    --------
    FeatureBagging : Any detector on random subsets of the features.

    Notes
    -----
    `fit` costs O(t m log m) for t trees, apart from the training rows' scores, and a
    row is scored in O(t log m). The forest is scikit-learn's, grown on the host, and
    its trees compare in float32, to which features are scaled in double precision:
    scores equal its ``score_samples`` to rounding where float32 holds the features as
    they are. Few rows and tensors walk all trees together, in the library and on the
    device of `X`; many rows of an array walk one tree after the other.
    Forests do not change when features are scaled or shifted, up to rounding.

    With `sample_weight` a tree's rows are drawn with probabilities proportional to it,
    as in scikit-learn. This is less than repetition: "auto" and a number in
    `max_samples` are of different rows, a row drawn twice counts once in a node, and a
    tree of all rows without ``bootstrap=True`` knows no weights, which is warned of.
    The threshold does take weights as repetitions.

    ``contamination="auto"`` takes each training row out of the trees that have seen it:
    where it is cut off alone, its last split is left out, and it goes on on the other
    side. The others score it as they are. Of a row that counts `w` times a tree that
    has drawn it `k` times has seen one repetition alone with probability
    :math:`w^{-k}`, and that much of the row is taken out.

    A missing value (NaN) goes at each split to the side that scikit-learn's trees send
    it to: a random one where the tree has seen missing values there, else that of most
    rows. The map books it like any other value. Sparse rows are walked as they are;
    they are scaled and not shifted, so that zeros stay zeros, and may not miss values.

    With ``bootstrap=True`` a tree's root holds fewer than `m` different rows. What this
    adds to the score is no feature's doing and is spread evenly over the map.

    References
    ----------
    .. [1] F. T. Liu, K. M. Ting and Z.-H. Zhou, "Isolation forest", IEEE International
       Conference on Data Mining, 2008, equations (1) and (2).
    .. [2] F. T. Liu, K. M. Ting and Z.-H. Zhou, "Isolation-based anomaly detection",
       ACM Transactions on Knowledge Discovery from Data, 2012.

    Examples
    --------
    >>> from skad.ensemble import IsolationForest
    >>> X = [[0.0, 1.0], [0.1, 1.2], [-0.1, 0.9], [0.2, 1.1], [0.1, 5.0]]
    >>> detector = IsolationForest(contamination=0.2, random_state=0).fit(X)
    >>> detector.predict(X)
    array([ 1,  1,  1,  1, -1])
    >>> detector.transform([[0.1, 5.0]]).round(2)
    array([[-0.17,  0.3 ]])
    """

    n_estimators: int = 100
    _: KW_ONLY
    max_samples: str | float = "auto"
    max_features: float = 1.0
    bootstrap: bool = False
    warm_start: bool = False
    n_jobs: int | None = None
    random_state: Seed = None

    _honesty = "leave one out"
    _ignores_units = True
    _least_rows = 1
    _reads_missing = _reads_sparse = True
    _parameter_constraints = {
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "max_samples": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
        ],
        "max_features": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="right"),
        ],
        "bootstrap": ["boolean"],
        "warm_start": ["boolean"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def _check_parameters(self, X):
        n_samples, n_features = X.shape
        if isinstance(self.max_samples, Integral) and self.max_samples > n_samples:
            warnings.warn(
                f"max_samples={self.max_samples} is greater than the number of "
                f"training rows, {n_samples}: max_samples will be set to n_samples "
                "for estimation.",
                stacklevel=5,
            )
        share = (
            1.0 if isinstance(self.max_samples, (str, Integral)) else self.max_samples
        )
        if int(share * n_samples) < 1:
            raise ValueError(
                f"max_samples={share} of {n_samples} training rows is less than one "
                f"row; at least {1 / n_samples:.3g} is needed."
            )
        if isinstance(self.max_features, Integral) and self.max_features > n_features:
            raise ValueError(
                f"max_features={self.max_features} must be at most the number of "
                f"features, {n_features}."
            )

    def _row_elements(self):
        return 2 * self.n_features_in_ + 4

    def _fit(self, X, y, sample_weight=None):
        if not issparse(X):
            X = to_numpy(X)
        if not hasattr(self, "forest_"):  # else warm_start goes on in the same units
            self.centre_, self.scale_ = typical(X)
        rows = self._single(X)
        forest = copy(getattr(self, "forest_", sklearn.ensemble.IsolationForest()))
        for name in ("estimators_", "estimators_features_"):  # which grow in place
            if hasattr(forest, name):
                setattr(forest, name, list(getattr(forest, name)))
        forest.set_params(
            max_samples=self._most_rows(X.shape[0]),
            max_features=self.max_features,
            bootstrap=self.bootstrap,
            n_jobs=self.n_jobs,
            warm_start=True,
        )
        samples = self._grow(forest, rows, sample_weight)
        self._grown_, self.forest_ = (rows, samples), forest
        self.max_samples_ = forest.max_samples_
        all_rows = not self.bootstrap and self.max_samples_ == rows.shape[0]
        if sample_weight is not None and np.ptp(sample_weight) > 0 and all_rows:
            warnings.warn(
                "Each tree takes all rows once, so that sample_weight changes the "
                "threshold alone: pass bootstrap=True or lower max_samples.",
                stacklevel=5,
            )
        trees = [estimator.tree_ for estimator in forest.estimators_]
        self._nodes_ = flatten(trees, forest.estimators_features_)
        self._norm_ = len(trees) * float(average_path_length(self.max_samples_))

    def _most_rows(self, n_samples):
        if isinstance(self.max_samples, Integral):
            return min(self.max_samples, n_samples)
        return self.max_samples

    def _grow(self, forest, rows, sample_weight):
        """Grow `n_estimators` trees, or what is missing; return the new ones' rows."""
        grown = len(getattr(forest, "estimators_", ()))
        if self.n_estimators < grown:
            raise ValueError(
                f"n_estimators={self.n_estimators} must be at least the {grown} trees "
                "that are grown already when warm_start=True."
            )
        if self.n_estimators == grown:
            warnings.warn(
                "Warm-start fitting without increasing n_estimators does not fit new "
                "trees.",
                stacklevel=6,
            )
            return []
        # as scikit-learn, which starts anew from an int each time that it draws
        state = generator(None) if self.random_state is None else self.random_state
        # one step unless somebody watches: each costs a look at all trees so far
        n_steps = 10 if hasattr(self, "_skl_callbacks") else 1
        stops = np.linspace(grown, self.n_estimators, n_steps + 1).astype(int)
        stops = np.unique(stops[stops > grown])
        seeds, samples = list(getattr(forest, "_seeds", ())), []
        for stop in self._steps(stops, "grow trees", len(stops), may_stop=True):
            # each step starts from the same state and skips what was drawn before, so
            # that the forest is the one of a single step
            forest.set_params(n_estimators=stop, random_state=deepcopy(state))
            samples += grow(forest, rows, sample_weight)
            seeds.extend(forest._seeds)
        forest._seeds = seeds  # of all steps, for `estimators_samples_`
        if not isinstance(state, Integral):
            state.set_state(forest.random_state.get_state())
        before = list(self._grown_from_) or [""] * grown  # files of 0.1 lack it
        self._grown_from_ = before + [fingerprint(rows)] * (self.n_estimators - grown)
        return samples

    # Files of 0.1 have no scale: their trees compare the features as they are.
    centre_ = scale_ = None
    # What tells the rows that each tree was grown from.
    _grown_from_ = ()
    # While it is fitted: what the trees see of the rows, and which each was given.
    _grown_ = None

    def _single(self, X):
        """Return what the trees see of `X`, in float32."""
        if self.scale_ is None:
            return single(X)
        if issparse(X) and self.centre_.any():  # fitted to dense rows
            X = X.toarray()
        return in_units(X, self.centre_, self.scale_)

    def _fit_offset(self, X, y, anomaly, **params):
        offset = super()._fit_offset(X, y, anomaly, **params)
        del self._grown_
        return offset

    def _honest_anomaly(self, X, y, anomaly, **params):
        if self._norm_ == 0:
            return self._seen_anomaly(X, anomaly)
        forest, nodes = self.forest_, self._nodes_
        if self._grown_ is None:
            rows, samples = self._single(X if issparse(X) else to_numpy(X)), []
            these = fingerprint(rows)
        else:
            (rows, samples), these = self._grown_, self._grown_from_[-1]
        if len(samples) < len(forest.estimators_):
            samples = forest.estimators_samples_
        n_samples = rows.shape[0]
        norm, fewer = average_path_length([self.max_samples_, self.max_samples_ - 1])
        repetitions = np.maximum(params.get("sample_weight", np.ones(n_samples)), 1)
        total, own_rows, counted = np.zeros(n_samples), [], []
        trees = zip(
            forest.estimators_,
            forest.estimators_features_,
            samples,
            self._grown_from_,
            nodes.roots,
            strict=True,
        )
        for estimator, features, seen, grown_from, root in trees:
            tree = estimator.tree_
            ends = tree.apply(rows_of_features(rows, features))
            total += nodes.lengths[root:][ends]
            counted.append(tree.n_node_samples)
            if grown_from != these:  # before a warm start with other rows
                continue
            times = np.ones(len(seen), dtype=np.int64)
            if self.bootstrap:
                seen, times = np.unique(seen, return_counts=True)
            different = tree.n_node_samples[0] < times.sum()  # rows in the nodes
            in_nodes = times**0 if different else times
            own_rows.append((seen, ends[seen] + root, times, in_nodes))
        total /= norm
        if own_rows:
            seen, ends, times, in_nodes = map(
                np.concatenate, zip(*own_rows, strict=True)
            )
            without = lengths_without(
                nodes, np.concatenate(counted), rows, seen, ends, in_nodes
            )
            without /= fewer if fewer > 0 else norm
            # that no other repetition has been drawn
            alone = repetitions[seen] ** -times.astype(np.float64)
            change = alone * (without - nodes.lengths[ends] / norm)
            total += np.bincount(seen, change, minlength=n_samples)
        return 2 ** -(total / len(forest.estimators_))

    def _anomaly(self, X):
        rows = self._single(X)
        treewise = issparse(X) or X.shape[0] >= _TREEWISE_ROWS
        if is_torch(X) or not treewise:
            total = self._walked(path_lengths, rows, X)
        else:
            total = self._treewise_lengths(rows)
        if self._norm_ == 0:  # one row a tree: no path to compare with
            return namespace(X).ones_like(total) / 2
        return 2 ** -(total / self._norm_)

    def _map(self, X):
        if issparse(X):  # an element that is not stored has a part in paths, too
            return np.concatenate([self._map_of(X[rows]) for rows in blocks(*X.shape)])
        return self._map_of(X)

    def _map_of(self, X):
        rows = self._single(X)
        if issparse(X):
            X, rows = X.toarray(), rows.toarray() if issparse(rows) else rows
        if self._norm_ == 0:
            return namespace(X).zeros_like(X)
        roots = float(self._nodes_.lengths[self._nodes_.roots].sum())
        missing = (self._norm_ - roots) / X.shape[1]
        return (missing - self._walked(path_gains, rows, X)) / self._norm_

    def _walked(self, function, rows, X):
        """Return `function` of the nodes and rows, a block at a time, as exact as `X`.

        `rows` are what the trees see of `X`.
        """
        nodes = self._nodes_
        if is_torch(X):  # lengths in the dtype of the tensor
            kept = {"lengths", "gains"}
            moved = {
                name: like(part, X, dtype=None if name in kept else "keep")
                for name, part in nodes._asdict().items()
                if name != "depth" and part is not None
            }
            nodes = Nodes(**moved, depth=nodes.depth)
        size = X.shape[0], 8 * nodes.roots.shape[0], device_of(X)
        return namespace(X).concat(
            [function(nodes, rows[part]) for part in blocks(*size)]
        )

    def _treewise_lengths(self, X):
        total = np.zeros(X.shape[0])
        forest, nodes = self.forest_, self._nodes_
        trees = zip(
            forest.estimators_, forest.estimators_features_, nodes.roots, strict=True
        )
        for tree, features, root in trees:
            own = rows_of_features(X, features)
            total += nodes.lengths[root:][tree.tree_.apply(own)]
        return total

    @property
    def estimators_(self):
        """The trees."""
        return self._of_forest("estimators_")

    @property
    def estimators_features_(self):
        """The features that each tree was given."""
        return self._of_forest("estimators_features_")

    @property
    def estimators_samples_(self):
        """The training rows that each tree was given."""
        return self._of_forest("estimators_samples_")

    def _of_forest(self, name):
        if not hasattr(self, "forest_"):  # AttributeError is what hasattr asks for
            raise AttributeError(f"This IsolationForest is not fitted: no {name}.")
        return getattr(self.forest_, name)

"""Score ensemble: detectors of different kinds in one, with scores in one unit."""

from numbers import Integral
from typing import Any

import numpy as np

from skad._array import like, namespace, to_numpy
from skad._members import honest_anomalies, inspect_of, maps_of
from skad._moments import mean_and_deviation
from skad._parameters import KW_ONLY, with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval, StrOptions
from skad._validation import check_table
from skad.ensemble._base import NamedMembers, is_dropped
from skad.ensemble._feature_bagging import columns, draw_features, ranks
from skad.ensemble._local_competence import LocalCompetence

# Bounds of the local region's size, a tenth of the training rows (section 4.2 of [2]).
_LEAST_REGION, _LARGEST_REGION = 30, 100


def largest(values):
    """Return 1 where each row of `values` (n, m) is largest, the first time, else 0."""
    xp = namespace(values)
    places = like(np.arange(values.shape[1]), values, dtype="keep")
    return xp.astype(xp.argmax(values, axis=1)[:, None] == places, values.dtype)


def bucket_weights(values, buckets, combination):
    """Return the weights (n, m) of "aom" or "moa" over groups of members."""
    xp = namespace(values)
    weights = xp.zeros_like(values)
    if combination == "moa":
        means = [xp.mean(values[:, own], axis=1) for own in buckets]
        winner = largest(xp.stack(means, axis=1))  # (n, n_buckets)
    for j, own in enumerate(buckets):
        if combination == "moa":
            weights[:, own] = winner[:, j : j + 1] / len(own)
        else:
            weights[:, own] = largest(values[:, own]) / len(buckets)
    return weights


@with_parameters(kw_only=False)
class ScoreEnsemble(NamedMembers):
    r"""Samples that detectors of different kinds find anomalous together.

    With the anomalies :math:`a_j` of `m` members and their mean :math:`\mu_j` and
    standard deviation :math:`\sigma_j` over the training data, never over the samples
    that are scored, the anomaly is

    .. math:: a(x) = \sum_{j=1}^m w_j(x) z_j(x), \qquad
        z_j(x) = \frac{a_j(x) - \mu_j}{\sigma_j},

    where `combination` chooses the weights, which sum to 1. The map is the same sum
    over the members' maps, :math:`\sum_j w_j(x) M_j(x) / u_j`, where the unit
    :math:`u_j` is :math:`\sigma_j` for members whose map sums to their score, and for
    the others the standard deviation of their map's sum over the training samples. If
    all members are of the first kind the map sums to
    :math:`a(x) + \sum_j w_j(x) \mu_j / \sigma_j`.

    Read more in the :ref:`User Guide <ensemble>`.

    Parameters
    ----------
    detectors : list of (str, detector) or None, default=None
        Names and detectors: any of this package, or pipelines that end in one. They
        are cloned. A detector set to "drop" by ``set_params(name="drop")`` is left
        out. None is `KNN`, `IsolationForest` and `ECOD` with their defaults.
    combination : {"average", "maximum", "rank", "aom", "moa", "lscp"}, \
            default="average"
        "average" weights alike, or by `weights`. "maximum" takes the member with the
        largest :math:`z_j`. "rank" is the average with the share of training samples
        that are less anomalous to a member instead of :math:`z_j`; ties count half.
        "aom" is the average over `n_buckets` random groups of members of their largest
        :math:`z_j`, "moa" the largest of the groups' averages [1]_. "lscp" takes the
        members that are competent around the sample [2]_, see Notes.
    weights : array-like of shape (n_detectors,) or None, default=None
        Weights of the members, not negative, for "average" and "rank"; None is alike.
    n_buckets : int, default=2
        Groups of "aom" and "moa", at most as many as members.
    n_neighbors : int or None, default=None
        Nearest training samples in each subspace of "lscp". None is a tenth of the
        training samples, but from 30 to 100 as in the paper.
    n_subspaces : int, default=20
        Random subsets of the features, half to all but one, in which "lscp" looks for
        neighbours.
    truth : {"maximum", "average"}, default="maximum"
        What "lscp" takes for the truth about a training sample: the largest or the
        mean :math:`z_j`.
    n_bins : int or None, default=None
        None lets "lscp" weight all members by their competence, where it is positive,
        and alike where that of none is.
        A number, 10 in PyOD, averages the members whose competence is in
        the highest of so many equal parts of its range over all members.
    n_jobs : int or None, default=None
        Members fitted at a time, in threads unless a joblib context says otherwise;
        None is 1 unless in a joblib context, -1 all cores. The costliest begin first.
        Scoring uses the members' own parallelism.
    random_state : int, RandomState instance or None, default=None
        Draws groups and subspaces, and every `random_state` of the members that is
        None. Pass an int for reproducible results.

    Attributes
    ----------
    detectors_ : list of detectors
        The fitted members, without those that were dropped.
    means_ : ndarray of shape (n_members,)
        :math:`\mu_j`.
    deviations_ : ndarray of shape (n_members,)
        :math:`\sigma_j`; 1 for a member whose training scores are all equal.
    map_units_ : ndarray of shape (n_members,)
        :math:`u_j`.
    buckets_ : list of ndarray
        The members of each group, for "aom" and "moa".
    image_shape_ : tuple of int
        (height, width, channels) of pictures, for detectors on these.

    See Also
    --------
    FeatureBagging : One detector on many random subsets of the features.

    Notes
    -----
    Members get `X` as it is and check it themselves, so that they may be detectors on
    tables, on pictures, or on series; "lscp" needs a table. Costs are the sum of the
    members', and for the units one map of the training data from every member whose
    map does not sum to its score.

    ``contamination="auto"`` combines the anomalies of training samples that the members
    have not learned from, in the units of their training scores, where they have one
    for every sample. Members that do not (networks, pipelines, scikit-learn's) are
    fitted anew, all together, without a part of the samples.

    A score many deviations above the mean outweighs the others in an average, as one
    member does that scores on a steep scale. "rank" is not moved by that, but cannot
    tell apart what lies beyond all training samples.

    "lscp": the local region of a sample are the training samples that are among its
    `n_neighbors` nearest in more than half of the subspaces. A member's competence is
    Pearson's correlation of its :math:`z_j` with the pseudo ground truth over the
    region. The paper selects members (`n_bins`, with "maximum" its LSCP_AOM, and LSCP_M
    for many bins), of which there are many of one kind. Among few of different kinds
    that leaves about one, and was worse on small tables than all of them weighted. The
    paper's "largest bin" is read as the one of the largest correlations, so that the
    most competent member always counts; PyOD takes the bin with the most members,
    which may be the least competent. Neighbours are found in the
    units of the features: scale them first. Memory is `n_subspaces` times the
    training data.

    References
    ----------
    .. [1] C. C. Aggarwal and S. Sathe, "Theoretical foundations and algorithms for
       outlier ensembles", ACM SIGKDD Explorations 17(1), 2015.
    .. [2] Y. Zhao, Z. Nasrullah, M. K. Hryniewicki, Z. Li, "LSCP: Locally selective
       combination in parallel outlier ensembles", SIAM International Conference on
       Data Mining, 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.density import Mahalanobis
    >>> from skad.ensemble import ScoreEnsemble
    >>> from skad.marginal import ECOD
    >>> from skad.neighbors import KNN
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> X[:, 1] += X[:, 0]
    >>> members = [("knn", KNN()), ("gauss", Mahalanobis()), ("tails", ECOD())]
    >>> ensemble = ScoreEnsemble(members, contamination=0.02).fit(X)
    >>> ensemble.predict([[0.0, 0.0], [2.0, 2.0], [2.0, -2.0], [0.0, 6.0]])
    array([ 1,  1, -1, -1])
    >>> ensemble = ensemble.set_params(knn__n_neighbors=10, tails="drop").fit(X)
    >>> list(ensemble.named_detectors_)
    ['knn', 'gauss']
    """

    detectors: list[tuple[str, Any]] | None = None
    _: KW_ONLY
    combination: str = "average"
    weights: Any = None
    n_buckets: int = 2
    n_neighbors: int | None = None
    n_subspaces: int = 20
    truth: str = "maximum"
    n_bins: int | None = None
    n_jobs: int | None = None
    random_state: Seed = None

    _honesty = "its members'"
    _parameter_constraints = {
        "detectors": [list, None],
        "combination": [
            StrOptions({"average", "maximum", "rank", "aom", "moa", "lscp"})
        ],
        "weights": ["array-like", None],
        "n_buckets": [Interval(Integral, 1, None, closed="left")],
        "n_neighbors": [Interval(Integral, 2, None, closed="left"), None],
        "n_subspaces": [Interval(Integral, 1, None, closed="left")],
        "truth": [StrOptions({"maximum", "average"})],
        "n_bins": [Interval(Integral, 1, None, closed="left"), None],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def _check_parameters(self, X):
        super()._check_parameters(X)
        n_members = len(self._kept())
        if self.combination in ("aom", "moa") and self.n_buckets > n_members:
            raise ValueError(
                f"n_buckets={self.n_buckets} must be at most the number of members, "
                f"{n_members}."
            )
        if self.weights is not None:
            self._check_weights(len(self._all()))

    def _check_weights(self, n_detectors):
        weights = np.asarray(self.weights, dtype=float)
        if self.combination not in ("average", "rank"):
            raise ValueError(
                f"weights={self.weights!r} has no use in "
                f"combination={self.combination!r}, only in 'average' and 'rank'."
            )
        if weights.shape != (n_detectors,):
            raise ValueError(
                f"weights={self.weights!r} must be {n_detectors}, one per detector."
            )
        kept = [not is_dropped(member) for _, member in self._all()]
        if not (
            np.isfinite(weights).all() and weights.min() >= 0 < weights[kept].sum()
        ):
            raise ValueError(
                f"weights={self.weights!r} must be finite, not negative, and not all 0."
            )

    def _fit(self, X, y):
        random = generator(self.random_state)
        anomalies = self._fit_members(X, y, random)
        known = np.stack([to_numpy(part) for part in anomalies], axis=1)  # (n, m)
        known = known.astype(np.float64)
        self.means_, self.deviations_ = mean_and_deviation(known)
        self.map_units_ = self._map_units(X)
        self._learn_weights(known, X, random)
        return anomalies

    def _map_units(self, X):
        units = self.deviations_.copy()
        for j, member in enumerate(self.detectors_):
            if not getattr(member, "_map_sums_to_score", False):
                maps = to_numpy(maps_of(member, X)).astype(np.float64)
                totals = maps.reshape(len(maps), -1).sum(axis=1)
                units[j] = mean_and_deviation(totals[:, None])[1][0]
        return units

    def _learn_weights(self, known, X, random):
        """Learn from training anomalies (n, m) what `combination` needs."""
        m = known.shape[1]
        if self.combination == "rank":
            self._ordered_ = np.sort(known, axis=0).T.copy()  # (m, n)
        elif self.combination in ("aom", "moa"):
            parts = np.array_split(random.permutation(m), self.n_buckets)
            self.buckets_ = [np.sort(part) for part in parts]
        elif self.combination == "lscp":
            self._competence_ = self._local_competence(known, X, random)

    def _local_competence(self, known, X, random):
        from skad.neighbors._search import NeighborSearch

        X = check_table(self, X, reset=False)
        n, d = X.shape
        k = self.n_neighbors
        if k is None:
            k = min(n, max(_LEAST_REGION, min(_LARGEST_REGION, n // 10)))
        elif k > n:
            raise ValueError(f"n_neighbors={k} must be at most {n}, the samples of X.")
        searches = []
        for _ in range(self.n_subspaces):
            features = draw_features(d, random)
            bank = columns(X, features)
            search = NeighborSearch(bank, "euclidean", 2, "auto", None, None, k)
            searches.append((features, search))
        standard = (known - self.means_) / self.deviations_
        truth = {"maximum": np.max, "average": np.mean}[self.truth](standard, axis=1)
        return LocalCompetence(searches, standard, truth, k, self.n_bins)

    def _combined(self, anomalies, X):
        """Return the anomaly (n,) from those of the members, m times (n,)."""
        standard = values = self._standard(anomalies)
        xp = namespace(standard)
        if self.combination == "rank":
            pairs = zip(anomalies, self._ordered_, strict=True)
            values = xp.stack([ranks(*pair) for pair in pairs], axis=1)
        combined = xp.sum(self._weights(standard, X) * values, axis=1)
        if not xp.all(xp.isfinite(combined)):
            raise ValueError(
                "X has values too large for ScoreEnsemble: the standardised scores of "
                "its members overflow. Scale the features (StandardScaler)."
            )
        return combined

    def _seen_anomaly(self, X, anomaly):
        if isinstance(anomaly, list):  # the members', from `_fit`
            return self._combined(anomaly, X)
        return super()._seen_anomaly(X, anomaly)

    def _honest_anomaly(self, X, y, anomaly, **params):
        seen = anomaly if isinstance(anomaly, list) else None
        tables = (X for _ in self.detectors_)
        honest = honest_anomalies(self.detectors_, tables, y, seen)
        if honest is None:
            return super()._honest_anomaly(X, y, anomaly, **params)
        return self._combined(honest, X)

    def _standard(self, anomalies):
        """Return the standardised anomalies (n, m) of the members."""
        stacked = namespace(anomalies[0]).stack(anomalies, axis=1)
        return (stacked - like(self.means_, stacked)) / like(self.deviations_, stacked)

    def _weights(self, standard, X):
        """Return weights, (n, m) or (1, m), from standardised anomalies (n, m)."""
        if self.combination == "maximum":
            return largest(standard)
        if self.combination == "lscp":
            X = check_table(self, X, reset=False)
            return like(self._competence_.weights(X), standard)
        if self.combination in ("aom", "moa"):
            return bucket_weights(standard, self.buckets_, self.combination)
        return like(self._fixed_weights()[None, :], standard)

    def _fixed_weights(self):
        """Return the weights (m,) of "average" and "rank"."""
        weights = np.ones(len(self._all())) if self.weights is None else self.weights
        pairs = zip(self._all(), weights, strict=True)
        weights = np.array([w for (_, member), w in pairs if not is_dropped(member)])
        return weights / weights.sum()

    def _anomaly(self, X):
        return self._combined(self._anomalies(X), X)

    def _map(self, X):
        anomalies = None
        if self.combination not in ("average", "rank"):
            anomalies = self._anomalies(X)
        maps = (maps_of(member, X) for member in self.detectors_)
        return self._combined_maps(maps, anomalies, X)

    def _inspect(self, X):
        found = [inspect_of(member, X) for member in self.detectors_]
        anomalies = [-scores for scores, _ in found]
        maps = (one for _, one in found)
        return self._combined(anomalies, X), self._combined_maps(maps, anomalies, X)

    def _combined_maps(self, maps, anomalies, X):
        """Return the map from those of the members, weighted as their anomalies are."""
        if self.combination in ("average", "rank"):
            weights = self._fixed_weights()[None, :]
        else:
            weights = self._weights(self._standard(anomalies), X)
        total = None
        for j, own_maps in enumerate(maps):
            if total is not None and own_maps.shape != total.shape:
                raise ValueError(
                    f"detectors have maps of shapes {tuple(total.shape)} and "
                    f"{tuple(own_maps.shape)}, which cannot be added up."
                )
            own = like(weights[:, j] / self.map_units_[j], own_maps)
            part = own_maps * own.reshape(-1, *[1] * (own_maps.ndim - 1))
            total = part if total is None else total + part
        return total

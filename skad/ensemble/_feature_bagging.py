"""Feature bagging: one detector on many random subsets of the features."""

from numbers import Integral
from typing import Any

import numpy as np

from skad._array import is_torch, like, namespace
from skad._members import (
    anomaly_of,
    fit_members,
    honest_anomalies,
    map_of,
    seeded_clone,
)
from skad._parameters import KW_ONLY, with_parameters
from skad._random import Seed, generator
from skad._sklearn import HasMethods, Interval, StrOptions
from skad.base import BaseDetector


def columns(X, features):
    """Return some columns of `X` (n, d), contiguous in memory."""
    if is_torch(X):
        return X[:, like(features, X, dtype="keep")]
    return np.take(X, features, axis=1)


def draw_features(n_features, random):
    """Return a sorted random subset of between half and all but one of the features."""
    most = max(1, n_features - 1)
    size = random.randint(max(1, n_features // 2), most + 1)
    return np.sort(random.permutation(n_features)[:size])


@with_parameters(kw_only=False)
class FeatureBagging(BaseDetector):
    r"""Rows that are anomalous in many random subsets of the features.

    Each of `T` members is the same detector fitted on a subset :math:`F_t` of the
    features, drawn without replacement, whose size is drawn between half of the
    features and all but one. Irrelevant features are so kept out of some members. With
    the members' anomalies :math:`a_t`, the anomaly is

    .. math:: a(x) = \frac{1}{T} \sum_{t=1}^T a_t(x_{F_t}).

    The map is combined in the same way from the members' maps, where features that a
    member does not have get nothing from it: where the members' maps sum to their
    scores, this map sums to the score.

    Read more in the :ref:`User Guide <ensemble>`.

    Parameters
    ----------
    detector : detector, default=None
        What is fitted on each subset: any detector, or a pipeline that ends in one. It
        is cloned. None is ``LOF()``, the paper's choice.
    n_estimators : int, default=10
        Number of members `T`.
    combination : {"average", "cumulative", "maximum"}, default="average"
        "average" is above. "cumulative" is the paper's cumulative sum, `T` times the
        average, so that it ranks the same. "maximum" is the largest anomaly of a
        member, and that member's map.
    n_jobs : int or None, default=None
        Members fitted at a time, in threads unless a joblib context says otherwise;
        None is 1 unless in a joblib context, -1 all cores. Scoring uses the members'
        own parallelism.
    random_state : int, RandomState instance or None, default=None
        Draws the subsets and every `random_state` of the members. Pass an int for
        reproducible results.

    Attributes
    ----------
    estimators_ : list of detectors
        The fitted members.
    estimators_features_ : list of ndarray
        The features of each member, sorted.

    See Also
    --------
    IsolationForest : Trees on random features and rows.

    Notes
    -----
    Costs are `T` times the detector's. Scores are combined as they are, so the
    detector's anomalies should be comparable between subsets of different size, as
    local outlier factors are. The paper's breadth-first combination merges the
    members' rankings of a batch; a score that does not depend on its batch cannot. With
    one feature all members are the same; with two, each has one.

    The local outlier factor of a row beside more duplicates than it has neighbours is
    near 1e10, and duplicates grow more frequent with fewer features. On tables of few
    different values such members outweigh all others; take another detector there.

    ``contamination="auto"`` combines the anomalies of training rows that the members
    have not learned from, where they have one for every row. Members that do not
    (networks, pipelines, scikit-learn's) are fitted anew, all together, without a part
    of the rows.

    Members that are fitted at a time share the cores: each thread gets its part of
    them for OpenMP and torch.

    References
    ----------
    .. [1] A. Lazarevic and V. Kumar, "Feature bagging for outlier detection", ACM
       SIGKDD International Conference on Knowledge Discovery and Data Mining, 2005,
       section 3.

    Examples
    --------
    >>> from skad.ensemble import FeatureBagging
    >>> from skad.neighbors import KNN
    >>> X = [[0.0, 1.0], [0.1, 1.2], [-0.1, 0.9], [0.2, 1.1], [0.1, 5.0]]
    >>> bagging = FeatureBagging(KNN(n_neighbors=2), contamination=0.2, random_state=0)
    >>> bagging.fit(X).predict(X)
    array([ 1,  1,  1,  1, -1])
    >>> bagging.transform([[0.1, 5.0]]).round(2)
    array([[0.05, 1.95]])
    """

    detector: Any = None
    _: KW_ONLY
    n_estimators: int = 10
    combination: str = "average"
    n_jobs: int | None = None
    random_state: Seed = None

    _parameter_constraints = {
        "detector": [HasMethods(["fit", "score_samples", "transform"]), None],
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "combination": [StrOptions({"average", "cumulative", "maximum"})],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    _honesty = "its members'"

    @property
    def _map_sums_to_score(self):
        member = getattr(self, "estimators_", [self.detector])[0]
        return getattr(member, "_map_sums_to_score", False)

    def _row_elements(self):
        return 4 * self.n_features_in_

    def _fit(self, X, y):
        detector = self.detector
        if detector is None:
            from skad.neighbors import LOF

            detector = LOF()
        random = generator(self.random_state)
        subsets, members = [], []
        for _ in range(self.n_estimators):
            subsets.append(draw_features(X.shape[1], random))
            members.append(seeded_clone(detector, random))
        tables = (columns(X, own) for own in subsets)
        fitted = fit_members(self, members, tables, y, self.n_jobs)
        self.estimators_features_ = subsets
        self.estimators_ = []
        anomalies = []
        for member, anomaly in fitted:
            self.estimators_.append(member)
            anomalies.append(anomaly)
        return anomalies

    def _seen_anomaly(self, X, anomaly):
        if isinstance(anomaly, list):  # the members', from `_fit`
            return self._combined(anomaly, X)
        return super()._seen_anomaly(X, anomaly)

    def _honest_anomaly(self, X, y, anomaly, **params):
        seen = anomaly if isinstance(anomaly, list) else None
        tables = (columns(X, own) for own in self.estimators_features_)
        honest = honest_anomalies(self.estimators_, tables, y, seen)
        if honest is None:
            return super()._honest_anomaly(X, y, anomaly, **params)
        return self._combined(honest, X)

    def _combined(self, anomalies, X):
        """Return the combination of the members' anomalies, of shape (n,)."""
        xp = namespace(X)
        total = None
        for anomaly in anomalies:
            if total is None:
                total = anomaly
            elif self.combination == "maximum":
                total = xp.maximum(total, anomaly)
            else:
                total = total + anomaly
        return total / self.n_estimators if self.combination == "average" else total

    def _anomaly(self, X):
        return self._combined(self._anomalies(X), X)

    def _anomalies(self, X):
        for member, own in self._members():
            yield anomaly_of(member, columns(X, own))

    def _members(self):
        return zip(self.estimators_, self.estimators_features_, strict=True)

    def _map(self, X):
        xp = namespace(X)
        winner = None
        if self.combination == "maximum":
            winner = xp.argmax(xp.stack(list(self._anomalies(X))), axis=0)  # (b,)
        total = xp.zeros_like(X)
        for t, (member, own) in enumerate(self._members()):
            part = map_of(member, columns(X, own))
            if winner is not None:
                part = xp.where((winner == t)[:, None], part, 0.0)
            total[:, like(own, X, dtype="keep")] += part
        return total / self.n_estimators if self.combination == "average" else total

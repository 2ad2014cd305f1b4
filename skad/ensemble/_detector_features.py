"""Anomalies of detectors as features of whatever learns from labels."""

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skad._array import to_numpy
from skad._members import fit_members, honest_anomalies, seeded_clone
from skad._moments import mean_and_deviation
from skad._random import Seed, generator
from skad._sklearn import (
    OneToOneFeatureMixin,
    TransformerMixin,
    _fit_context,
)
from skad._validation import check_table
from skad.ensemble._base import NamesDetectors, scored


class DetectorFeatures(TransformerMixin, NamesDetectors):
    """What detectors say of each row, beside the row, for a classifier.

    Where some anomalies are known, a classifier finds more of them when it is told how
    anomalous detectors find each row that knew no labels [1]_. Each detector is fitted
    to the rows, and its anomaly, in units of its standard deviation over the training
    rows, is a feature.

    Read more in the :ref:`User Guide <ensemble>`.

    Parameters
    ----------
    detectors : list of (str, detector) or None, default=None
        Names and detectors, which are cloned. None is `KNN` with 5 and 20 neighbours,
        `LOF`, `HBOS` and `IsolationForest`.
    passthrough : bool, default=True
        Whether the features themselves come first.
    n_jobs : int or None, default=None
        Detectors fitted at a time, in threads unless a joblib context says otherwise.
    random_state : int, RandomState instance or None, default=None
        Draws every `random_state` of the detectors that is None. Pass an int for
        reproducible results.

    Attributes
    ----------
    detectors_ : list of detectors
        The fitted detectors.
    means_, deviations_ : ndarray of shape (n_detectors,)
        Of the detectors' anomalies over the training rows.
    n_features_in_ : int
        Number of features seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` has string names.

    See Also
    --------
    ScoreEnsemble : Puts them together without labels.

    Notes
    -----
    `fit_transform` gives training rows the anomalies that they have as new rows, where
    a detector can leave them out: what a classifier learns from them then holds for new
    rows. PyOD's `XGBOD` takes the scores of rows that are learned from.

    References
    ----------
    .. [1] Y. Zhao and M. K. Hryniewicki, "XGBOD: improving supervised outlier detection
       with unsupervised representation learning", International Joint Conference on
       Neural Networks, 2018.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skad.ensemble import DetectorFeatures
    >>> rng = np.random.default_rng(0)
    >>> X = np.r_[rng.normal(size=(200, 2)), 6 * rng.normal(size=(20, 2))]
    >>> y = np.repeat([1, -1], [200, 20])
    >>> features = DetectorFeatures(random_state=0)
    >>> model = make_pipeline(features, LogisticRegression()).fit(X, y)
    >>> model.predict([[0.0, 0.0], [9.0, -9.0]])
    array([ 1, -1])
    """

    _parameter_constraints = {
        "detectors": [list, None],
        "passthrough": ["boolean"],
        "n_jobs": [int, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        detectors: list[tuple[str, Any]] | None = None,
        *,
        passthrough: bool = True,
        n_jobs: int | None = None,
        random_state: Seed = None,
    ):
        self.detectors = detectors
        self.passthrough = passthrough
        self.n_jobs = n_jobs
        self.random_state = random_state

    def _all(self):
        if self.detectors is not None:
            return self.detectors
        from skad.ensemble._isolation_forest import IsolationForest
        from skad.marginal import HBOS
        from skad.neighbors import KNN, LOF

        return [
            ("knn5", KNN()),
            ("knn20", KNN(20)),
            ("lof", LOF()),
            ("hbos", HBOS()),
            ("isolation_forest", IsolationForest()),
        ]

    def fit(self, X, y=None) -> Self:
        """Fit the detectors.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows, with anomalies among them or without.
        y : array-like of shape (n_samples,), default=None
            Ignored: the detectors shall not know which rows are known.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        self._fit(X)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def _fit(self, X):
        """Fit the detectors; return the checked rows and their anomalies (n, m)."""
        X = check_table(self, X, reset=True)
        random = generator(self.random_state)
        names = [name for name, _ in self._all()]
        self._validate_names(names)
        members = [seeded_clone(one, random, True) for _, one in self._all()]
        tables = (X for _ in members)
        self.detectors_, seen = [], []
        for member, found in fit_members(
            self, members, tables, None, self.n_jobs, scored
        ):
            self.detectors_.append(member)
            seen.append(to_numpy(found))
        stacked = np.stack(seen, axis=1).astype(np.float64)
        self.means_, self.deviations_ = mean_and_deviation(stacked)
        return X, seen

    def fit_transform(self, X, y=None) -> Any:
        """Fit the detectors, and return what they say of the rows as if they were new.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Training rows.
        y : array-like of shape (n_samples,), default=None
            Ignored.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features_out)
            The features.
        """
        X, seen = self._fit(X)
        honest = []
        for member, found in zip(self.detectors_, seen, strict=True):
            left_out = honest_anomalies([member], [X], None, [found])
            honest.append(found if left_out is None else to_numpy(left_out[0]))
        return self._features(X, honest)

    def transform(self, X) -> Any:
        """Return what the detectors say of rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features_out)
            The features.
        """
        check_is_fitted(self)
        X = check_table(self, X, reset=False)
        return self._features(X, [scored(member, X) for member in self.detectors_])

    def _features(self, X, anomalies):
        X = to_numpy(X)
        anomalies = np.stack([to_numpy(one) for one in anomalies], axis=1)
        anomalies = (anomalies - self.means_) / self.deviations_
        parts = [X, anomalies] if self.passthrough else [anomalies]
        return np.concatenate([part.astype(X.dtype) for part in parts], axis=1)

    def get_feature_names_out(self, input_features=None) -> np.ndarray:
        """Return the names of the features, and then of the detectors.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Names of the features; those of `fit` if None.

        Returns
        -------
        names : ndarray of str
            One name a column.
        """
        check_is_fitted(self)
        own = [name for name, _ in self._all()]
        if not self.passthrough:
            return np.array(own, dtype=object)
        names = OneToOneFeatureMixin.get_feature_names_out(self, input_features)
        return np.append(names, own)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "detectors_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True  # which become dense
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

"""Weights of the training rows, which mean what repeating the rows would."""

from typing import Any, Self

import numpy as np

from skad._array import is_torch, to_numpy
from skad._cross_fitting import part_of, rows_of
from skad._dask import Blocks
from skad._limits import upper_limit, weighted_quantile
from skad._sklearn import _check_sample_weight, _fit_context


class SampleWeightMixin:
    """Gives `fit` weights of the rows, which `_fit` takes as `sample_weight`.

    They reach `_fit`, `_fit_offset` and `_honest_anomaly` only where `fit` got some,
    as an array (n,) of float64 above 0 beside an `X` without the rows of weight 0 (a
    kernel matrix keeps those, as its columns are the same rows). Weighted,
    `_honest_anomaly` returns one value for each row of `X` in its order, NaN where it
    has none. What repeating the rows means there is that one of a row's repetitions is
    left out and the others stay; of a weight below 1 all.
    """

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, sample_weight=None) -> Self:
        """Learn what is normal.

        Parameters
        ----------
        X : array-like, tensor or Dask collection of shape (n_samples, n_features)
            Training data, at least two rows. Dask where statistics of blocks add up.
        y : array-like of shape (n_samples,), default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            How often each row counts, in the threshold as well: whole numbers are
            repetitions of the row, 0 leaves it out. They add up to at least 2.

        Returns
        -------
        self : object
            The fitted detector.
        """
        forget = self._forgets()
        return self._learn(X, y, self._fit, forget=forget, **weighted(sample_weight))

    def fit_predict(self, X, y=None, sample_weight=None) -> Any:
        """Fit to `X` and return its labels.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            Training data.
        y : array-like of shape (n_samples,), default=None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Passed to `fit`.

        Returns
        -------
        labels : ndarray or tensor of shape (n_samples,), int64
            1 for normal samples and -1 for anomalies.
        """
        return self.fit(X, y, sample_weight=sample_weight).predict(X)

    def _take(self, X, y, params):
        X, y, params = super()._take(X, y, params)
        if "sample_weight" not in params:
            return X, y, params
        if isinstance(X, Blocks):
            raise ValueError(
                "sample_weight needs rows in memory, and X is a Dask collection: pass "
                "X.compute()."
            )
        weights = check_sample_weight(params["sample_weight"], X.shape[0])
        total = weights.sum()
        # what is fitted already goes on with any number of rows
        if total < 2 and not hasattr(self, "offset_"):
            raise ValueError(
                f"sample_weight counts repetitions of rows and adds up to {total:.3g}; "
                "at least 2 are needed. Weights that mean shares become counts by "
                "sample_weight / sample_weight.mean()."
            )
        rows = np.flatnonzero(weights)
        if len(rows) < len(weights) and not self.__sklearn_tags__().input_tags.pairwise:
            y = part_of(y, rows, len(weights))
            X, weights = rows_of(X, rows), weights[rows]
        return X, y, {**params, "sample_weight": weights}

    def _fit_offset(self, X, y, anomaly, **params):
        weights = params.get("sample_weight")
        if weights is None:
            return super()._fit_offset(X, y, anomaly, **params)
        if self.contamination == "auto":
            honest = to_numpy(self._honest_anomaly(X, y, anomaly, **params))
            known = ~np.isnan(honest)
            honest, weights = honest[known], weights[known]
            self._keep_honest(honest, weights)
            return -upper_limit(honest, self.false_alarm_rate, weights)
        anomaly = to_numpy(self._seen_anomaly(X, anomaly))
        self._keep_reference(anomaly, weights)
        return weighted_quantile(-anomaly, self.contamination, weights)


def check_sample_weight(sample_weight, n_samples):
    """Return how often each sample counts, (n,), float64 and at least 0, or raise."""
    if is_torch(sample_weight):
        sample_weight = to_numpy(sample_weight)
    rows = np.broadcast_to(0.0, (n_samples, 1))
    try:
        return _check_sample_weight(
            sample_weight, rows, dtype=np.float64, ensure_non_negative=True
        )
    except ValueError as error:
        weights = np.asarray(sample_weight)
        if weights.dtype.kind in "biuf" and np.all(weights <= 0):
            raise ValueError(
                "Invalid input - all samples have zero or negative weights."
            ) from error
        raise


def weighted(sample_weight):
    """Return the parameters of `_fit`: none where there are no weights."""
    return {} if sample_weight is None else {"sample_weight": sample_weight}

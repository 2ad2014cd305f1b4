"""Transformers of rows in groups, each of which is learned from by itself.

A class writes `_fit_group(label, x)` and `_transform_group(label, x)` for the rows
(t, c) of one group in their order, and what becomes of a label that `fit` has not seen,
`_unknown(label, x)`. Rows stay where they are.
"""

from typing import Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skad._array import to_numpy
from skad._group_rows import rows_by_label
from skad._parameters import with_parameters
from skad._sklearn import (
    BaseEstimator,
    OneToOneFeatureMixin,
    TransformerMixin,
    _fit_context,
)
from skad._validation import check_table


@with_parameters
class GroupTransformer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Base of transformers of rows in groups; the module says what a class writes.

    `groups` go with the rows, and pipelines pass them on by metadata routing, where
    they are requested unless `set_fit_request` and its like say otherwise.

    Attributes
    ----------
    groups_ : list
        The labels of the training groups; None is that of rows without `groups`.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where `X` has string names.
    """

    __metadata_request__fit = {"groups": True}
    __metadata_request__transform = {"groups": True}

    def _fit_group(self, label, x):
        """Learn from the rows (t, c) of a group."""
        raise NotImplementedError

    def _transform_group(self, label, x):
        """Return the rows (t, c) of a group that `fit` has seen, transformed."""
        raise NotImplementedError

    def _unknown(self, label, x):
        """Return the rows (t, c) of another group, transformed, or raise ValueError."""
        known = ", ".join(map(repr, self.groups_[:5]))
        known += ", ..." if len(self.groups_) > 5 else ""
        which = "groups is missing" if label is None else f"groups has {label!r}"
        raise ValueError(
            f"{which}, and this {type(self).__name__} was fitted to groups {known}."
        )

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, groups=None) -> Self:
        """Learn from each group by itself.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows, those of a series in order of time.
        y : array-like of shape (n_samples,), default=None
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            Which group each row belongs to; None is one group.

        Returns
        -------
        self : object
            The fitted transformer.
        """
        X = to_numpy(check_table(self, X, reset=True, allow_nan=True, min_samples=1))
        parts = rows_by_label(groups, X.shape[0])
        self.groups_ = list(parts)
        self._begin(X, parts)
        for label, own in parts.items():
            self._fit_group(label, X[own])
        return self

    def _begin(self, X, parts):
        """Learn from all rows (n, c), whose groups are {label: rows}."""

    def transform(self, X, groups=None) -> Any:
        """Transform each row as its group says.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows, those of a series in order of time.
        groups : array-like of shape (n_samples,), default=None
            Which group each row belongs to.

        Returns
        -------
        X : ndarray or frame of shape (n_samples, n_features)
            The transformed rows, in their order.
        """
        check_is_fitted(self)
        X = to_numpy(check_table(self, X, reset=False, allow_nan=True))
        result = np.empty(X.shape, dtype=X.dtype)
        known = set(self.groups_)
        for label, own in rows_by_label(groups, X.shape[0]).items():
            function = self._transform_group if label in known else self._unknown
            result[own] = function(label, X[own])
        return result

    def fit_transform(self, X, y=None, groups=None) -> Any:
        """Fit to `X` and transform it, as `fit` and then `transform`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The rows, those of a series in order of time.
        y : array-like of shape (n_samples,), default=None
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            Which group each row belongs to.

        Returns
        -------
        X : ndarray or frame of shape (n_samples, n_features)
            The transformed rows.
        """
        return self.fit(X, y, groups).transform(X, groups)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.sparse = tags.input_tags.allow_nan = True
        return tags

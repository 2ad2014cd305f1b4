"""Known outliers that come apart from the samples of the classes."""

from typing import Self

import numpy as np

from skad._array import like, namespace
from skad._fit_parameters import OutliersMixin, given
from skad._sklearn import _fit_context
from skad.ood._labels import split_labels


class OutlierLabelsMixin(OutliersMixin):
    """Gives `fit` outliers that are no rows of `X` beside the labels of classes."""

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, *, y_class=None, y_ood=None, X_outliers=None) -> Self:
        """Learn classes, and outliers that are of none.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            Training data; images as for other detectors.
        y : array-like of shape (n_samples,), default=None
            Class labels of any type. With `y_class` it is instead what it is for other
            detectors and for scorers: 1 in the distribution, -1 a known outlier.
        y_class : array-like of shape (n_samples,), default=None
            Class labels, where `y` is needed for inliers and outliers, as with
            ``scoring="roc_auc"``. The labels of outliers are not looked at.
        y_ood : array-like of shape (n_samples,), default=None
            -1 marks known outliers among the rows, where `y` are class labels.
        X_outliers : array-like or callable, default=None
            More known outliers, of shape (n_outliers, n_features); or a callable that
            returns them. A search cuts an array of exactly `n_samples` rows to its
            folds, a callable never. Steps of a Pipeline transform them where its
            `transform_input` names them.

        Returns
        -------
        self : object
            The fitted detector.
        """
        params = {"y_class": y_class, "y_ood": y_ood, **given(X_outliers=X_outliers)}
        return self._learn(X, y, self._fit, forget=self._forgets(), **params)

    def _joined(self, X, y, outliers, params):
        n, m = X.shape[0], outliers.shape[0]
        labels, known = split_labels(n, y, **params, others=True)
        if labels is not None:  # those of outliers are not looked at
            labels = np.concatenate([labels, np.repeat(labels[:1], m)])
        y_ood = np.concatenate([np.where(known, -1, 1), np.full(m, -1)])
        X = namespace(X).concat([X, like(outliers, X)])
        return X, labels, {"y_class": None, "y_ood": y_ood}

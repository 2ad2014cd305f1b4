"""What networks share that learn from few known anomalies among many other samples."""

from numbers import Real
from typing import Self

import numpy as np

from skad._fit_parameters import MasksMixin, OutliersMixin, check_masks, given
from skad._labels import need_anomalies
from skad._parameters import with_parameters
from skad._sklearn import Interval, _fit_context
from skad._training import ShapedDetector
from skad._training._schedules import clipped
from skad.nn.network import FromMeanNetwork


class Scorer(FromMeanNetwork):
    """A network with one number for each sample, high for anomalies."""

    # no known anomalies are held out
    unwatched_phases = ("fit",)


@with_parameters
class SupervisedDetector(OutliersMixin, ShapedDetector):
    """Base of networks that learn from known anomalies and samples without a label.

    Samples labelled 1 and 0 are the same to them. A `fit` without a known anomaly is
    refused: other detectors need none. Known anomalies are never held out, so that
    `patience` has no loss to watch, and all epochs are trained.

    Parameters
    ----------
    anomaly_share : float, default=0.5
        Share of each batch that is drawn from the known anomalies, with replacement.
    """

    anomaly_share: float = 0.5

    _uses_labels = True
    _exports = False  # their maps take gradients
    _fewest_anomalies = 1
    # How anomalies are given, beside labels.
    _more_ways = "fit(X, X_outliers=...)"
    _largest_norm = 1.0  # of all gradients together, as the authors of most clip it
    _parameter_constraints = {
        "anomaly_share": [Interval(Real, 0, 1, closed="neither")],
    }

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags

    def _anomaly_share(self):
        return self.anomaly_share

    def _own_callbacks(self, phase, n_epochs):
        return () if self._largest_norm is None else clipped(self._largest_norm)

    def _training_labels(self, X, y):
        labels = super()._training_labels(X, y)
        need_anomalies(self, labels, self._fewest_anomalies, self._more_ways)
        return labels


@with_parameters
class MarkedDetector(MasksMixin, SupervisedDetector):
    """Base of those that also learn from masks or boxes of known anomalies."""

    _more_ways = "fit(X, masks=...)"

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, X_outliers=None, masks=None, boxes=None) -> Self:
        """Learn what is normal and what is not.

        Parameters
        ----------
        X : array-like, tensor or files of shape (n_samples, height, width[, channels])
            Training pictures; also rows with `image_shape`.
        y : array-like of shape (n_samples,), default=None
            Labels: 1 normal, -1 a known anomaly, 0 unlabelled. Masks label unlabelled
            pictures.
        X_outliers : array-like or callable, default=None
            Pictures like those of `X` that are known anomalies, without masks; or a
            callable that returns them.
        masks : array-like of shape (n_samples, height, width), default=None
            What is anomalous in each picture: 1 where it is, 0 where it is not; NaN all
            over where only the label is known.
        boxes : list of array-like of shape (n_boxes, 4), default=None
            Instead of masks for each picture boxes (top, left, bottom, right) in
            pixels; None where only the label is known.

        Returns
        -------
        self : object
            The fitted detector.
        """
        params = given(X_outliers=X_outliers, masks=masks, boxes=boxes)
        return self._learn(X, y, self._fit, forget=self._forgets(), **params)

    def _joined(self, X, y, outliers, params):
        n, m = X.shape[0], outliers.shape[0]
        if params.get("boxes") is not None:
            params = {**params, "boxes": [*params["boxes"], *m * [None]]}
        if params.get("masks") is not None and self.image_shape_ is not None:
            shape = self.image_shape_[:2]
            known = check_masks(params["masks"], (n, *shape))
            unknown = np.full((m, *shape), np.nan, known.dtype)
            params = {**params, "masks": np.concatenate([known, unknown])}
        return super()._joined(X, y, outliers, params)

"""What networks share that learn from few known anomalies among many other samples."""

from numbers import Real

from skad._fit_parameters import OutliersMixin
from skad._parameters import with_parameters
from skad._sklearn import Interval
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
        found = 0 if labels is None else int((labels == -1).sum())
        if found < self._fewest_anomalies:
            raise ValueError(
                f"{type(self).__name__} learns from known anomalies and got {found} of "
                f"{self._fewest_anomalies}: fit(X, y) with y = -1 for them and 0 or 1 "
                f"for all other samples, or {self._more_ways}. Without any, take a "
                "detector that needs none, such as skad.IsolationForest."
            )
        if found == len(labels):
            raise ValueError(
                f"y is -1 for all samples: {type(self).__name__} learns how known "
                "anomalies differ from others, which are labelled 0 or 1."
            )
        return labels

"""What networks share that learn from few known anomalies among many other samples."""

from numbers import Real

import torch

from skad._fit_parameters import OutliersMixin
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad._training import ShapedDetector
from skad._training._schedules import clipped
from skad.nn.network import Network, integrated_gradients, over_channels


class Scorer(Network):
    """A network with one number for each sample, high for anomalies.

    Subclasses write `anomaly`. What an element adds to it is counted from the mean
    sample that is no known anomaly.
    """

    # no known anomalies are held out
    unwatched_phases = ("fit",)

    def __init__(self, shape):
        super().__init__()
        self.register_buffer("baseline", torch.zeros(shape))

    def finish(self, batches, held=None):
        """Keep the mean of the samples that are no known anomalies."""
        total, n = 0.0, 0
        for x, y in batches():
            others = x[y != -1]
            total, n = total + others.sum(0), n + len(others)
        self.baseline.copy_(total / max(n, 1))

    def map(self, x):
        """Return the integrated gradients of the anomaly from the mean sample."""
        baseline = self.baseline.expand_as(x)
        return over_channels(integrated_gradients(self.anomaly, x, baseline))


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
                "for all other samples, or fit(X, X_outliers=...). Without any, take a "
                "detector that needs none, such as skad.IsolationForest."
            )
        if found == len(labels):
            raise ValueError(
                f"y is -1 for all samples: {type(self).__name__} learns how known "
                "anomalies differ from others, which are labelled 0 or 1."
            )
        return labels

"""The threshold that `fit` sets, and the anomalies that it comes from."""

from typing import ClassVar

import numpy as np

from skad._array import to_numpy
from skad._cross_fitting import cross_fitted
from skad._dask import Blocks
from skad._limits import thinned, upper_limit, warn_of_equal_scores


class OffsetMixin:
    """Sets `offset_` as `contamination` and `false_alarm_rate` say.

    From anomalies of the training rows: seen, as new rows are scored, or honest, as if
    they had not been learned from. How those come about is a method's to say.
    """

    # Where scores for contamination="auto" come from, as the table of detectors says.
    _honesty: ClassVar[str] = "cross-fitting"

    _only_scores = False  # whether it is a copy whose threshold nobody asks for
    _keeps_honest = False  # whether a calibrator asks for the honest anomalies

    def _fit_offset(self, X, y, anomaly, **params):
        """Return the threshold.

        `X`, `y` and `params` are what `fit` got, `anomaly` is what `_fit` returned: of
        all training rows as `score_samples` would score them, or None. What the
        threshold was taken from is kept for reports, in a few values.
        """
        if self._only_scores:
            return 0.0
        if self.contamination == "auto":
            honest = to_numpy(self._honest_anomaly(X, y, anomaly, **params))
            return self._honest_offset(honest)
        # in float64, as scores are: else a quantile is rounded over the one below it
        anomaly = to_numpy(self._seen_anomaly(X, anomaly)).astype(np.float64)
        self._keep_reference(anomaly)
        return float(np.quantile(-anomaly, self.contamination))

    def _honest_offset(self, anomaly):
        """Return the threshold of honest anomalies (m,), and keep them for reports."""
        self._keep_honest(anomaly)
        return -max(self._limit(anomaly), self._least_limit())

    def _limit(self, anomaly):
        """Return what few new rows pass, of honest anomalies (m,) of normal ones."""
        return upper_limit(anomaly, self.false_alarm_rate)

    def _least_limit(self):
        """Return what the limit is at least, whatever honest anomalies there are."""
        return -np.inf

    def _keep_honest(self, anomaly, weights=None):
        """Keep of honest anomalies (m,) a few, and all for who asks for them."""
        self._keep_reference(anomaly, weights)
        if self._keeps_honest:
            self._honest_ = anomaly

    def _keep_reference(self, anomaly, weights=None):
        """Keep a few of the anomalies (m,) that set the threshold, and look at them."""
        self._reference_ = thinned(anomaly, weights)
        warn_of_equal_scores(self, anomaly)

    def _seen_anomaly(self, X, anomaly):
        """Return the anomaly (n,) of the training rows, as new rows are scored."""
        if anomaly is not None:
            return anomaly
        if isinstance(X, Blocks):
            return X.scored()
        return self._in_blocks(self._anomaly, X, progress="score")

    def _honest_anomaly(self, X, y, anomaly, **params):
        """Return the anomaly (m,) of normal rows as if they had not been learned from.

        A method that can leave a row out of what it learned overrides this, one whose
        scores of training rows leave them out returns `_seen_anomaly`. Where all rows
        have one (m = n) it is in their order.
        """
        return cross_fitted(self, X, y, params, anomaly)

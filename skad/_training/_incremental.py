"""Networks that learn from a stream: `partial_fit`, and what its threshold is of."""

from skad._array import like, to_numpy
from skad._incremental import IncrementalMixin, thinned
from skad._training._held_out import FEWEST_HELD


class IncrementalNetworkMixin(IncrementalMixin):
    """Adds `partial_fit`, one epoch a call, to a `TorchDetector`.

    With ``contamination="auto"`` the threshold of a stream comes from the rows that its
    pieces held out, at most `_SAMPLE_ROWS` spread evenly over all of them.
    """

    def _fit_offset(self, X, y, anomaly, **params):
        if self.contamination != "auto":
            return super()._fit_offset(X, y, anomaly, **params)
        held = self._trained_.held
        if held is not None:
            n_before = self.n_held_out_ - len(held)
            sample = getattr(self, "_held_sample_", (1, to_numpy(X[:0])))
            fresh = X[like(held, X, dtype="keep")]
            self._held_sample_ = thinned(sample, fresh, n_before, self._SAMPLE_ROWS)
        if self.n_held_out_ < FEWEST_HELD:
            return super()._fit_offset(X, y, anomaly, **params)
        vars(self).pop("_sample_", None)  # of rows that were trained on
        rows = like(self._held_sample_[1], X)
        anomaly = to_numpy(self._in_blocks(self._anomaly, rows, progress="score"))
        return self._honest_offset(anomaly)

    def _honest_anomaly(self, X, y, anomaly, **params):
        if self._trained_.in_stream:  # too few were held out by now
            return self._seen_anomaly(X, anomaly)
        return super()._honest_anomaly(X, y, anomaly, **params)

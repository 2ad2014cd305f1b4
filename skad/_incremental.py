"""Detectors that learn more rows: `partial_fit`, and the threshold of a stream."""

from typing import Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skad._array import like, to_numpy
from skad._sklearn import _fit_context


def thinned(sample, rows, n_before, most):
    """Return (stride, rows): every row of a stream, or every second, every fourth...

    Parameters
    ----------
    sample : tuple of int and ndarray
        What this returned of the rows before.
    rows : array or tensor of shape (n, ...)
        The rows that come next.
    n_before : int
        Rows that came before.
    most : int
        Rows to keep at most.
    """
    stride, kept = sample
    n = rows.shape[0]
    while len(kept) + len(range(-n_before % stride, n, stride)) > most:
        stride, kept = 2 * stride, kept[::2]
    fresh = to_numpy(rows[-n_before % stride :: stride])
    return stride, np.concatenate([kept, fresh])  # copies: rows are not kept alive


class IncrementalMixin:
    """Adds `partial_fit` to a detector whose `_add`, or `_fit`, adds to what is known.

    The threshold comes from all training rows after `fit`. A stream cannot be kept, so
    after `partial_fit` it comes from at most `_SAMPLE_ROWS` rows spread evenly over
    everything seen (every row, then every second, every fourth...). Where honest scores
    are a closed form they leave each of these rows out of all that is known; by
    cross-fitting they are of copies that are fitted to the other rows of the sample
    alone. The first row of a stream is its own threshold.
    """

    _SAMPLE_ROWS = 4096
    _goes_on = False  # whether `partial_fit` is at work

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None) -> Self:
        """Add rows to what is known as normal.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            More training data, at least one row. The threshold of the first few rows
            is no more than a beginning: after one row it is that row's own score, which
            most others may fall below, and it means what `contamination` or
            `false_alarm_rate` say from some twenty rows on.
        y : array-like of shape (n_samples,), default=None
            Ignored.

        Returns
        -------
        self : object
            The fitted detector.
        """
        return self._go_on(X, y)

    def _go_on(self, X, y, **params):
        """Learn more rows, of which the first may be one; `params` are as of `fit`."""
        self._goes_on = True
        try:
            return self._learn(X, y, self._add, forget=False, **params)
        finally:
            del self._goes_on

    def _fit_offset(self, X, y, anomaly, **params):
        n_rows, fresh_weights = X.shape[0], params.get("sample_weight")
        n_before = self._rows_before(n_rows, fresh_weights)
        sample = getattr(self, "_sample_", (1, to_numpy(X[:0])))
        self._sample_ = thinned(sample, X, n_before, self._SAMPLE_ROWS)
        weights = self._sample_weights(fresh_weights, sample[1])
        if weights is not None:
            fresh = np.ones(n_rows) if fresh_weights is None else fresh_weights
            kept = sample[0], weights
            kept = thinned(kept, fresh, n_before, self._SAMPLE_ROWS)
            self._sample_weights_, self._n_rows_ = kept[1], n_before + n_rows
            params["sample_weight"] = self._sample_weights_ if n_before else fresh
        if n_before:
            # labels are of the new rows
            X, y, anomaly = like(self._sample_[1], X), None, None
        if self.n_samples_seen_ == 1:  # nothing is known without it
            anomaly = to_numpy(self._seen_anomaly(X, anomaly))
            self._keep_reference(anomaly)
            return -float(anomaly[0])
        return super()._fit_offset(X, y, anomaly, **params)

    def _rows_before(self, n_rows, weights):
        """Return how many rows were seen before these `n_rows`."""
        if hasattr(self, "_n_rows_"):  # weights have been seen
            return self._n_rows_
        added = n_rows if weights is None else weights.sum()
        return round(self.n_samples_seen_ - added)

    def _sample_weights(self, fresh, rows):
        """Return the weights of the sample's rows, None as long as there are none."""
        if hasattr(self, "_sample_weights_"):
            return self._sample_weights_
        return None if fresh is None else np.ones(len(rows))

    def _check_mergeable(self, other):
        """Raise unless both are fitted, of one class, on as many features."""
        name = type(self).__name__
        check_is_fitted(self)
        if type(other) is not type(self):
            raise TypeError(f"other is a {type(other).__name__}, not a {name}.")
        check_is_fitted(other)
        if self.n_features_in_ != other.n_features_in_:
            raise ValueError(
                f"other has {other.n_features_in_} features, this {name} has "
                f"{self.n_features_in_}; only equal numbers can be merged."
            )

    def _merge_sample(self, other):
        """Take the other's sample of rows in, and set the threshold anew."""
        (stride, rows), (other_stride, other_rows) = self._sample_, other._sample_
        both = [getattr(one, "_sample_weights_", None) for one in (self, other)]
        weighted = any(weights is not None for weights in both)
        weights, other_weights = (
            np.ones(len(own)) if known is None else known
            for known, own in zip(both, (rows, other_rows), strict=True)
        )
        # thin both to one stride, a power of two, so that every row counts the same
        while stride < other_stride:
            stride, rows, weights = 2 * stride, rows[::2], weights[::2]
        step = stride // other_stride
        rows = np.concatenate([rows, other_rows[::step]])
        weights = np.concatenate([weights, other_weights[::step]])
        while len(rows) > self._SAMPLE_ROWS:
            stride, rows, weights = 2 * stride, rows[::2], weights[::2]
        self._sample_ = (stride, rows)
        params = {}
        if weighted:
            own = self.n_samples_seen_ - other.n_samples_seen_
            counts = getattr(self, "_n_rows_", own), other.n_samples_seen_
            self._n_rows_ = round(counts[0] + getattr(other, "_n_rows_", counts[1]))
            self._sample_weights_ = params["sample_weight"] = weights
        self.offset_ = super()._fit_offset(rows, None, None, **params)


class ForgettingMixin(IncrementalMixin):
    """Adds `partial_fit` to a detector that knows recent rows of a stream alone.

    The threshold comes from rows that are known, `_recent`, with which it moves.
    """

    _fit_forgets = True  # whether `fit` does too

    def _recent(self):
        """Return rows (m, d) of those that are known, or None where they stayed."""
        raise NotImplementedError

    def _fit_offset(self, X, y, anomaly, **params):
        if self.n_samples_seen_ == 1:  # nothing is known without it
            anomaly = to_numpy(self._seen_anomaly(X, anomaly))
            self._keep_reference(anomaly)
            return -float(anomaly[0])
        if self._goes_on or (self._fit_forgets and self.contamination == "auto"):
            recent = self._recent()
            if recent is None:
                return self.offset_
            X, y, anomaly = recent, None, None
        return super(IncrementalMixin, self)._fit_offset(X, y, anomaly, **params)

"""Detectors that score training rows as if each had not been learned from."""

from typing import ClassVar

from skad._dask import Blocks


class LeftOutMixin:
    """Thresholds from `_left_out`, a closed form, instead of copies fitted anew.

    The formulas take what is known, not the rows it is known from: after `partial_fit`
    and `merge` they hold for the sample of rows that is kept.
    """

    _honesty: ClassVar[str] = "leave one out"

    def _left_out(self, X):
        """Return the anomaly (b,) of training rows, each without itself."""
        raise NotImplementedError

    def _honest_anomaly(self, X, y, anomaly, **params):
        if isinstance(X, Blocks):
            return X.scored("_left_out")
        return self._in_blocks(self._left_out, X, progress="score")

"""Detectors that score training rows as if each had not been learned from."""

from typing import ClassVar

import numpy as np

from skad._array import like, namespace, to_double
from skad._dask import Blocks


class LeftOutMixin:
    """Thresholds from `_left_out`, a closed form, instead of copies fitted anew.

    The formulas take what is known, not the rows it is known from: after `partial_fit`
    and `merge` they hold for the sample of rows that is kept. A method that takes
    weights of the rows has a second parameter in `_left_out`, `once=1.0`: how much of
    each row is left out, one number or (b,).
    """

    _honesty: ClassVar[str] = "leave one out"

    def _left_out(self, X):
        """Return the anomaly (b,) of training rows, each without itself."""
        raise NotImplementedError

    def _honest_anomaly(self, X, y, anomaly, **params):
        if isinstance(X, Blocks):
            return X.scored("_left_out")
        once = np.minimum(params.get("sample_weight", 1.0), 1.0)
        if np.all(once == 1):
            return self._in_blocks(self._left_out, X, progress="score")
        rows = namespace(X).concat([X, like(once, X)[:, None]], axis=1)
        return self._in_blocks(
            lambda block: self._left_out(block[:, :-1], to_double(block[:, -1])),
            rows,
            progress="score",
        )

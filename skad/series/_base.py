"""The contract for series: rows are time steps, each with a value of every channel.

A method writes what `skad._grouped` asks for, on whole series `x` of shape (t, c); with
`_map_sums_to_score = True`, `_map(x)` of shape (t, c) is enough for the scores as well.
Methods over windows derive from `WindowedDetector`, which writes all of these.
"""

import numpy as np

from skad._grouped import GroupedDetector
from skad._parameters import with_parameters
from skad._validation import check_table


@with_parameters
class SeriesDetector(GroupedDetector):
    """Base of detectors on series of channels.

    Attributes
    ----------
    n_features_in_ : int
        Number of channels seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the channels, where `X` has string names.
    """

    _data = "series"
    _row = "time step"

    def _validate(self, X, *, reset):
        if hasattr(X, "to_frame") and not hasattr(X, "columns"):
            X = X.to_frame()  # a pandas or polars Series is one channel
        return check_table(self, X, reset=reset)

    def _no_rows(self):
        return np.empty((0, self.n_features_in_))

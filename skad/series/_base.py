"""The contract for series: rows are time steps, each with a value of every channel.

A method writes what `skad._grouped` asks for, on whole series `x` of shape (t, c); with
`_map_sums_to_score = True`, `_map(x)` of shape (t, c) is enough for the scores as well.
Methods over windows derive from `WindowedDetector`, which writes all of these. None of
them sees a missing value, but with `_skips_itself`.
"""

import warnings
from itertools import pairwise

import numpy as np

from skad._array import device_of, like, namespace, to_double, to_numpy
from skad._grouped import GroupedDetector
from skad._parameters import with_parameters
from skad._sklearn import StrOptions
from skad._validation import check_table
from skad.series._missing import (
    any_missing,
    channel_means,
    held,
    interpolated,
    whole_stretches,
)


@with_parameters
class SeriesDetector(GroupedDetector):
    """Base of detectors on series of channels.

    Parameters
    ----------
    missing : {"raise", "interpolate", "skip"}, default="raise"
        What NaN in `X` does. "raise" is an error. "interpolate" puts a value on the
        line between the known ones of the same channel and series before and after it,
        the nearest one at an end, and the mean of the training data where there is
        none; what was filled in counts as if it had been seen. `score_stream`, which
        does not look ahead, repeats the last value. "skip" parts the series at time
        steps with missing values: no window holds one, neither in training nor in
        scoring. These steps, and those between them that are too few for a window, get
        the median of the scores that set the threshold and a map of 0: they are no
        anomalies. No score is ever NaN.

    Attributes
    ----------
    n_features_in_ : int
        Number of channels seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the channels, where `X` has string names.
    """

    missing: str = "raise"

    _data = "series"
    _row = "time step"
    _skips_itself = False  # whether the method takes NaN where they are to be skipped
    _parameter_constraints = {"missing": [StrOptions({"raise", "interpolate", "skip"})]}

    def _validate(self, X, *, reset):
        if hasattr(X, "to_frame") and not hasattr(X, "columns"):
            X = X.to_frame()  # a pandas or polars Series is one channel
        X = check_table(self, X, reset=reset, allow_nan=True)
        if not self._takes_missing() and any_missing(X):
            raise ValueError(
                f"Input X contains NaN. {type(self).__name__} reads it with "
                "missing='interpolate' or missing='skip'."
            )
        return X

    def _takes_missing(self):
        return self.missing in ("interpolate", "skip")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = self._takes_missing()
        return tags

    # ------------------------------------------------------------------ missing values

    def _parts_series(self):
        """Tell whether series are parted where values are missing."""
        return self.missing == "skip" and not self._skips_itself

    def _take(self, X, y, params):
        if self.missing != "interpolate" and not self._parts_series():
            return X, y, params
        rows = self._series_rows(params.get("groups"), X.shape[0])
        if self.missing == "interpolate":
            self._means_ = channel_means(X)
            return interpolated(X, rows, self._means_), y, params
        self._parted_ = bool(any_missing(X[rows[-1]][-1:]))
        if not any_missing(X):
            return X, y, params
        there, groups = _joined(whole_stretches(X, rows, self._least_learned(X, rows)))
        if y is not None and len(to_numpy(y)) == X.shape[0]:  # else y is refused later
            y = to_numpy(y)[there]
        return X[like(there, X, dtype="keep")], y, {**params, "groups": groups}

    def _least_learned(self, X, rows):
        """Return the fewest steps of a stretch without missing values to learn from."""
        stretches = whole_stretches(X, rows)
        _joined(stretches)  # there are some
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the fit says it again
            self._settle([X[like(own, X, dtype="keep")] for own in stretches])
        return self._min_steps()[0]

    def _present(self, X, groups):
        if self.missing == "interpolate" and any_missing(X):
            rows = self._series_rows(groups, X.shape[0])
            return interpolated(X, rows, self._means_), groups, None
        if not self._parts_series() or not any_missing(X):
            return X, groups, None
        least = self._fewest_scored()
        rows = self._series_rows(groups, X.shape[0])
        there, parts = _joined(whole_stretches(X, rows, least))
        place = like(there, X, dtype="keep")

        def whole(found):
            """Return results of all rows from those of the ones that are there."""
            if isinstance(found, tuple):
                return tuple(whole(part) for part in found)
            fill = self._typical() if found.ndim == 1 else 0.0
            shape, device = (X.shape[0], *found.shape[1:]), device_of(found)
            result = namespace(found).full(
                shape, fill, dtype=found.dtype, device=device
            )
            result[place] = found
            return result

        return X[place], parts, whole

    def _typical(self):
        """Return the anomaly of a normal step, which one that is missing gets."""
        return float(np.median(self._reference_))

    def _start_stream(self, x):
        super()._start_stream(x)
        if self.missing == "interpolate":
            self._last_ = np.array(to_numpy(x[-1])) if len(x) else self._means_

    def _continue_stream(self, rows):
        if self.missing == "interpolate":
            rows = held(rows, self._last_)
            self._last_ = np.array(to_numpy(rows[-1]))
        elif self._parts_series():
            return self._continue_parts(rows)
        return super()._continue_stream(rows)

    def _continue_parts(self, rows):
        """Return the anomaly of rows of a stream, anew after missing ones."""
        gone = np.isnan(to_numpy(rows)).any(axis=1)
        bounds = [0, *(np.flatnonzero(np.diff(gone)) + 1), len(gone)]
        parts = []
        for start, stop in pairwise(bounds):
            part = rows[start:stop]
            if gone[start]:
                self._parted_ = True
                parts.append(to_double(part[:, 0] * 0.0))
                parts[-1][:] = self._typical()
                continue
            if self._parted_:
                self._start_stream(self._no_rows())
                self._parted_ = False
            parts.append(super()._continue_stream(part))
        return namespace(rows).concat(parts)

    def _no_rows(self):
        return np.empty((0, self.n_features_in_))


def _joined(stretches):
    """Return the rows of all stretches, and the number of the stretch of each."""
    if not stretches:
        raise ValueError(
            "Input X contains NaN too often for missing='skip': no time steps without "
            "it are enough for a window. Pass missing='interpolate'."
        )
    numbers = np.repeat(np.arange(len(stretches)), [len(own) for own in stretches])
    return np.concatenate(stretches), numbers

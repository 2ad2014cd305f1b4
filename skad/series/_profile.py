"""What the detectors by matrix profile share: channels, missing values, maps."""

from numbers import Integral

from skad._array import like, namespace, to_double
from skad._parameters import with_parameters
from skad._sklearn import Hidden, Interval, StrOptions
from skad.series._join import nearest, nearest_one
from skad.series._similarity import (
    Correlations,
    MeanDistances,
    UnitWindows,
    gaps,
    unit_windows,
)
from skad.series._windowed import WindowedDetector

# The shortest window with a shape: two steps can only go up or down.
_SHORTEST = 3


@with_parameters
class ProfileDetector(WindowedDetector):
    """Base of detectors by the distance to the nearest window of the same shape.

    `_join` gives the neighbours of windows in the columns of an index (b, p): one for
    each channel with channels="separate", one for all of them with "joint".

    Parameters
    ----------
    channels : {"separate", "joint"}, default="separate"
        With several channels, :math:`a_w` is the mean of the channels' distances: each
        to its own nearest window ("separate"), or all to the window whose mean distance
        is least ("joint").
    n_largest : int or None, default=None
        The means are over that many channels with the largest distances; None is all.
    missing : {"raise", "interpolate", "skip"}, default="raise"
        What NaN in `X` does: an error; a value on the line between those before and
        after it, as in :class:`WindowDetector`; or, channel by channel, windows with
        missing values are no neighbours and have no part in the anomaly of their steps,
        which is 0 where all have. "refuse", the former name of "raise", still works.
    device : str, default="auto"
        Where distances are computed: "cpu", a device of torch such as "cuda", or
        "auto", a tensor's own device and for arrays the GPU when the work is worth the
        trip.
    """

    channels: str = "separate"
    n_largest: int | None = None
    missing: str = "raise"
    device: str = "auto"

    _ignores_units = True
    _skips_itself = True
    _parameter_constraints = {
        "channels": [StrOptions({"separate", "joint"})],
        "n_largest": [Interval(Integral, 1, None, closed="left"), None],
        "missing": [
            StrOptions({"raise", "interpolate", "skip"}),
            Hidden(StrOptions({"refuse"})),
        ],
        "device": [str],
    }

    def _check_parameters(self, X):
        if self.n_largest is not None and self.n_largest > X.shape[1]:
            raise ValueError(
                f"n_largest={self.n_largest} must be at most the number of channels, "
                f"{X.shape[1]}."
            )

    def _fit_work(self, X):
        return X.shape[0] ** 2 * X.shape[1] * 100

    def _row_elements(self):
        # maps (b, l, c) take most; more windows make better products of matrices
        return max(1, self.n_features_in_ * self.window_size_ // 4)

    # -------------------------------------------------------------- the training series

    @property
    def _exclusion(self):
        return -(-self.window_size_ // 4)

    def _keep_series(self, series):
        """Keep the training series, centred, in one with missing steps in between."""
        if self.window_size_ < _SHORTEST:
            raise ValueError(
                f"window_size={self.window_size_} is too short to have a shape: it "
                f"must be at least {_SHORTEST}, in series of twice as many steps."
            )
        xp = namespace(series[0])
        whole = to_double(xp.concat(series))
        there = xp.isfinite(whole)
        count = xp.sum(xp.astype(there, whole.dtype), axis=0)
        total = xp.sum(xp.where(there, whole, 0.0), axis=0)
        self._centre_ = total / xp.clip(count, 1.0, None)
        self._series_, self._starts_ = self._in_a_row(series)
        parts = [unit_windows(values, self.window_size_) for values in self._series_]
        # (3, c, w): mean, inverse and mark
        self._moments_ = xp.stack(
            [xp.stack(list(column)) for column in list(zip(*parts, strict=True))[2:]]
        )

    def _in_a_row(self, series):
        """Return series (t, c) as one (c, t), and where each of them begins there."""
        xp = namespace(series[0])
        parts, starts, n = [], [], 0
        for x in series:
            x = self._prepared(x)
            starts.append(n)
            parts += [x, xp.full_like(x[:1], xp.nan)]
            n += x.shape[0] + 1
        whole = xp.concat(parts[:-1]).T
        return xp.stack(list(whole)), starts  # a copy in the order of the channels

    def _prepared(self, x):
        """Return `x` (t, c) in double precision, without the training mean."""
        x = to_double(x)
        return x - like(self._centre_, x)

    def _reference(self, x):
        """Return the training windows of each channel, where `x` lives."""
        series, moments = like(self._series_, x), like(self._moments_, x)
        return [
            UnitWindows(values, self.window_size_, *moments[:, i])
            for i, values in enumerate(series)
        ]

    def _queries(self, windows):
        """Return windows (b, l, c) as the UnitWindows of each channel."""
        return [
            unit_windows(windows[:, :, i], self.window_size_)
            for i in range(windows.shape[2])
        ]

    # ---------------------------------------------------------------------- the joining

    def _join(self, query, reference, k, **options):
        """Return the k-th nearest references of the queries, (b, p)."""
        xp = namespace(query[0].mean)
        if self.channels == "joint" and len(query) > 1:
            similarity = MeanDistances(query, reference, self.n_largest or len(query))
            return nearest(similarity, k, **options)[:, -1:]
        if k == 1:
            found = [
                nearest_one(*pair, **options)
                for pair in zip(query, reference, strict=True)
            ]
        else:
            found = [
                nearest(Correlations(*pair), k, **options)[:, -1]
                for pair in zip(query, reference, strict=True)
            ]
        return xp.stack(found, axis=1)

    def _parts(self, query, reference, index, rows=slice(None)):
        """Return what each element adds to the anomaly, (b, l, c), and the anomaly.

        The anomaly is the mean over the channels that are there; a window without a
        neighbour in any, for missing values, has the anomaly zero.
        """
        xp = namespace(index)
        maps, distances, there = [], [], []
        for i, pair in enumerate(zip(query, reference, strict=True)):
            squares, distance = gaps(*pair, index[:, min(i, index.shape[1] - 1)], rows)
            there.append(xp.isfinite(distance))
            known = there[-1] & (distance > 0)
            inverse = xp.where(known, 1 / xp.where(known, distance, 1.0), 0.0)
            maps.append(squares * inverse[:, None])
            distances.append(xp.where(known, distance, 0.0))
        distances = xp.stack(distances, axis=1)
        weights = self._weights(distances, xp.stack(there, axis=1))  # (b, c)
        anomaly = xp.sum(weights * distances, axis=1)
        return xp.stack(maps, axis=2) * weights[:, None], anomaly

    def _weights(self, distances, there):
        """Return what the channels' distances (b, c) count in the anomaly.

        Those that are not there are 0, so that the largest are among those that are.
        """
        xp = namespace(distances)
        n = self.n_largest or distances.shape[1]
        there = xp.astype(there, distances.dtype)
        count = xp.clip(xp.sum(there, axis=1), 1.0, float(n))[:, None]
        if n == distances.shape[1]:
            return there / count
        rank = xp.argsort(xp.argsort(-distances, axis=1), axis=1)
        return xp.where(rank < n, there / count, 0.0)

"""Left matrix profile: distance of every window to the nearest earlier one."""

import numpy as np

from skad._array import like, namespace, slices
from skad._parameters import with_parameters
from skad.series._profile import ProfileDetector
from skad.series._similarity import tile_side, unit_windows


def n_equal_steps(x, y):
    """Return how many first steps of two series (t, c) are equal."""
    n = min(x.shape[0], y.shape[0])
    xp = namespace(x)
    same = (x[:n] == y[:n]) | (xp.isnan(x[:n]) & xp.isnan(y[:n]))
    (other,) = xp.nonzero(~xp.all(same, axis=1))
    return int(other[0]) if other.shape[0] else n


@with_parameters
class LeftMatrixProfile(ProfileDetector):
    r"""Time steps in windows whose shape has not occurred before.

    A window :math:`w` of `l` steps has as anomaly the distance of its shape to the
    nearest earlier one,

    .. math:: a_w = \min_{v < w} \lVert \hat w - \hat v \rVert_2
        = \min_{v < w} \sqrt{2 l \, (1 - \rho(w, v))},

    where :math:`\hat w` is the window with mean 0 and deviation 1, :math:`\rho` the
    correlation, and :math:`v < w` are all training windows and those of the scored
    series that begin more than ``l / 4`` steps before :math:`w`. A step's anomaly is
    that of the window that ends there, unless `align` says another way;
    ``score_samples`` is :math:`-a`. The map is folded in the same way from the parts
    :math:`(\hat w_{ti} - \hat v_{ti})^2 / a_w` of the distances, but takes only the
    step's own, times `l`. See :class:`WindowDetector`.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    window_size : int, "auto" or "tsb", default="auto"
        Steps `l` of a window, at least 3; "auto" and "tsb" are the period, see
        :class:`WindowDetector`.
    stride : int, default=1
        Steps between the starts of windows that are scored, at most `window_size`. They
        are compared with all earlier windows.
    align : {"end", "mean", "center", "max"}, default="end"
        How windows give their anomaly to steps, see :class:`WindowDetector`. "end" is
        causal: no score depends on later steps, and `score_stream` goes on where it
        stopped.

    Attributes
    ----------
    device_ : str
        The device of the fit.

    See Also
    --------
    MatrixProfile : Compares with training windows before and after.

    Notes
    -----
    The first windows have nothing to be compared with: until there is a window that
    begins more than a quarter of a window earlier, and with "end" before the first
    whole window, the anomaly is 0. Then at first everything is new, and the anomaly is
    high: let `fit` have a history, or judge from the tenth part of a series on, as the
    benchmarks do. An anomaly that repeats is found the first time.

    A series that begins as a training series does is taken for that one, as far as
    both are equal, and is compared only with what came before it. So `fit` and
    `score_samples` agree on the training series, and a training series that goes on is
    scored as `score_stream` scores what is new. Its steps are kept, and a call costs
    O(n m l c) for `m` steps after `n`.

    Distances of constant windows are those of :class:`MatrixProfile`, and the profile
    is as exact as there.

    ``contamination="auto"`` takes the training steps as they are: each has been
    compared with its past alone, as new ones are. As the past grows, fewer new steps
    are flagged than asked for (.00 to .02 of a periodic series with noise).

    References
    ----------
    .. [1] C.-C. M. Yeh et al., "Matrix profile I: all pairs similarity joins for time
       series", ICDM, 2016, section III.F (STAMPI).
    .. [2] Y. Zhu et al., "Matrix profile VII: time series chains", ICDM, 2017,
       definition 7 (the left matrix profile).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import LeftMatrixProfile
    >>> X = np.sin(np.arange(300) / 3)[:, None]
    >>> detector = LeftMatrixProfile(window_size=20).fit(X[:200])
    >>> X[250:255] = 0.0
    >>> scores = detector.score_stream(X[200:])
    >>> bool(250 <= 200 + scores.argmin() <= 274)
    True
    """

    align: str = "end"

    _honesty = "past alone"

    def _fit_windows(self, series, labels):
        self._keep_series(series)
        self._lengths_ = [x.shape[0] for x in series]

    def _past_steps(self, n_seen):
        return n_seen

    def _honest_anomaly(self, X, y, anomaly, groups=None):
        # every step has been compared with its past alone
        return self._seen_anomaly(X, anomaly)

    # ---------------------------------------------------------------- what came earlier

    def _known_part(self, x):
        """Return which training series `x` begins as, and for how many steps."""
        known, n_steps = 0, 0
        series = like(self._series_, x).T
        for i, own in enumerate(self._own_rows()):
            n = n_equal_steps(x, series[own])
            if n > n_steps:
                known, n_steps = i, n
        return known, n_steps

    def _own_rows(self):
        return [
            slice(start, start + length)
            for start, length in zip(self._starts_, self._lengths_, strict=True)
        ]

    def _with_past(self, x, known, n_steps):
        """Return `x` (t, c) after all training steps that it does not begin with.

        `n_steps` says how many it begins with; None leaves out the training series and
        all that came after it.
        """
        xp = namespace(x)
        series, own = like(self._series_, x).T, self._own_rows()[known]
        if n_steps is None:
            parts = [series[: own.start]]
        else:
            # windows of steps that x begins with are windows of x
            fresh = own.start + max(0, n_steps - self.window_size_ + 1)
            parts = [series[: own.start], series[fresh : own.stop], series[own.stop :]]
        if n_steps is not None or own.start:
            parts.append(xp.full_like(x[:1], xp.nan))
        return xp.concat([*parts, x])

    def _parts_of(self, x, pieces):
        """Yield piece, first window, parts (b, l, c) and anomaly (b,) of blocks."""
        xp = namespace(x)
        known, n_steps = self._known_part(x)
        for i, piece in enumerate(pieces):
            starts = piece.starts()
            whole = int(np.searchsorted(starts, 0))
            if whole:  # windows that reach beyond the first step
                nothing = xp.zeros_like(x[:1, :1])
                nothing = xp.broadcast_to(
                    nothing, (whole, self.window_size_ * x.shape[1])
                )
                yield (
                    i,
                    0,
                    nothing.reshape(whole, self.window_size_, -1),
                    nothing[:, 0],
                )
            n_known = np.searchsorted(starts, n_steps - self.window_size_, "right")
            n_known = max(whole, int(n_known))
            for own, common in (
                (slice(whole, n_known), None),
                (slice(n_known, len(starts)), n_steps),
            ):
                for parts in self._blocks_of(x, starts[own], known, common):
                    yield i, own.start + parts[0], *parts[1:]

    def _blocks_of(self, x, starts, known, n_steps):
        if len(starts) == 0:
            return
        everything = self._with_past(x, known, n_steps)
        units = [
            unit_windows(everything[:, i], self.window_size_) for i in range(x.shape[1])
        ]
        rows = like(starts + everything.shape[0] - x.shape[0], x, dtype="keep")
        index = self._join(
            units, units, 1, exclusion=self._exclusion, past=True, rows=rows
        )
        for block in slices(len(starts), tile_side(x)):
            yield block.start, *self._parts(units, units, index[block], rows[block])

    # ----------------------------------------------------------------- scores and maps

    def _anomaly_from(self, x, begin):
        return super()._anomaly_from(self._prepared(x), begin)

    def _inspect(self, x):
        return super()._inspect(self._prepared(x))

    def _map(self, x):
        return super()._map(self._prepared(x))

    def _anomalies(self, x, pieces):
        return namespace(x).concat([part[-1] for part in self._parts_of(x, pieces)])

    def _visit(self, function, x, pieces, visit):
        # distances and their parts are found together
        found = []
        for i, first, maps, anomaly in self._parts_of(x, pieces):
            visit(maps, i, first, anomaly)
            found.append(anomaly)
        return namespace(x).concat(found)

"""Departure of windows within, or from, the signal subspace of a series."""

from numbers import Integral

import numpy as np

from skad._array import blocks, device_of, like, namespace, to_double, to_numpy
from skad._parameters import with_parameters
from skad._sklearn import Interval, RealNotInt, StrOptions
from skad.embedding._windows import sliding
from skad.series._windowed import WindowedDetector


def signal_subspace(windows, rank):
    """Return the directions (k, l) of the signal, strongest first.

    They are the first left singular vectors of the trajectory matrix, which has the
    windows as columns.

    Parameters
    ----------
    windows : list of arrays or tensors of shape (n, l)
        The windows, `n` of them in each.
    rank : int or float
        Number of directions; below 1 the share of the sum of squares that they have.
    """
    xp = namespace(windows[0])
    triangle = windows[0][:0]
    for piece in windows:
        for rows in blocks(*piece.shape, device_of(piece)):
            # a triangle with the products of the columns of all windows so far
            triangle = xp.linalg.qr(xp.concat([triangle, piece[rows]]))[1]
    _, values, directions = xp.linalg.svd(triangle, full_matrices=False)
    if rank < 1:
        squares = to_numpy(values) ** 2
        total = np.cumsum(squares)
        rank = 1 + np.count_nonzero(total[:-1] < rank * total[-1])
    return directions[: int(rank)]


@with_parameters
class PASAD(WindowedDetector):
    r"""Time steps in windows that leave the place of the training windows.

    The training windows of a channel are close to a subspace of few dimensions, that of
    the signal; what is outside is noise. With :math:`P` the projection on it and
    :math:`\bar w` the mean training window, a window :math:`w` has the anomaly

    .. math:: a_w = \lVert P (w - \bar w) \rVert^2
        \quad \text{("departure")}, \qquad
        a_w = \lVert (I - P) (w - \bar w) \rVert^2 \quad \text{("residual")},

    summed over the channels: how far it is from the middle of the signal, or from the
    subspace. A step's anomaly is that of the windows around it: their mean, unless
    `align` says another way; ``score_samples`` is :math:`-a`. The map is folded in the
    same way from the squared elements of the vectors above, but takes only the step's
    own, times `l`; with a window of one step it sums to the score. See
    :class:`WindowDetector`.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    rank : int or float, default=10
        Dimensions of the subspace, at most `window_size`; a float below 1 is the share
        of the training windows' sum of squares that it must hold.
    measure : {"departure", "residual"}, default="departure"
        "departure" is the paper's, for processes that stay near an operating point.
        "residual" is for signals that move through many states, such as heart beats,
        where every shape that other shapes do not make up is an anomaly.
    window_size : int, "auto" or "tsb", default="auto"
        Steps `l` of a window, the lag; "auto" and "tsb" are the period, see
        :class:`WindowDetector`. The paper's is half of the training series.
    stride : int, default=1
        Steps between the starts of windows that are scored, at most `window_size`.
    align : {"mean", "center", "end", "max"}, default="mean"
        How windows give their anomaly to steps, see :class:`WindowDetector`. "end" is
        causal, as in the paper.

    Attributes
    ----------
    components_ : list of ndarray of shape (rank, window_size_)
        The directions of the subspace of each channel.
    mean_ : ndarray of shape (window_size_, n_features_in_)
        The mean training window.

    See Also
    --------
    skad.subspace.PCAReconstruction : The same of any vectors, of windows in
        :class:`WindowDetector`.
    MatrixProfile : Distance to the nearest window.

    Notes
    -----
    `fit` costs O(n l^2) a channel and scoring O(n l r). As in the paper the trajectory
    matrix is not centred, so that the level is a direction of the signal and a change
    of level a departure. Channels add up as they are: bring them to one scale first.

    On the two blood pressure series of the benchmark "departure" finds
    nothing and "residual" is among the best.

    ``contamination="auto"`` takes stretches of time that the subspace is learned
    without. A departure changes slowly, so that a few periods say little of it: of
    series of 80 periods with noise it flagged .002 to .30 of new steps, .06 on average,
    "residual" .03.

    What is normal may change after training, and is flagged then: .22 of the rest
    of an electrocardiogram (ECG805) after its first 1,100 steps, and .22 of NAB's taxi
    rides after 2,352; learned from as many steps of the whole time .12 and .02.

    References
    ----------
    .. [1] W. Aoudi, M. Iturbe, M. Almgren, "Truth will out: departure-based
       process-level detection of stealthy attacks on control systems", ACM CCS, 2018,
       section 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import PASAD
    >>> X = 1 + 0.1 * np.sin(np.arange(300) / 3)[:, None]
    >>> detector = PASAD(rank=3, window_size=20).fit(X[:200])
    >>> X[250:270] += 0.5
    >>> bool(250 <= detector.score_samples(X).argmin() <= 270)
    True
    """

    rank: float = 10
    measure: str = "departure"

    _parameter_constraints = {
        "rank": [
            Interval(Integral, 1, None, closed="left"),
            Interval(RealNotInt, 0, 1, closed="neither"),
        ],
        "measure": [StrOptions({"departure", "residual"})],
    }

    @property
    def _map_sums_to_score(self):
        return getattr(self, "window_size_", None) == 1

    def _fit_windows(self, series, labels):
        size = self.window_size_
        if self.rank > size:
            raise ValueError(
                f"rank={self.rank} must be at most window_size, here {size}."
            )
        n_windows = sum(x.shape[0] - size + 1 for x in series)
        if self.rank > n_windows:
            raise ValueError(
                f"rank={self.rank} must be at most the number of training windows, "
                f"{n_windows} of window_size={size}."
            )
        views = [sliding(to_double(x), size) for x in series]  # (n, l, c)
        xp = namespace(views[0])
        total = sum(xp.sum(view, axis=0) for view in views)
        self.mean_ = total / n_windows
        self.components_ = []
        channels = range(self.n_features_in_)
        for i in self._steps(channels, "channels", len(channels)):
            directions = signal_subspace([view[:, :, i] for view in views], self.rank)
            self.components_.append(to_numpy(directions))

    def _window_map(self, windows):
        windows = to_double(windows)
        xp = namespace(windows)
        parts = []
        for i, directions in enumerate(self.components_):
            directions = like(directions, windows)
            centred = windows[:, :, i] - like(self.mean_[:, i], windows)
            inside = (centred @ directions.T) @ directions
            part = inside if self.measure == "departure" else centred - inside
            parts.append(part**2)
        return xp.stack(parts, axis=2)

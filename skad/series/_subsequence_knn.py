"""Nearest windows."""

from numbers import Integral

from skad._parameters import with_parameters
from skad._sklearn import Interval, StrOptions
from skad.neighbors import KNN
from skad.series._neighbor_windows import NeighborWindows


@with_parameters
class SubsequenceKNN(NeighborWindows):
    r"""Time steps in windows that resemble no training window.

    A window :math:`w` of `l` steps and `c` channels has as anomaly its distance to the
    `k`-th nearest training window (never itself, nor one that starts near it),

    .. math:: a_w = d_k(w) = \lVert w - w^{(k)} \rVert_2,

    and a step that of the windows around it: their mean, unless `align` says another
    way. ``score_samples`` is :math:`-a`. The map is folded from the parts
    :math:`(w_{ti} - w^{(k)}_{ti})^2 / d_k(w)` of the distances in the same way, but
    takes only the step's own, times `l`; with a window of one step it sums to the
    score. See :class:`WindowDetector`.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    n_neighbors : int, default=5
        Number of neighbours `k`, less than the number of training windows.
    method : {"largest", "mean", "median", "weighted"}, default="largest"
        How the `k` distances make the anomaly, see :class:`~skad.neighbors.KNN`.
    device : str, default="auto"
        Where distances are computed: "cpu", a device of torch such as "cuda", or
        "auto", a tensor's own device and for arrays the GPU when the work is worth the
        trip.

    Attributes
    ----------
    detector_ : KNN
        Nearest neighbours among the training windows.
    device_ : str
        The device of the fit.

    See Also
    --------
    MatrixProfile : Distance to the nearest window that does not overlap.
    SubsequenceLOF : Compares the distance with that of the neighbours.

    Notes
    -----
    Scoring costs O(n m l c) for `n` steps and `m` training windows, training windows
    twice that. The benchmark [2]_ has ``n_neighbors=50``, ``normalize="window"``,
    ``align="center"``, ``exclude=0`` and the period of the second highest peak of the
    autocorrelation; with these its figures come out.

    Windows that overlap one are like it, whatever it shows: with ``exclude=0`` an
    anomaly in the training series is near to itself a few steps on, and passes for
    normal the longer it is.

    ``contamination="auto"`` takes stretches of time, of which no step is in a window
    that a copy learns from.

    What is normal may change after training, and is flagged then: .15 of the rest
    of an electrocardiogram (ECG805) after its first 1,100 steps, and .09 of NAB's taxi
    rides after 2,352; learned from as many steps of the whole time 0 and 0.

    References
    ----------
    .. [1] S. Ramaswamy, R. Rastogi, K. Shim, "Efficient algorithms for mining outliers
       from large data sets", SIGMOD, 2000, definition 1.
    .. [2] Q. Liu and J. Paparrizos, "The elephant in the room: towards a reliable
       time-series anomaly detection benchmark", NeurIPS Datasets and Benchmarks, 2024
       (Sub-KNN).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import SubsequenceKNN
    >>> X = np.sin(np.arange(200) / 3)[:, None]
    >>> X[120:123] = 0
    >>> detector = SubsequenceKNN(n_neighbors=5, window_size=10).fit(X)
    >>> int(detector.score_samples(X).argmin())
    120
    """

    n_neighbors: int = 5
    method: str = "largest"
    device: str = "auto"

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "method": [StrOptions({"largest", "mean", "median", "weighted"})],
        "device": [str],
    }

    def _fit_work(self, X):
        return X.shape[0] ** 2 * X.shape[1]

    def _head(self):
        return KNN(self.n_neighbors, method=self.method)

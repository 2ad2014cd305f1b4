"""Local outlier factor of windows."""

from numbers import Integral

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.neighbors import LOF
from skad.series._neighbor_windows import NeighborWindows


@with_parameters
class SubsequenceLOF(NeighborWindows):
    r"""Time steps in windows that lie in thinner surroundings than their neighbours'.

    A window :math:`w` has as anomaly its local outlier factor among the training
    windows that do not start near it (see :class:`~skad.neighbors.LOF`),

    .. math:: a_w = \frac{1}{k} \sum_{y \in N(w)} lrd(y) \; / \; lrd(w),

    and a step that of the windows around it: their mean, unless `align` says another
    way. ``score_samples`` is :math:`-a`. The map is folded from the windows' maps in
    the same way, but takes only the step's own part, times `l`; with a window of one
    step it sums to the score. See :class:`WindowDetector`.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    n_neighbors : int, default=30
        Number of neighbours `k`. With fewer training windows apart from one it warns
        and takes these.
    device : str, default="auto"
        Where distances are computed: "cpu", a device of torch such as "cuda", or
        "auto", a tensor's own device and for arrays the GPU when the work is worth the
        trip.

    Attributes
    ----------
    detector_ : LOF
        The local outlier factor among the training windows.
    device_ : str
        The device of the fit.

    See Also
    --------
    SubsequenceKNN : The distance alone.

    Notes
    -----
    `fit` costs O(m^2 l c) for `m` training windows, scoring O(n m l c) for `n` steps.
    The benchmark [2]_ has ``normalize="window"``, ``align="center"``, ``exclude=0`` and
    the period of the second highest peak of the autocorrelation; with these its figures
    come out.

    ``contamination="auto"`` takes stretches of time, of which no step is in a window
    that a copy learns from.

    What is normal may change after training, and is flagged then: .09 of the rest
    of an electrocardiogram (ECG805) after its first 1,100 steps, and .19 of NAB's taxi
    rides after 2,352; learned from as many steps of the whole time 0 and 0.

    References
    ----------
    .. [1] M. M. Breunig, H.-P. Kriegel, R. T. Ng, J. Sander, "LOF: identifying
       density-based local outliers", SIGMOD, 2000, definitions 5 to 7.
    .. [2] Q. Liu and J. Paparrizos, "The elephant in the room: towards a reliable
       time-series anomaly detection benchmark", NeurIPS Datasets and Benchmarks, 2024
       (Sub-LOF).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import SubsequenceLOF
    >>> X = np.sin(np.arange(200) / 3)[:, None]
    >>> X[120] = 3
    >>> detector = SubsequenceLOF(window_size=10).fit(X)
    >>> int(detector.score_samples(X).argmin())
    120
    """

    n_neighbors: int = 30
    device: str = "auto"

    _parameter_constraints = {
        "n_neighbors": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
    }

    def _fit_work(self, X):
        return X.shape[0] ** 2 * X.shape[1]

    def _head(self):
        return LOF(self.n_neighbors)

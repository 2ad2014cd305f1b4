"""Any detector on vectors, carried to the windows of a series."""

from typing import Any

from skad._parameters import with_parameters
from skad._sklearn import HasMethods
from skad.series._base import SeriesDetector
from skad.series._neighbor_windows import NeighborWindows


@with_parameters(kw_only=False)
class WindowDetector(NeighborWindows):
    r"""Time steps in windows that another detector finds anomalous.

    The `l` steps by `c` channels of each window :math:`w` are a vector to `detector`,
    which gives it the anomaly :math:`a_w`. A step's anomaly is, with `align`,

    .. math:: a(t) = \frac{1}{|W_t|} \sum_{w \in W_t} a_w

    over the windows :math:`W_t` that cover the step ("mean"), the largest of these
    ("max"), that of the window with its centre there ("center") or that of the window
    that ends there ("end"). ``score_samples`` is :math:`-a`. The map is folded in the
    same way from the detector's map :math:`m_w` of the same windows, but takes only
    what a window's map says of the step itself, times `l`:

    .. math:: m(t, i) = \frac{l}{|W_t|} \sum_{w \in W_t} m_w(t, i).

    So it is sharper than the score: the score spreads a window's anomaly evenly over
    its steps, the map puts it at the steps and channels it came from. Where the
    detector's map sums to its anomaly, the totals of both over a window are the same,
    and with a window of one step the map sums to the score.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    detector : detector, default=None
        What looks at windows: any detector of skad on vectors, one of scikit-learn's
        with `score_samples`, or a pipeline that ends in one. It is cloned. None is
        ``KNN()``.
    stride : int, default=1
        Steps between the starts of windows, in `fit` and in scoring, at most
        `window_size`. The last window of a series is always looked at, but with
        "end".
    align : {"mean", "center", "end", "max"}, default="mean"
        How windows give their anomaly to steps, see above. "end" is causal: no score
        depends on later steps, and `score_stream` goes on where it stopped. There, a
        step between the ends of two windows takes the earlier, and the windows of the
        first ``l - 1`` steps see the first row repeated before it.
    normalize : {"none", "z", "window"}, default="none"
        "z" brings each channel of each window to mean 0 and deviation 1, so that only
        the shape counts; a constant channel becomes zero. "window" does so with all
        channels of a window together: a channel that hardly varies stays small.
    max_windows : int or "auto", default="auto"
        Windows to learn from; of more, as many are taken evenly over all series.
        "auto" is as many as hold 2**25 values (256 MB of float64).
    exclude : float, default=0.5
        Where `detector` is `KNN` or `LOF`, or a pipeline ends in it: share of a window,
        at most 1, so that training windows that start at most so many steps from one
        are no neighbours of it, nor is it itself. Other detectors take no notice.

    Attributes
    ----------
    detector_ : detector
        The detector, fitted on windows as rows: step by step, each with its channels.

    See Also
    --------
    SubsequenceKNN : Distance to the nearest windows.
    SubsequenceLOF : Local outlier factor of windows.
    KMeansAD : Distance to the nearest mean window.

    Notes
    -----
    Windows are views of the series, copied a block at a time when they are scored, and
    nothing is scaled or ranked by the rows being scored. Time is linear in the steps
    if the detector's is. Steps farther than a window from where a series is cut keep
    their scores, with "end" all steps before the cut do. Several series go in one call
    with `groups`; no window crosses from one to another. Windows are labelled for
    detectors that use labels: -1 with any known anomaly among the steps, 1 if all are
    normal, else 0.

    A detector without a map, as scikit-learn's, has scores only: `transform` raises an
    AttributeError.

    What is normal may change after training, and is flagged then: with `KNN`, .15 of
    the rest of an electrocardiogram (ECG805) after its first 1,100 steps, none after as
    many of the whole time.

    References
    ----------
    .. [1] S. Schmidl, P. Wenig, T. Papenbrock, "Anomaly detection in time series: a
       comprehensive evaluation", PVLDB, 2022, section 3.1 (windows, and the way back).
    .. [2] Q. Liu and J. Paparrizos, "The elephant in the room: towards a reliable
       time-series anomaly detection benchmark", NeurIPS Datasets and Benchmarks, 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.neighbors import KNN
    >>> from skad.series import WindowDetector
    >>> X = np.sin(np.arange(200) / 3)[:, None]
    >>> X[120:123] = 0
    >>> detector = WindowDetector(KNN(), window_size=10, contamination=0.05)
    >>> np.flatnonzero(detector.fit_predict(X) == -1)
    array([116, 117, 118, 119, 120, 121, 122, 123, 124, 125])
    >>> int(detector.transform(X).argmax())
    120
    """

    detector: Any = None

    _parameter_constraints = {
        "detector": [HasMethods(["fit", "score_samples"]), None],
    }

    def _head(self):
        if self.detector is None:
            from skad.neighbors import KNN

            return KNN()
        return self.detector

    def _check_parameters(self, X):
        if isinstance(self.detector, SeriesDetector):
            raise ValueError(
                f"detector={type(self.detector).__name__} looks at series itself; pass "
                "a detector on vectors."
            )

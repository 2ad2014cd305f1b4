"""The window that is farthest from all others."""

from skad._parameters import with_parameters
from skad.neighbors import KNN
from skad.series._neighbor_windows import NeighborWindows


@with_parameters
class Discord(NeighborWindows):
    r"""Time steps in windows that are like no other window, level and size included.

    A window :math:`w` has as anomaly its distance to the nearest training window that
    does not start near it,

    .. math:: a_w = \min_{|v - w| > l / 2} \lVert w - v \rVert_2,

    which is largest for the discord of the series. A step's anomaly is that of the
    windows around it: their mean, unless `align` says another way. ``score_samples`` is
    :math:`-a`. The map is folded from the parts :math:`(w_{ti} - v_{ti})^2 / a_w` of
    the distances in the same way, but takes only the step's own, times `l`; with a
    window of one step it sums to the score. See :class:`WindowDetector`.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    device : str, default="auto"
        Where distances are computed: "cpu", a device of torch such as "cuda", or
        "auto", a tensor's own device and for arrays the GPU when the work is worth the
        trip.

    Attributes
    ----------
    detector_ : KNN
        The nearest neighbour among the training windows.
    device_ : str
        The device of the fit.

    See Also
    --------
    MatrixProfile : The same of shapes, whatever their level and size.
    SubsequenceKNN : With more neighbours, for anomalies that come twice.

    Notes
    -----
    The paper brings each window to mean 0 and deviation 1, which is
    ``normalize="z"``, and leaves out all windows that overlap, ``exclude=1``.
    Scoring costs O(n m l c) for `n` steps and `m` training windows.

    ``contamination="auto"`` takes stretches of time, of which no step is in a window
    that a copy learns from. What is normal may change after training, and is flagged
    then: .14 of the rest of an electrocardiogram (ECG805) after its first 1,100 steps,
    .10 of NAB's taxi rides after 2,352, none of another electrocardiogram (UCR 135).

    References
    ----------
    .. [1] E. Keogh, J. Lin, A. Fu, "HOT SAX: efficiently finding the most unusual time
       series subsequence", ICDM, 2005, definitions 4 and 5.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import Discord
    >>> X = np.sin(np.arange(200) / 3)[:, None]
    >>> X[120:123] = 0
    >>> detector = Discord(window_size=10).fit(X)
    >>> bool(115 <= detector.score_samples(X).argmin() <= 125)
    True
    """

    device: str = "auto"

    _parameter_constraints = {"device": [str]}

    def _fit_work(self, X):
        return X.shape[0] ** 2 * X.shape[1]

    def _head(self):
        return KNN(1)

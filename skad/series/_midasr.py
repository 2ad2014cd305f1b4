"""Bursts of the same edge, or of edges of the same node, in a stream."""

from numbers import Real

import numpy as np

from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.series._edges import EdgeDetector, edge_keys


@with_parameters
class MIDASR(EdgeDetector):
    r"""Edges that come in a burst with their source, their destination or themselves.

    Rows are the edges of a growing graph in order of time: source, destination, time.
    With :math:`n` for how often something has come in :math:`t` ticks and :math:`a` for
    how often lately, its burst is

    .. math:: b = \left(a - \frac{n}{t}\right)^2 \frac{t^2}{n \, (t - 1)},

    and the anomaly of an edge is the largest of the bursts of its source, of its
    destination and of itself. Lately is the present tick and, times :math:`\alpha` for
    every tick since in which there was an edge, those before. ``score_samples`` is
    :math:`-a`. The map has these bursts: of the nodes in their columns, of the edge in
    the column of the time; its largest is the anomaly.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    decay : float, default=0.5
        What remains of the recent counts when a tick begins, :math:`\alpha`. With 0
        only the present tick is recent, as in :class:`MIDAS`.

    Attributes
    ----------
    n_samples_seen_ : int
        Edges learned.
    n_features_in_ : int
        Number of columns seen in `fit`.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where `X` has string names.

    See Also
    --------
    MIDAS : Looks at the edge alone, and states how streams are scored and learned.

    Notes
    -----
    Streams are scored, learned and continued as by :class:`MIDAS`. The last column is
    the time; each of the others is a kind of node with a sketch of its own, so that
    there may be more or fewer than two. Edges cost O(n r) for each sketch.

    ``contamination="auto"`` takes the anomaly of every edge of the later half of the
    training stream when it came, as `MIDAS` does. Of 50 nodes at random, 20 edges a
    tick, .18 of the next 2,000 edges are flagged after 1,000 training edges, .06 after
    10,000.

    References
    ----------
    .. [1] S. Bhatia, B. Hooi, M. Yoon, K. Shin, C. Faloutsos, "MIDAS:
       microcluster-based detector of anomalies in edge streams", AAAI, 2020, section
       4.3 (MIDAS-R).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import MIDASR
    >>> X = np.array([[i % 5, (i + 1) % 5, i // 5] for i in range(100)])
    >>> scan = np.array([[7, i % 5, 20] for i in range(20)])
    >>> detector = MIDASR(random_state=0).fit(X)
    >>> detector.transform(scan)[-1].round()
    array([400.,  14.,  80.])
    """

    decay: float = 0.5

    _parameter_constraints = {
        "decay": [Interval(Real, 0, 1, closed="both")],
    }

    def _decay(self):
        return self.decay

    def _keys(self, nodes):
        return [*nodes.T, edge_keys(nodes)]

    def _split(self, bursts):
        return np.ascontiguousarray(bursts.T)

"""Bursts of the same edge in a stream."""

import numpy as np

from skad._parameters import with_parameters
from skad.series._edges import EdgeDetector, edge_keys


@with_parameters
class MIDAS(EdgeDetector):
    r"""Edges that suddenly come more often than before.

    Rows are the edges of a growing graph in order of time: source, destination, time.
    An edge that has come :math:`n` times in :math:`t` ticks, :math:`a` of them in the
    present one, has the anomaly

    .. math:: a(x) = \left(a - \frac{n}{t}\right)^2 \frac{t^2}{n \, (t - 1)},

    the chi-squared statistic of "as often in this tick as on average", and 0 in the
    first tick. Counts are those of count-min sketches, so that memory does not grow.
    ``score_samples`` is :math:`-a`. The anomaly is of the edge as a whole: the map
    splits it evenly over the columns and sums to it.

    Read more in the :ref:`User Guide <series>`.

    Parameters
    ----------
    n_columns : int, default=1024
        Columns of a sketch. Edges that share a cell in all rows count as one.

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
    MIDASR : Looks at the nodes of the edge, too, and forgets slowly.

    Notes
    -----
    An edge's score depends on the edges before it. Those of `X` are scored in their
    order, as if they came after the stream that was learned, and `score_samples` keeps
    nothing of them: `partial_fit` learns what comes next, `score_stream` both scores
    and learns it. Rows that begin with the whole stream that was learned are scored
    from its beginning, as they were when they were learned, so that
    ``fit(X).score_samples(X)`` are the scores of the stream in one pass.

    The last column is the time and the others are the edge: two nodes, or any number of
    columns for events of other kinds. They are integers below 2**32; others are rounded
    to integers and counted by their last 32 bits. An edge whose time is before that of
    the edge above it counts in the present tick.

    A tick is counted at once, in time O(n r) whatever the ticks. Wider sketches are not
    always better: on the stream of [1]_ whose attacks are most edges, exact counts give
    a lower area under the curve. With a power of two as `n_columns` the rows of a
    sketch often share their collisions, as in the authors' code. Sketches live on the
    host, in double precision.

    ``contamination="auto"`` takes the anomaly of every edge of the later half of the
    training stream when it came, which depends on the edges before it alone, as that of
    new ones does. An edge that never came before has the anomaly :math:`t - 1`, more
    than any training edge had: more are flagged than `false_alarm_rate` where more than
    that share of edges are new. Of 50 nodes at random, 20 edges a tick, .20 of the next
    2,000 edges are flagged after 1,000 training edges, .05 after 10,000.

    References
    ----------
    .. [1] S. Bhatia, B. Hooi, M. Yoon, K. Shin, C. Faloutsos, "MIDAS:
       microcluster-based detector of anomalies in edge streams", AAAI, 2020, equation
       (2) and algorithm 1.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.series import MIDAS
    >>> X = np.array([[i % 5, (i + 1) % 5, i // 5] for i in range(100)])
    >>> burst = np.array([[7, 8, 20]] * 20)
    >>> detector = MIDAS(random_state=0).fit(X)
    >>> detector.score_stream(burst)[[0, -1]].round()
    array([ -20., -400.])
    """

    _map_sums_to_score = True

    def _keys(self, nodes):
        return [edge_keys(nodes)]

    def _split(self, bursts):
        d = self.n_features_in_
        return np.repeat(bursts[0][:, None] / d, d, axis=1)

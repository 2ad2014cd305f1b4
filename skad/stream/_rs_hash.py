"""RS-Hash: how many rows share cells of random sizes of a few features."""

from numbers import Integral, Real

import numpy as np

from skad._array import row_sums
from skad._parameters import with_parameters
from skad._sklearn import Interval
from skad.stream._counts import _FIRST_ROWS, CellCounts, bins_of
from skad.stream._sketch import hashed, odd


@with_parameters
class RSHash(CellCounts):
    r"""Rows in cells of random size, of a few random features, that few rows share.

    Features are scaled to 0..1 by the first window. Member `i` cuts a few random
    features into cells of a random width, shifted at random, and counts the rows in
    each. With :math:`c_i` rows of the last full window in the cell of a row, or their
    weight where they fade, the anomaly is

    .. math:: a(x) = -\frac{1}{M} \sum_i \log_2 (1 + c_i(x)).

    ``score_samples`` is :math:`-a`. The map is what the anomaly falls by when a feature
    takes its typical value.

    Read more in the :ref:`User Guide <stream>`.

    Parameters
    ----------
    n_estimators : int, default=300
        Number of members `M`.
    decay : float, default=0.0
        :math:`\lambda`: the row that came `k` rows ago, 1 for the last, counts
        :math:`2^{-\lambda k}`. 0 counts all rows of the last full window alike. The
        paper's is 0.015.
    window_size : int or None, default=1000
        Rows that are learned until what was known before is forgotten, at least 2. With
        a `decay` those that set the units of features, and after which the threshold
        moves on. None forgets nothing, whatever `decay` is.
    n_columns : int, default=4096
        Cells of which each of two hashes counts the rows, in each member; rounded up to
        a power of two. Cells that share both count as one.

    See Also
    --------
    XStream : Cells of random projections, at many scales.
    HalfSpaceTrees : Boxes that are halved again and again.

    Notes
    -----
    With `s` rows in a window a width is drawn from :math:`1/\sqrt s` to
    :math:`1 - 1/\sqrt s`, and with :math:`l = \log_{\max(2, 1/f)} s` for the width `f`
    the number of features from :math:`1 + l / 2` to :math:`l`, at most all; `s` is
    1,000 without windows. A row costs O(M l), and memory is O(M `n_columns`). Ranges of
    features are measured anew by `partial_fit` until the first window is full, and then
    kept. Scores do not change when features are scaled or shifted, but for rounding.

    In the paper counts fade from row to row; here windows are forgotten as a whole by
    default. With the paper's `decay` about :math:`1.4 / \lambda`, a hundred rows are
    known: on streams of thirteen sets of tables the mean ROC AUC was .688 with it,
    .694 with 0.002 and .691 with windows (``defaults_streams.tsv``), and a batch whose
    last hundred rows are anomalies is lost. PySAD's fades so, and on four other sets is
    ahead by just what this one gains by it (``streams_seeds.tsv``). `fit` learns rows
    as `partial_fit` does, so that all but the last are forgotten: pass
    ``window_size=None`` for a batch.

    The paper draws no feature that is constant in the sample; here that one splits
    nothing.

    ``contamination="auto"`` takes each row of the window out of its cells, by what it
    counts there.

    References
    ----------
    .. [1] S. Sathe and C. C. Aggarwal, "Subspace outlier detection in linear time with
       randomized hashing", IEEE International Conference on Data Mining, 2016, section
       III.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.stream import RSHash
    >>> X = np.random.default_rng(0).normal(size=(1000, 2))
    >>> detector = RSHash(random_state=0)
    >>> for piece in np.split(X, 4):
    ...     detector = detector.partial_fit(piece)
    >>> detector.predict([[0.0, 0.0], [0.0, 6.0]])
    array([ 1, -1])
    """

    n_estimators: int = 300
    decay: float = 0.0
    window_size: int | None = 1000
    n_columns: int = 4096

    _ignores_units = True
    _hiding_times = 100.0
    _parameter_constraints = {
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "decay": [Interval(Real, 0, 1, closed="both")],
        "n_columns": [Interval(Integral, 2, 2**24, closed="both")],
    }

    def _row_elements(self):
        return self.n_estimators * (8 + 3 * self.n_features_in_)

    def _draw(self, random, n_features):
        s, m = self.window_size or _FIRST_ROWS, self.n_estimators
        self._cuts_ = random.uniform(*sorted((s**-0.5, 1 - s**-0.5)), size=m)
        most = np.log(s) / np.log(np.maximum(2, 1 / self._cuts_))
        high = np.maximum(1, np.floor(most)).astype(int)
        low = np.minimum(np.ceil(1 + most / 2).astype(int), high)
        sizes = np.minimum(random.randint(low, high + 1), n_features)
        order = random.uniform(size=(m, n_features)).argsort(axis=1)
        self._features_ = order[:, : sizes.max()]
        used = np.arange(sizes.max()) < sizes[:, None]
        self._keys_ = odd(random, used.shape) * used.astype(np.uint64)
        self._shifts_ = random.uniform(size=used.shape)  # of a width
        self._bits_ = int(np.ceil(np.log2(self.n_columns)))
        self._hashes_ = odd(random, (2, m))
        return 2 * m << self._bits_

    def _cells(self, X):
        columns = np.ascontiguousarray(self._scaled(X).T)
        with np.errstate(over="ignore"):
            keys = np.zeros((self.n_estimators, len(X)), dtype=np.uint64)
            for j, features in enumerate(self._features_.T):
                places = columns[features] / self._cuts_[:, None]
                places += self._shifts_[:, j, None]
                keys += self._keys_[:, j, None] * bins_of(places)
        return hashed(keys, self._hashes_, self._bits_)

    def _rareness(self, counts, n):
        found = np.log2(1.0 + np.minimum(*counts))
        return -row_sums(found.T) / self.n_estimators

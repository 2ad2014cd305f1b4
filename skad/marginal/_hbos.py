"""Histogram-based outlier score."""

from math import log
from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse

from skad._array import (
    blocks,
    like,
    namespace,
    places_of,
    row_sums,
    to_double,
    to_numpy,
)
from skad._left_out import LeftOutMixin
from skad._parameters import KW_ONLY, with_parameters
from skad._sklearn import Interval, StrOptions
from skad._weights import SampleWeightMixin
from skad.base import BaseDetector
from skad.marginal._bins import (
    at_places,
    bin_counts,
    bin_widths,
    bins_of,
    equal_mass_bins,
    equal_width_bins,
    outermost,
    widened,
    without_ends,
)
from skad.marginal._tails import (
    known_values,
    narrower,
    over_known,
    sorted_columns,
)


@with_parameters(kw_only=False)
class HBOS(SampleWeightMixin, LeftOutMixin, BaseDetector):
    r"""Rows with rare values: in low bins of the features' histograms.

    Features are taken as independent. A histogram of each feature has heights
    :math:`h_j`, normalised so that the highest bin is 1, and the anomaly is the sum of
    the map

    .. math:: a(x) = \sum_j o_j(x), \qquad
        o_j(x) = \log \frac{1 + \alpha}{h_j(x_j) + \alpha},

    from 0 in the highest bin to :math:`\log(1 + 1 / \alpha)` in an empty one.

    Read more in the :ref:`User Guide <marginal>`.

    Parameters
    ----------
    n_bins : int or "auto", default="auto"
        Bins of each histogram, at least 2. "auto" is the paper's rule of thumb, the
        square root of the number of training samples.
    binning : {"static", "dynamic"}, default="static"
        "static" bins have equal width. "dynamic" bins hold equally many training
        values, more where values repeat, and their height is the density; they follow
        features with long gaps or heavy tails.
    alpha : float, default=0.001
        Height :math:`\alpha` that is added to each bin, as a share of the highest bin,
        so that an empty bin is anomalous but not infinitely so. In (0, 1].
    tol : float, default=0.5
        A value outside the training range by at most `tol` times the width of the
        outermost bin counts to that bin; farther out the height is 0. Not negative.

    Attributes
    ----------
    bin_edges_ : ndarray of shape (n_features, max_bins + 1)
        Edges of the bins. Edges beyond a feature's last bin repeat its maximum.
    heights_ : ndarray of shape (n_features, max_bins)
        Heights :math:`h_j` of the bins, in float64.
    n_bins_ : ndarray of shape (n_features,)
        Number of bins; 1 for a constant feature.

    See Also
    --------
    ECOD : Empirical tails: nothing to tune, but no anomaly between frequent values.

    Notes
    -----
    `n_bins` and `alpha` were chosen over 25 sources of tables
    (``benchmarks/results/defaults_hbos.tsv``): 10 bins and 0.01 have a mean ROC AUC of
    0.717 there, the defaults 0.727.

    Missing values (NaN) are skipped, in training and later: the score is the sum over
    the features that are there, times the number of all over theirs, and the map is 0
    where a value is missing. A row without any value has the anomaly 0.

    ``contamination="auto"`` takes each training row out of its bins. Without the
    smallest or the largest value of a feature the bins are made anew; without another
    one dynamic bins stay.

    `fit` sorts, O(d n log n), and a row is scored in O(d log m) with m bins. Bins hold
    their lower edge and the last bin its upper one too, in `fit` and later. Neither
    binning changes its scores when a feature is scaled or shifted, but for values that
    rounding moves over an edge. With `sample_weight` a value counts that often, and the
    number of training samples is the sum of the weights. Of sparse rows a few columns
    are dense at a time.

    The paper adds nothing to the heights, and so has no finite score for a value in an
    empty bin or outside the training range. It leaves the edges between dynamic bins
    open too; here they lie halfway between the values that they part, so that a value
    that makes up a bin of its own has a width.

    References
    ----------
    .. [1] M. Goldstein and A. Dengel, "Histogram-based outlier score (HBOS): A fast
       unsupervised anomaly detection algorithm", KI-2012: Poster and Demo Track, 2012,
       equation (1).

    Examples
    --------
    >>> from skad.marginal import HBOS
    >>> X = [[0.0, 1.0], [0.1, 1.2], [-0.1, 0.9], [0.2, 1.1], [9.0, 5.0]]
    >>> detector = HBOS(n_bins=4, contamination=0.2).fit(X)
    >>> detector.predict(X)
    array([ 1,  1,  1,  1, -1])
    >>> detector.transform([[0.1, 5.0], [0.1, 7.0]]).round(2)
    array([[0.  , 1.38],
           [0.  , 6.91]])
    """

    n_bins: int | str = "auto"
    _: KW_ONLY
    binning: str = "static"
    alpha: float = 0.001
    tol: float = 0.5

    _map_sums_to_score = True
    _ignores_units = True
    _reads_missing = True
    _parameter_constraints = {
        "n_bins": [Interval(Integral, 2, None, closed="left"), StrOptions({"auto"})],
        "binning": [StrOptions({"static", "dynamic"})],
        "alpha": [Interval(Real, 0, 1, closed="right")],
        "tol": [Interval(Real, 0, None, closed="left")],
    }

    @property
    def _hiding_times(self):
        return 100.0 if self.binning == "static" else np.inf

    def _row_elements(self):
        # those of few features stay in the cache, as many rows as they are
        return self.n_features_in_ * (12 if self.n_features_in_ <= 32 else 6)

    _fits_sparse = True
    # How many values of each feature are known, where not all are.
    _known_ = None

    def _fit(self, X, y, sample_weight=None):
        if issparse(X):
            X = X.tocsc()  # a few columns at a time are dense
            parts = [
                self._of_columns(X[:, columns].toarray(), sample_weight)
                for columns in blocks(X.shape[1], X.shape[0])
            ]
            self._put_together(parts, X)
            return
        if known_values(X)[1] is not None:
            missing = to_numpy(namespace(X).isnan(X))
            self._known_ = (~missing).sum(axis=0)
            self._fit_features(X, ~missing, sample_weight)
        else:
            self._fit_known(X, sample_weight)

    def _fit_features(self, X, known, weights):
        """Learn each feature's histogram from its values that are `known`, (n, d)."""
        xp, parts = namespace(X), []
        for j, there in enumerate(known.T):
            rows = np.flatnonzero(there)
            if not len(rows):
                values, own = xp.zeros_like(X[:2, :1]), None
            else:
                # one value alone has no other to be compared with but itself
                rows = np.resize(rows, max(2, len(rows)))
                values = X[like(rows, X, dtype="keep"), j : j + 1]
                own = None if weights is None else weights[rows]
            parts.append(self._of_columns(values, own))
        self._put_together(parts, X)

    def _of_columns(self, X, weights):
        """Return a detector that has learned some columns, without a threshold."""
        part = HBOS(self.n_bins, binning=self.binning, alpha=self.alpha, tol=self.tol)
        part._fit_known(X, weights)
        return part

    def _put_together(self, parts, X):
        """Take over what detectors of some columns each have learned."""
        xp = namespace(X)
        width = max(part.heights_.shape[1] for part in parts)
        for name in ("heights_", "_height_of_one_", "bin_edges_"):
            rows = [getattr(part, name) for part in parts]
            size = width + (name == "bin_edges_")
            size = 1 if self.binning == "static" and name[0] == "_" else size
            setattr(self, name, xp.concat([widened(row, size) for row in rows]))
        for name in ("n_bins_", "_second_"):
            setattr(self, name, xp.concat([getattr(part, name) for part in parts]))
        for name in ("_range_", "_rareness_of_ends_"):
            rows = [getattr(part, name) for part in parts]
            setattr(self, name, xp.concat(rows, axis=1))

    def _fit_known(self, X, sample_weight):
        columns, n, weights = sorted_columns(X), X.shape[0], None
        if sample_weight is not None:
            n = sample_weight.sum()
            weights = sample_weight[np.argsort(to_numpy(X), axis=0, kind="stable")].T
        bins = self._bins(columns, n, weights)
        if weights is not None:
            self._set_bins(bins, bin_counts(columns, *bins, weights))
            self._rareness_of_ends_ = self._rareness_of_weighted_ends(columns, weights)
            return
        # all, without the smallest, without the largest
        bins = bins, *(self._bins(some, n - 1) for some in without_ends(columns))
        counts = [bin_counts(columns, *some) for some in bins]
        self._set_bins(bins[0], counts[0])
        self._set_rareness_of_ends(columns, bins[1:], counts[1:])

    def _bins(self, columns, n, weights=None):
        """Return the edges and the numbers of the bins of sorted columns (d, m)."""
        if self.binning == "static":
            return equal_width_bins(columns, self._most_bins(n))
        return equal_mass_bins(columns, self._most_bins(n), weights)

    def _rareness_of_weighted_ends(self, columns, weights):
        """Return what the ends of sorted columns (d, n) add, each less itself, (2, d).

        Where rows share an end it is less the one that counts most.
        """
        xp, found = namespace(columns), {0: [], -1: []}
        for column, own in zip(columns, weights, strict=True):
            for place, rareness in found.items():
                left, there = own.copy(), to_numpy(column == column[place])
                most = np.argmax(np.where(there, left, 0))
                left[most] = max(left[most] - 1, 0)
                rows = np.flatnonzero(left)
                others = column[None, like(rows, column, dtype="keep")]
                edges, n_bins = self._bins(others, left.sum(), left[None, rows])
                counts = bin_counts(others, edges, n_bins, left[None, rows])
                value = column[None, place][None]
                rareness.append(self._rareness_beside(value, edges, n_bins, counts))
        return xp.concat([xp.concat(parts, axis=1) for parts in found.values()])

    def _fit_blocks(self, blocks):
        if self.binning == "dynamic":
            return super()._fit_blocks(blocks)
        ends = blocks.reduce(
            lambda _, X: outermost(X), lambda a, b: outermost(np.concatenate([a, b]))
        ).T
        n = blocks.shape[0]
        bins = [
            equal_width_bins(ends, self._most_bins(n)),
            *(equal_width_bins(e, self._most_bins(n - 1)) for e in without_ends(ends)),
        ]
        counts = blocks.reduce(
            lambda _, X: [bin_counts(sorted_columns(X), *some) for some in bins],
            lambda a, b: [one + other for one, other in zip(a, b, strict=True)],
        )
        self._set_bins(bins[0], counts[0])
        self._set_rareness_of_ends(ends, bins[1:], counts[1:])

    def _most_bins(self, n):
        return max(2, round(n**0.5)) if self.n_bins == "auto" else self.n_bins

    def _set_bins(self, bins, counts):
        """Keep the histograms of bins, their edges and numbers, that hold `counts`."""
        self.bin_edges_, self.n_bins_ = bins
        heights, self._height_of_one_ = self._heights(bins[0], counts)
        self.heights_, xp = heights, namespace(heights)
        # the highest of the other bins
        tied = xp.sum(xp.astype(heights == 1, heights.dtype), axis=1) > 1
        second = xp.max(xp.where(heights == 1, 0.0, heights), axis=1)
        self._second_ = xp.where(tied, 1.0, second)
        self._range_ = self._range_of(*bins)

    def _heights(self, edges, counts):
        """Return the heights (d, m) of bins, and what one value adds to them."""
        xp = namespace(edges)
        heights = to_double(xp.astype(counts, edges.dtype))
        widths = xp.ones_like(heights[:, :1])
        if self.binning == "dynamic":
            widths = bin_widths(edges)
        heights = heights / widths
        highest = xp.max(heights, axis=1, keepdims=True)
        return heights / highest, 1 / widths / highest

    def _range_of(self, edges, n_bins):
        """Return the least and the largest values (2, d) that count to some bin."""
        reference, edges = edges, to_double(edges)
        xp = namespace(edges)
        features = like(np.arange(edges.shape[0]), edges, dtype="keep")
        first = edges[:, 1] - edges[:, 0]
        last = edges[features, n_bins] - edges[features, n_bins - 1]
        lowest = edges[:, 0] - self.tol * first
        highest = edges[:, -1] + self.tol * last
        return like(xp.stack((lowest, highest)), reference)

    def _set_rareness_of_ends(self, columns, bins, counts):
        """Keep what the ends of sorted columns (d, m) add, each beside all others.

        `bins` are those of the others, `counts` what they hold of all values.
        """
        found = []
        for end, (edges, n_bins), held in zip((0, -1), bins, counts, strict=True):
            value = columns[None, :, end]
            (own,) = self._bins_of(value, edges, n_bins)
            features = like(np.arange(held.shape[0]), held, dtype="keep")
            held[features, own] -= 1
            found.append(self._rareness_beside(value, edges, n_bins, held))
        self._rareness_of_ends_ = namespace(columns).concat(found)

    def _rareness_beside(self, values, edges, n_bins, counts):
        """Return what values (1, d) of each feature add beside others' histogram."""
        heights, _ = self._heights(edges, counts)
        heights = at_places(heights, self._bins_of(values, edges, n_bins))
        rareness = self._rareness(like(heights, values))
        return self._with_outside(rareness, values, self._range_of(edges, n_bins))

    def _left_out(self, X, once=1.0):
        """Return the anomaly (b,) of training rows, each without itself.

        `once` is how much of each row is left out, one number or (b,).
        """
        xp = namespace(X)
        X, absent = known_values(X, self._known_)
        heights, second = like(self.heights_, X), like(self._second_, X)[:, None]
        one = xp.broadcast_to(like(self._height_of_one_, X), heights.shape)
        bins = self._bins_of(X, self.bin_edges_, self.n_bins_)
        if np.ndim(once):  # else all rows of a bin find the same
            heights, one = at_places(heights, bins), at_places(one, bins)
            second, once = second.T, once[:, None]
        fewer = xp.clip(heights - once * one, 0, None)
        # the highest bin without one of its values is lower, or one as high takes over
        highest = xp.where(heights < 1, 1.0, xp.maximum(second, fewer))
        rareness = self._rareness(fewer / xp.where(highest > 0, highest, 1.0))
        rareness = rareness if np.ndim(once) else at_places(rareness, bins)
        rareness = self._with_outside(rareness, X, self._range_)
        edges, values = narrower(self.bin_edges_, X)
        for place, end in zip((0, -1), self._rareness_of_ends_, strict=True):
            rows, features = places_of(values == edges[:, place])
            rareness[rows, features] = like(end, rareness)[features]
        return row_sums(over_known(rareness, absent))

    def _map(self, X):
        X, absent = known_values(X, self._known_)
        heights = like(self.heights_, X)
        bins = self._bins_of(X, self.bin_edges_, self.n_bins_)
        if X.shape[0] < heights.shape[1]:  # fewer than there are bins
            rareness = self._rareness(at_places(heights, bins))
        else:
            rareness = at_places(self._rareness(heights), bins)
        rareness = self._with_outside(rareness, X, self._range_)
        return over_known(rareness, absent)

    def _bins_of(self, X, edges, n_bins):
        """Return the bins (b, d) of values."""
        return bins_of(X, edges, n_bins, equal_width=self.binning == "static")

    def _with_outside(self, rareness, X, ends):
        """Return what values add, `rareness` inside of `ends` (2, d)."""
        (lowest, highest), values = narrower(ends, X)
        rows, features = places_of((values < lowest) | (values > highest))
        rareness[rows, features] = self._rareness(0.0)
        return rareness

    def _rareness(self, heights):
        """Return what values in bins of some heights add to the anomaly."""
        rareness = (1 + self.alpha) / (heights + self.alpha)
        if isinstance(heights, float):
            return log(rareness)
        return namespace(heights).log(rareness)

"""Lightweight on-line detector of anomalies: histograms of random projections."""

from numbers import Integral

import numpy as np
from scipy.special import xlogy

from skad._array import row_sums, slices, to_double, to_numpy
from skad._incremental import ForgettingMixin
from skad._left_out import LeftOutMixin
from skad._parameters import KW_ONLY, with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval, StrOptions
from skad.base import BaseDetector

# Numbers of bins that are compared: these and twice, four times, ... as many.
_NUMBERS = (1, 3)
# Values of projections that are taken at once, and stay in a cache.
_AT_ONCE = 2**15


def sparse_vectors(n_features, n_vectors, random):
    """Return features (m, k) and standard normal weights (m, k) of random vectors."""
    k = max(1, int(n_features**0.5))
    features = [random.choice(n_features, k, replace=False) for _ in range(n_vectors)]
    return np.sort(features, axis=1), random.standard_normal((n_vectors, k))


def projected(columns, features, weights):
    """Return the projections (m, b) of rows, given their columns (d, b)."""
    total = columns[features[:, 0]] * weights[:, :1]
    for j in range(1, features.shape[1]):
        total += columns[features[:, j]] * weights[:, j : j + 1]
    return total


def bins_of(place, n_bins):
    """Return the bins, of equal width, of values in 0..1."""
    return np.minimum((place * n_bins).astype(np.int64), n_bins - 1)


def counts_of(place, n_bins):
    """Return the counts (m, n_bins) of the bins, of equal width, of values (m, n)."""
    m = len(place)
    bins = bins_of(place, n_bins) + n_bins * np.arange(m)[:, None]
    return np.bincount(bins.reshape(-1), minlength=m * n_bins).reshape(m, n_bins)


def likeliest_counts(place, weighed):
    """Return the counts of as many bins as values (m, n) in 0..1 ask for, a row each.

    The maximum of Birge's and Rozenholc's penalised likelihood; `weighed` has c log c
    of the counts c from 0 to n.
    """
    n, found = place.shape[1], []
    most = max(1, int(n / np.log(n))) if n > 1 else 1
    for first in _NUMBERS:
        if first > most:
            break
        counts = counts_of(place, first * 2 ** int(np.log2(most / first)))
        found.append(counts)
        while counts.shape[1] > first:
            counts = counts[:, ::2] + counts[:, 1::2]
            found.append(counts)
    found.sort(key=lambda counts: counts.shape[1])  # of equal ones the first is taken
    b = np.array([counts.shape[1] for counts in found])
    held = weighed[np.concatenate(found, axis=1)]
    parts = np.add.reduceat(held, np.cumsum(b) - b, axis=1)
    likelihood = parts + n * np.log(b / n) - (b - 1 + np.log(b) ** 2.5)
    return [found[k][i] for i, k in enumerate(likelihood.argmax(axis=1))]


@with_parameters(kw_only=False)
class LODA(ForgettingMixin, LeftOutMixin, BaseDetector):
    r"""Rows in thin places of the histograms of many random projections.

    Each of `m` random vectors :math:`w_i` has :math:`\lfloor \sqrt d \rfloor` entries
    that are not zero, drawn from a standard normal. With a histogram
    :math:`\hat p_i` of the training rows' projections, whose bins have equal width,
    the anomaly is

    .. math:: a(x) = -\frac{1}{m} \sum_{i=1}^m \log \hat p_i(w_i^T x).

    ``score_samples`` is :math:`-a`. The map compares the terms of the projections that
    use a feature with those that do not, by Welch's statistic

    .. math:: t_j = \frac{\bar a_{+j} - \bar a_{-j}}
        {\sqrt{s_{+j}^2 / m_{+j} + s_{-j}^2 / m_{-j}}},

    0 for a feature that all or none of the projections use: it says which features
    make the row anomalous, and does not sum to the score.

    Read more in the :ref:`User Guide <marginal>`.

    Parameters
    ----------
    n_projections : int, default=100
        Number of random vectors `m`.
    n_bins : int or "auto", default="auto"
        Bins of each histogram. "auto" chooses each projection's as the paper does, by
        the likelihood of the training rows less Birge's and Rozenholc's penalty
        :math:`b - 1 + (\log b)^{2.5}` of `b` bins.
    window_size : int, default=1000
        Rows that `partial_fit` knows, the last ones, at least 2. `fit` learns all.
    random_state : int, RandomState instance or None, default=None
        Draws the vectors. Pass an int for reproducible results.

    Attributes
    ----------
    features_ : ndarray of shape (n_projections, n_entries)
        Which features each vector uses.
    weights_ : ndarray of shape (n_projections, n_entries)
        Its entries there.
    n_bins_ : ndarray of shape (n_projections,)
        Number of bins of each histogram.
    n_samples_seen_ : int
        Rows learned.

    See Also
    --------
    HBOS : Histograms of the features themselves.
    skad.ensemble.IsolationForest : Splits at random instead of projections.

    Notes
    -----
    `fit` costs O(m n sqrt d), scoring O(m sqrt d) a row. A bin without training rows,
    and what lies outside of their range, has the density of one row that is spread
    over the whole range, so that scores are finite. Projections are of
    features in their units: scale them first. Adding a constant to a feature changes
    nothing; scaling all features adds a constant to the scores.

    A missing value (NaN) leaves out the projections that use its feature, in training
    and later, as in the paper. A row that leaves none has the mean anomaly of the
    training rows.

    `partial_fit` makes the histograms of the last `window_size` rows anew, with the
    same vectors: what is known is what `fit` learns from these. A call costs
    O(m w sqrt d) for `w` of them, so that pieces of some hundred rows cost little a
    row.

    ``contamination="auto"`` takes each training row out of its bins. Where it is an end
    of the range it counts as outside of it.

    The numbers of bins that are compared are 1 and 3, and these doubled time and
    again up to n / log n. PyOD's `LODA` has ten bins, and looks rows up in the bin next
    to theirs.

    References
    ----------
    .. [1] T. Pevny, "Loda: Lightweight on-line detector of anomalies", Machine
       Learning, 2016, algorithms 1 and 2, and equation (6).
    .. [2] L. Birge and Y. Rozenholc, "How many bins should be put in a regular
       histogram", ESAIM: Probability and Statistics, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.marginal import LODA
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> detector = LODA(random_state=0).fit(X)
    >>> detector.predict([[0.0, 0.0, 0.0, 0.0], [0.0, 8.0, 8.0, 0.0]])
    array([ 1, -1])
    >>> detector.transform([[0.0, 0.0, 8.0, 0.0]]).argmax()
    np.int64(2)
    """

    n_projections: int = 100
    _: KW_ONLY
    n_bins: int | str = "auto"
    window_size: int = 1000
    random_state: Seed = None

    _reads_missing = True
    _fit_forgets = False
    _hiding_times = 1e12
    _parameter_constraints = {
        "n_projections": [Interval(Integral, 1, None, closed="left")],
        "n_bins": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "window_size": [Interval(Integral, 2, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _row_elements(self):
        return 6 * self.n_projections + 2 * self.n_features_in_

    def _fit(self, X, y):
        self._remember(X)
        self._learn_rows(to_double(to_numpy(X)))

    def _add(self, X, y):
        self._remember(X)
        self._learn_rows(self._window_)

    def _remember(self, X):
        """Keep the last rows, for `partial_fit` to go on with."""
        self.n_samples_seen_ = getattr(self, "n_samples_seen_", 0) + X.shape[0]
        last = to_double(to_numpy(X[-self.window_size :]))
        known = np.concatenate([getattr(self, "_window_", last[:0]), last])
        self._window_ = known[-self.window_size :]

    def _recent(self):
        return self._window_

    def _learn_rows(self, X):
        if not hasattr(self, "features_"):
            random = generator(self.random_state)
            self.features_, self.weights_ = sparse_vectors(
                X.shape[1], self.n_projections, random
            )
        known = ~np.isnan(X)
        self._centre_ = np.sum(X, axis=0, where=known) / np.maximum(known.sum(0), 1)
        self._used_ = np.zeros((self.n_projections, X.shape[1]))
        np.put_along_axis(self._used_, self.features_, 1.0, axis=1)
        self._lowest_, self._range_ = np.zeros((2, self.n_projections))
        self._n_, self.n_bins_ = np.ones((2, self.n_projections), dtype=np.int64)
        columns = np.subtract(X.T, self._centre_[:, None], order="C")  # (d, n)
        missing, counts, all_counts = not known.all(), [], np.arange(len(X) + 1)
        weighed = xlogy(all_counts, all_counts)
        for part in slices(self.n_projections, max(1, _AT_ONCE // len(X))):
            together = projected(columns, self.features_[part], self.weights_[part])
            if missing:
                for i, values in enumerate(together, part.start):
                    known_values = values[None, ~np.isnan(values)]
                    counts += self._histograms(slice(i, i + 1), known_values, weighed)
            else:
                counts += self._histograms(part, together, weighed)
        # one place before and one after for what lies outside
        self._counts_ = np.zeros((self.n_projections, self.n_bins_.max() + 2))
        for row, own in zip(self._counts_, counts, strict=True):
            row[1 : 1 + len(own)] = own
        self._usual_ = 0.0
        if not missing:  # each row is in a bin of each histogram
            held = self._counts_ * self._rareness()
            self._usual_ = float(held.sum() / self._n_.sum())
        elif known.any():
            self._usual_ = self._in_blocks(self._anomaly, X[known.any(axis=1)]).mean()

    def _histograms(self, part, values, weighed):
        """Keep the ranges of values (m, n), and return the counts of their bins."""
        m, n = values.shape
        if not n:
            return [[1]] * m
        lowest = values.min(axis=1)
        width = values.max(axis=1) - lowest
        self._n_[part], self._lowest_[part], self._range_[part] = n, lowest, width
        one = width == 0
        place = (values - lowest[:, None]) / np.where(one, 1.0, width)[:, None]
        auto = self.n_bins == "auto"
        found = (
            likeliest_counts(place, weighed) if auto else counts_of(place, self.n_bins)
        )
        found = [
            [n] if equal else counts for equal, counts in zip(one, found, strict=True)
        ]
        self.n_bins_[part] = [len(counts) for counts in found]
        return found

    def _rareness(self, fewer=0):
        """Return the term of each bin (m, bins), of what counts `fewer` times in it."""
        column = np.s_[:, None]
        width = np.where(self._range_ > 0, self._range_, 1.0)
        held = np.maximum((self._counts_ - fewer) * self.n_bins_[column], 1)
        rareness = np.log(np.maximum(self._n_ - fewer, 1) * width)[column]
        return rareness - np.log(held)

    def _terms(self, X, fewer=0):
        """Return the terms (b, m), of rows that count `fewer` times in training."""
        column, rareness = np.s_[:, None], self._rareness(fewer)
        width = np.where(self._range_ > 0, self._range_, 1.0)
        columns = np.subtract(X.T, self._centre_[column], order="C")  # (d, b)
        values = projected(columns, self.features_, self.weights_)  # (m, b)
        place = values - self._lowest_[column]
        place /= width[column]
        inside = (place > 0) & (place < 1) & (self._range_ > 0)[column]
        ends = (place == 0) | (place == 1)
        if fewer:  # an end is outside of the others, but where all are equal
            ends &= self._range_[column] == 0
        n_bins = self.n_bins_[column]
        place *= n_bins
        known = np.isfinite(place)
        bins = np.minimum(np.where(inside | ends, place, -1.0), n_bins - 1) + 1
        bins = bins.astype(np.int64)
        bins += np.arange(len(bins))[column] * rareness.shape[1]
        terms = rareness.reshape(-1).take(bins)
        return terms.T if known.all() else np.where(known, terms, values).T

    def _mean(self, terms):
        """Return the means (b,) of the terms (b, m) that are there."""
        known = ~np.isnan(terms)
        n = known.sum(axis=1)
        total = row_sums(np.where(known, terms, 0.0))
        return np.where(n > 0, total / np.maximum(n, 1), self._usual_)

    def _anomaly(self, X):
        return self._mean(self._terms(to_double(to_numpy(X))))

    def _left_out(self, X):
        return self._mean(self._terms(to_double(to_numpy(X)), fewer=1))

    def _inspect(self, X):
        terms = self._terms(to_double(to_numpy(X)))
        return self._mean(terms), self._blamed(terms)

    def _map(self, X):
        return self._blamed(self._terms(to_double(to_numpy(X))))

    def _blamed(self, terms):
        """Return Welch's statistics (b, d) from terms (b, m)."""
        known = ~np.isnan(terms)
        count = known.sum(axis=1, keepdims=True)
        middle = self._mean(terms)[:, None]
        away = np.where(known, terms - middle, 0.0)  # of sums, so that few digits go
        there = known.astype(float)
        parts = [there @ self._used_, away @ self._used_, away**2 @ self._used_]
        wholes = [count, away.sum(1, keepdims=True), (away**2).sum(1, keepdims=True)]
        sides = []
        for n, one, two in (
            parts,
            [whole - part for whole, part in zip(wholes, parts, strict=True)],
        ):
            least = np.maximum(n, 1)
            mean = one / least
            spread = np.maximum(two - n * mean**2, 0) / np.maximum(n - 1, 1)
            sides.append((n, mean, spread / least))
        (n, mean, spread), (n_other, mean_other, spread_other) = sides
        error = np.sqrt(spread + spread_other)
        # of terms that are all equal, up to rounding, nothing is to be said
        tiny = 1e-6 * (1e-6 + np.abs(middle))
        compared = (n > 0) & (n_other > 0) & (np.abs(mean - mean_other) > tiny)
        return np.where(compared, (mean - mean_other) / np.maximum(error, tiny), 0.0)

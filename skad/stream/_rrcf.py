"""Robust random cut forest: rows that push many others down a random tree."""

from numbers import Integral

import numpy as np

from skad._array import row_sums, to_double, to_numpy
from skad._incremental import ForgettingMixin
from skad._parameters import with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.base import BaseDetector
from skad.stream._cut_forest import displacements, grow

# Trees whose rows set the threshold, in `partial_fit` and in `fit`.
_SAMPLED = 1, 4


@with_parameters
class RRCF(ForgettingMixin, BaseDetector):
    r"""Rows that would push many others down in random trees.

    Each tree cuts a sample of the stream at random, along a feature that is drawn in
    proportion to the extent of the rows, until all are apart. A row that is put into a
    tree displaces the rows beside it. Its collusive displacement, the largest ratio of
    a sibling's rows to those of the subtree with the row, over all subtrees with it, is
    large for rows that are cut off early, alone or with a few like them. The anomaly is

    .. math:: a(x) = \frac{1}{T} \sum_t \mathrm{E}\, \max_{s \ni x}
        \frac{|\mathrm{sibling}(s)|}{|s|},

    where E is over the random cuts that put `x` into tree `t`. ``score_samples`` is
    :math:`-a`. The map gives each cut's part to the features by their share in the way
    from the row to the box that it is cut from, and sums to the anomaly.

    Read more in the :ref:`User Guide <stream>`.

    Parameters
    ----------
    n_estimators : int, default=40
        Number of trees `T`.
    max_samples : int, default=256
        Rows of each tree, at least 2.
    window_size : int or None, default=None
        How fast rows are forgotten: in drawing a tree's rows one that came `k` rows
        before another weighs :math:`e^{-k / w}` as much. None is a uniform sample of
        the whole stream.
    random_state : int, RandomState instance or None, default=None
        Draws samples and cuts. Pass an int for reproducible results.

    Attributes
    ----------
    n_samples_seen_ : int
        Rows learned.
    samples_ : ndarray of shape (n_estimators, n_rows, n_features)
        The rows of each tree.

    See Also
    --------
    HalfSpaceTrees : Trees that are drawn once, at a tenth of the cost.
    skad.ensemble.IsolationForest : Trees that cut without regard to extents.

    Notes
    -----
    A tree from which rows are deleted and into which others are inserted, as the paper
    does it, has the distribution of a tree that is grown anew on its rows (theorems 3
    and 4). So all trees are grown anew, together, by each call of `partial_fit`, in
    O(T m d log m) for `m` rows each: pieces of some hundred rows cost little a row.
    What is left is decided by the rows alone, in whatever pieces they come. A row is
    scored in O(T d log m). The expected value over its insertion is exact, where the
    authors' code inserts once: scores are without that noise, and do not change from
    call to call. Features should be on one scale.

    Samples are weighted reservoirs (Efraimidis and Spirakis, 2006). A single series is
    looked at through windows (`WindowDetector`), which the paper calls shingles.

    ``contamination="auto"`` takes the displacement of rows of the samples: in trees
    that hold the row as its leaf has it, which is by chance what an insertion would
    have made of it, and elsewhere as it is of new ones.

    References
    ----------
    .. [1] S. Guha, N. Mishra, G. Roy and O. Schrijvers, "Robust random cut forest based
       anomaly detection on streams", International Conference on Machine Learning,
       2016, definitions 1 to 4.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.stream import RRCF
    >>> X = np.random.default_rng(0).normal(size=(1000, 2))
    >>> detector = RRCF(random_state=0)
    >>> for piece in np.split(X, 4):
    ...     detector = detector.partial_fit(piece)
    >>> detector.predict([[0.0, 0.0], [0.0, 6.0]])
    array([ 1, -1])
    >>> detector.transform([[0.0, 6.0]]).argmax()
    np.int64(1)
    """

    n_estimators: int = 40
    max_samples: int = 256
    window_size: int | None = None
    random_state: Seed = None

    _honesty = "leave one out"
    _map_sums_to_score = True
    _parameter_constraints = {
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "max_samples": [Interval(Integral, 2, None, closed="left")],
        "window_size": [Interval(Integral, 1, None, closed="left"), None],
        "random_state": ["random_state"],
    }

    def _row_elements(self):
        return self.n_estimators * (5 * self.n_features_in_ + 12)

    def _fit(self, X, y):
        X = to_double(to_numpy(X))
        if not hasattr(self, "samples_"):
            # a generator of its own for the cuts, so that pieces draw equal samples
            random = generator(self.random_state)
            self._draws_ = np.random.RandomState(random.randint(2**31))
            self._seed_, self.n_samples_seen_ = int(random.randint(2**31)), 0
            self._keys_ = np.empty((self.n_estimators, 0))
            self._numbers_ = np.empty((self.n_estimators, 0), dtype=np.int64)
            self.samples_ = np.empty((self.n_estimators, 0, X.shape[1]))
        for start in range(0, len(X), 4096):
            self._draw(X[start : start + 4096])
        random = np.random.RandomState([self._seed_, self.n_samples_seen_])
        self._forest_ = grow(self.samples_, random)

    def _draw(self, X):
        """Draw which rows of the trees give way to which new ones."""
        numbers = self.n_samples_seen_ + np.arange(len(X))
        fresh = self._draws_.gumbel(size=(len(X), self.n_estimators)).T
        if self.window_size is not None:
            fresh = fresh + numbers / self.window_size
        keys = np.concatenate([self._keys_, fresh], axis=1)
        old = self._keys_.shape[1]
        size = min(self.max_samples, keys.shape[1])
        kept = np.argpartition(keys, keys.shape[1] - size, axis=1)[:, -size:]
        kept = np.sort(kept, axis=1)  # by time, however the rows came
        self._keys_ = np.take_along_axis(keys, kept, axis=1)
        known = np.minimum(kept, max(old - 1, 0))[..., None]
        newer, place = kept >= old, np.maximum(kept - old, 0)
        samples, before = X[place], self._numbers_
        now = numbers[place]
        if old:
            samples = np.where(
                newer[..., None],
                samples,
                np.take_along_axis(self.samples_, known, axis=1),
            )
            before = np.take_along_axis(before, known[..., 0], axis=1)
            now = np.where(newer, now, before)
        self.samples_, self._numbers_ = samples, now
        self.n_samples_seen_ += len(X)

    def _recent(self):
        return self._sampled()[1]

    def _sampled(self):
        """Return the numbers (m,) of the rows of some trees, and the rows (m, d)."""
        n_trees = _SAMPLED[0 if self._goes_on else 1]
        numbers, rows = self._numbers_[:n_trees], self.samples_[:n_trees]
        numbers, first = np.unique(numbers, return_index=True)
        return numbers, rows.reshape(-1, rows.shape[2])[first]

    def _honest_anomaly(self, X, y, anomaly, **params):
        numbers, rows = self._sampled()
        parts = [displacements(self._forest_, part) for part in np.array_split(rows, 8)]
        found = np.concatenate(parts)  # (m, t)
        leaves = self._forest_.displaced[self._forest_.leaves]
        for t, own in enumerate(self._numbers_):
            place = np.searchsorted(own, numbers)
            place[place == len(own)] = 0
            held = own[place] == numbers
            found[held, t] = leaves[t, place[held]]
        return row_sums(found) / self.n_estimators

    def _anomaly(self, X):
        found = displacements(self._forest_, to_double(to_numpy(X)))
        return row_sums(found) / self.n_estimators

    def _map(self, X):
        X = to_double(to_numpy(X))
        found = displacements(self._forest_, X, by_feature=True)
        return found.sum(axis=1) / self.n_estimators

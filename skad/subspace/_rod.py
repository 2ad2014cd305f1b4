"""Rotation-based outlier detection: rows that turn about medians."""

from itertools import combinations
from math import comb
from numbers import Integral

import numpy as np

from skad._array import blocks, row_sums, to_double, to_numpy
from skad._parameters import KW_ONLY, with_parameters
from skad._random import Seed, generator
from skad._sklearn import Interval
from skad.base import BaseDetector

# Rows that a geometric median is sought of, and when the search for it ends.
_ROWS, _STEPS, _CLOSE = 2000, 100, 1e-7
# Angles below and above the right angle are stretched to these ranges.
_SHARP, _BLUNT = (0.001, 0.955), (np.pi / 2 + 0.001, 2.186)


def drawn_triples(n_features, most, random):
    """Return all triples of features (s, 3), or `most` of them at random.

    With fewer than three features the last is -1, a feature that is zero.
    """
    if n_features < 3:
        return np.array([[0, n_features - 1 if n_features > 1 else -1, -1]])
    if comb(n_features, 3) <= most:
        return np.array(list(combinations(range(n_features), 3)))
    found = {
        tuple(sorted(random.choice(n_features, 3, replace=False))) for _ in range(most)
    }
    while len(found) < most:
        found.add(tuple(sorted(random.choice(n_features, 3, replace=False))))
    return np.array(sorted(found))


def geometric_medians(points):
    """Return the points (s, 3) of least sums of distances from points (s, n, 3).

    By Weiszfeld's steps, as Vardi and Zhang mend them where a point holds the middle.
    """
    middle = points.mean(axis=1)
    for _ in range(_STEPS):
        distance = np.sqrt(((points - middle[:, None]) ** 2).sum(axis=2))
        apart = distance > 0
        weight = np.where(apart, 1 / np.where(apart, distance, 1.0), 0.0)
        total = weight.sum(axis=1, keepdims=True)
        mean = np.einsum("sn,snj->sj", weight, points)
        mean = np.where(total > 0, mean / np.where(total > 0, total, 1.0), middle)
        pull = np.sqrt((((mean - middle) * total) ** 2).sum(axis=1, keepdims=True))
        here = (~apart).sum(axis=1, keepdims=True)
        held = np.where(here > 0, np.minimum(1, here / np.maximum(pull, 1e-300)), 0)
        moved = (1 - held) * mean + held * middle
        step = np.abs(moved - middle).max()
        middle = moved
        if step < _CLOSE:
            break
    return middle


def usual_distance(away):
    """Return the median size (m,) of what is not 0 in columns (n, m), or 1.

    For columns most of which is one value, that is, of which other medians are 0.
    """
    sizes = np.where(np.abs(away) > 1e-12, np.abs(away), np.nan)
    known = ~np.isnan(sizes).all(axis=0)
    found = np.ones(away.shape[1])
    found[known] = np.nanmedian(sizes[:, known], axis=0)
    return found


def angles_from(points, middle):
    """Return lengths (...) and angles (...) of points (..., 3) seen from the middle."""
    away = points - middle
    length = np.sqrt((away**2).sum(axis=-1))
    whole = length * np.sqrt((middle**2).sum(axis=-1))
    along = (away * middle).sum(axis=-1)
    cosine = np.clip(along / np.where(whole > 0, whole, 1.0), -1, 1)
    return length, np.where(whole > 0, np.arccos(cosine), np.pi / 2)


def costs_of(length, angle, ranges):
    """Return the costs (...) of rotations, from angles in `ranges` (..., 2, 2)."""
    first, second = np.moveaxis(ranges, -2, 0)  # each (..., 2)
    sharp = angle <= np.pi / 2
    ends = [np.where(sharp, *pair) for pair in zip(_SHARP, _BLUNT, strict=True)]
    known = [np.where(sharp, first[..., side], second[..., side]) for side in (0, 1)]
    share = (angle - known[0]) / (known[1] - known[0])
    stretched = ends[0] + share * (ends[1] - ends[0])
    return length**3 * np.cos(stretched) * np.sin(stretched) ** 2


@with_parameters(kw_only=False)
class ROD(BaseDetector):
    r"""Rows whose rotations about the median of three features cost unusually much.

    Features are centred at their median and divided by the distance between their
    quartiles. In each subspace of three features, with the geometric median :math:`g`
    and a row's way :math:`v = x - g` from it, at the angle :math:`\gamma` to the
    direction of :math:`g`, the cost of a rotation is

    .. math:: c(x) = \lVert v \rVert^3 \cos\gamma' \sin^2\gamma',

    where :math:`\gamma'` is the angle stretched to 0.001 to 0.955 below a right angle
    and to a right angle and 0.001 to 2.186 above. With the median :math:`m` of the
    training rows' costs and the median :math:`s` of their distances from it, the
    anomaly is the mean over the subspaces of

    .. math:: \frac{1}{1 + \exp(-0.6745 \, |c(x) - m| / s)}.

    ``score_samples`` is minus the mean. The map gives each feature of a subspace a
    third of its term; it sums to the anomaly.

    Read more in the :ref:`User Guide <subspace>`.

    Parameters
    ----------
    max_subspaces : int, default=1000
        The most subspaces; of more a random draw is taken.
    random_state : int, RandomState instance or None, default=None
        Draws the subspaces where there are too many. Pass an int for reproducible
        results.

    Attributes
    ----------
    subspaces_ : ndarray of shape (n_subspaces, 3)
        The features of each subspace, -1 for one of zeros where there are fewer than
        three features.
    centres_ : ndarray of shape (n_subspaces, 3)
        The geometric medians, in the units of the scaled features.

    See Also
    --------
    skad.ensemble.FeatureBagging : Any detector on random subsets of the features.

    Notes
    -----
    `fit` costs O(s n), scoring O(s) a row for s subspaces. Scores do not change when
    single features are scaled or shifted, as all that is learned is learned after
    that. Since the centre is near the median anyway, the direction of :math:`g` means
    little. A single feature has no angles, and costs are lengths. Geometric medians
    are of at most 2,000 rows, evenly spread.

    PyOD's `ROD` takes the median of the distances from the rows that are scored, so
    that a row alone has the score of any other, and neither scales nor averages with
    three features.

    References
    ----------
    .. [1] Y. Almardeny, N. Boujnah and F. Cleary, "A novel outlier detection method for
       multivariate data", IEEE Transactions on Knowledge and Data Engineering, 2020.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.subspace import ROD
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> ROD().fit(X).predict([[0.0, 0.0, 0.0, 0.0], [6.0, -6.0, 6.0, 6.0]])
    array([ 1, -1])
    """

    max_subspaces: int = 1000
    _: KW_ONLY
    random_state: Seed = None

    _map_sums_to_score = True
    _ignores_units = True
    _parameter_constraints = {
        "max_subspaces": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    def _row_elements(self):
        return 20 * len(self.subspaces_) + 20

    def _fit(self, X, y):
        X, random = to_double(to_numpy(X)), generator(self.random_state)
        low, self._middle_, high = np.quantile(X, [0.25, 0.5, 0.75], axis=0)
        usual = usual_distance(X - self._middle_)
        self._unit_ = np.where(high > low, high - low, usual)
        self.subspaces_ = drawn_triples(X.shape[1], self.max_subspaces, random)
        rows = self._scaled(X)
        some = rows[:: max(1, len(rows) // _ROWS)]
        self.centres_ = np.concatenate(
            [
                geometric_medians(some[:, self.subspaces_[part]].transpose(1, 0, 2))
                for part in blocks(len(self.subspaces_), 6 * len(some))
            ]
        )
        if X.shape[1] == 1:  # there are no angles on a line, whose median is at 0
            self.centres_ = np.zeros((1, 3))
        self._ranges_ = np.empty((len(self.subspaces_), 2, 2))
        self._median_, self._spread_ = np.empty((2, len(self.subspaces_)))
        for s, triple in enumerate(self.subspaces_):
            length, angle = angles_from(rows[:, triple], self.centres_[s])
            sharp = angle <= np.pi / 2
            for side, (own, ends) in enumerate(((sharp, _SHARP), (~sharp, _BLUNT))):
                known = np.append(angle[own & (length > 0)], ends)
                self._ranges_[s, side] = known.min(), known.max()
            costs = costs_of(length, angle, self._ranges_[s])
            self._median_[s] = np.median(costs)
            spread = np.median(np.abs(costs - self._median_[s]))
            if spread <= 1e-12:
                spread = usual_distance(costs[:, None] - self._median_[s])[0]
            self._spread_[s] = max(spread, 1e-12)

    def _scaled(self, X):
        """Return scaled rows and a last feature of zeros (b, d + 1)."""
        rows = (to_double(to_numpy(X)) - self._middle_) / self._unit_
        return np.concatenate([rows, np.zeros((len(rows), 1))], axis=1)

    def _terms(self, X):
        """Return the terms (b, s) of all subspaces."""
        points = self._scaled(X)[:, self.subspaces_]  # (b, s, 3)
        costs = costs_of(*angles_from(points, self.centres_), self._ranges_)
        away = np.abs(costs - self._median_) / self._spread_
        away = np.minimum(0.6745 * away, 700)
        return 1 / (1 + np.exp(-away))

    def _map(self, X):
        terms = self._terms(X) / len(self.subspaces_)
        used = np.zeros((len(self.subspaces_), self.n_features_in_ + 1))
        np.put_along_axis(used, self.subspaces_ % used.shape[1], 1.0, axis=1)
        used = used[:, :-1]
        return terms @ (used / used.sum(axis=1, keepdims=True))

    def _anomaly(self, X):
        terms = self._terms(X)
        return row_sums(terms) / terms.shape[1]

"""Label-free scorers for searches: how well a detector's scores fit the rows."""

import warnings
from abc import ABCMeta, abstractmethod

import numpy as np
from sklearn.base import clone

from skad._array import is_torch, like, to_numpy
from skad._random import generator
from skad.model_selection._curves import excess_mass_area, mass_volume_area

__all__ = ["ExcessMass", "MassVolume", "excess_mass", "mass_volume"]

# From so many of the drawn points a volume is worth comparing (a third of it is noise).
_ENOUGH_POINTS = 10


def sample_box(X, n_points, random_state):
    """Return points drawn evenly in the box that `X` spans, as `X` comes.

    Frames stay frames with the same columns, tensors stay tensors.
    """
    values = to_numpy(X)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise ValueError(
            "Volume needs a table of numbers, got X with shape "
            f"{values.shape} and dtype {values.dtype}."
        )
    lowest, highest = values.min(axis=0), values.max(axis=0)
    # blending, unlike low + share * width, cannot overflow
    share = random_state.uniform(size=(n_points, values.shape[1]))
    points = (1 - share) * lowest + share * highest
    points = points.astype(values.dtype if values.dtype.kind == "f" else float)
    if is_torch(X):
        return like(points, X)
    if hasattr(X, "iloc"):
        return type(X)(points, columns=X.columns)
    if hasattr(X, "columns"):  # polars
        return type(X)(points, schema=list(X.columns))
    return points


def normality(detector, X):
    """Return the detector's scores (n,), higher = more normal."""
    for method in ("score_samples", "decision_function"):
        if hasattr(detector, method):
            scores = to_numpy(getattr(detector, method)(X)).ravel()
            if np.isnan(scores).any():
                raise ValueError(f"{type(detector).__name__} returned NaN scores.")
            return scores
    raise TypeError(
        f"{type(detector).__name__} has neither score_samples nor decision_function."
    )


class _VolumeScorer(metaclass=ABCMeta):
    """A scorer that compares the scores of data and of points in their box."""

    def __init__(
        self,
        *,
        min_mass=0.9,
        n_points=10_000,
        max_features=None,
        n_subsets=20,
        random_state=0,
    ):
        if not 0 < min_mass < 1:
            raise ValueError(f"min_mass={min_mass!r} must be between 0 and 1.")
        counts = {"n_points": n_points, "n_subsets": n_subsets}
        if max_features is not None:
            counts["max_features"] = max_features
        for name, value in counts.items():
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name}={value!r} must be an int of at least 1.")
        self.min_mass = min_mass
        self.n_points = n_points
        self.max_features = max_features
        self.n_subsets = n_subsets
        self.random_state = random_state

    @abstractmethod
    def _criterion(self, scores, box_scores):
        """Return the criterion, higher = better."""

    def __call__(self, estimator, X, y=None):
        """Return the criterion of a fitted detector on `X`.

        Parameters
        ----------
        estimator : object
            Fitted, with `score_samples` or `decision_function`.
        X : array-like, tensor or frame of shape (n_samples, n_features)
            The samples to score, best ones that `estimator` was not fitted on.
        y : array-like of shape (n_samples,), default=None
            Labels for detectors that learn from them; used with `max_features` only.

        Returns
        -------
        score : float
            Higher is better.
        """
        random_state = generator(self.random_state)
        if not hasattr(X, "shape"):
            X = np.asarray(X)
        if self.max_features is None or self.max_features >= X.shape[1]:
            return self._score(estimator, X, random_state)
        return self._score_subsets(estimator, X, y, random_state)

    def _score(self, estimator, X, random_state):
        points = sample_box(X, self.n_points, random_state)
        scores, box_scores = normality(estimator, X), normality(estimator, points)
        inside = (
            box_scores >= np.quantile(scores, 1 - self.min_mass, method="lower")
        ).sum()
        if inside < _ENOUGH_POINTS:
            remedy = f" or pass {type(self).__name__}(max_features=5)"
            remedy = remedy if X.shape[1] > 5 else ""
            warnings.warn(
                f"Only {inside} of n_points={self.n_points} points in the box of "
                f"{X.shape[1]} features score like {self.min_mass:.0%} of the data, "
                "too few to measure their volume: good detectors cannot be told apart. "
                f"Raise n_points{remedy}.",
                UserWarning,
                stacklevel=3,
            )
        return self._criterion(scores, box_scores)

    def _score_subsets(self, estimator, X, y, random_state):
        X = to_numpy(X)
        y = None if y is None else to_numpy(y)
        n, d = X.shape
        if n < 4:
            raise ValueError(
                f"max_features={self.max_features} needs at least 4 rows to fit on one "
                f"half and score the other, got {n}."
            )
        scores = []
        for _ in range(self.n_subsets):
            features = random_state.permutation(d)[: self.max_features]
            rows = random_state.permutation(n)
            learned, judged = rows[: n // 2], rows[n // 2 :]
            labels = None if y is None else y[learned]
            refitted = clone(estimator).fit(X[np.ix_(learned, features)], labels)
            judged = X[np.ix_(judged, features)]
            scores.append(self._score(refitted, judged, random_state))
        return float(np.mean(scores))

    def __repr__(self):
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


class ExcessMass(_VolumeScorer):
    r"""Area under the excess mass curve, a label-free scorer: higher is better.

    With data of distribution `P` in a box of volume 1, the excess mass of a score `s`
    is

    .. math:: EM(t) = \max_u \; P(s(X) \geq u) - t \, Leb(s \geq u),

    and no score reaches more than the density itself. The criterion is the area under
    it for prices from 0 to :math:`EM^{-1}(q)`, with :math:`q` = `min_mass`: the part in
    which a set holds most of the data. ``skad.model_selection.excess_mass`` is this
    scorer with its defaults.

    Read more in the :ref:`User Guide <model_selection>`.

    Parameters
    ----------
    min_mass : float, default=0.9
        The curve counts while it is above this (0.9 in the paper), between 0 and 1.
    n_points : int, default=10000
        Points drawn in the box of the scored rows to measure volume.
    max_features : int or None, default=None
        For more features than about 8, where a box is too empty for its volume to be
        measured: the criterion is averaged over random subsets of so many features (5
        in the paper). None takes all features.
    n_subsets : int, default=20
        Number of subsets of features when there are more than `max_features`.
    random_state : int, RandomState instance or None, default=0
        Draws points and subsets. An int draws the same for every candidate of a
        search, so that they are compared on equal terms.

    See Also
    --------
    MassVolume : Asks for the volume at a mass instead.
    excess_mass_curve : The curve itself.

    Notes
    -----
    The box is that of the scored rows, and volume its share of the box: the paper's
    curve with `t` times the volume of the box in place of `t`. Only scores on the same
    rows can be compared, as a search does. The corners of the curve are computed
    exactly, without a grid. `n_points` rows are scored per call.

    Features with few distinct values have their mass in sets of no volume, and so have
    duplicated rows: there the criteria favour detectors that follow each value (one
    neighbour, a small bandwidth) however well those rank anomalies.

    On subsets of features a fitted detector has no score. A scorer does not see the
    training rows, so with `max_features` the detector's clones are fitted on one half
    of the scored rows and judged on the other, in each subset. This judges parameters,
    not the fitted model, at half the number of scored rows: pass few and large test
    folds, for example ``cv=[(rows, rows)]`` with all rows in both.

    References
    ----------
    .. [1] N. Goix, "How to evaluate the quality of unsupervised anomaly detection
       algorithms?", ICML Anomaly Detection Workshop, 2016, section 2 and algorithm 1
       (arXiv:1607.01152).
    .. [2] N. Goix, A. Sabourin and S. Clémençon, "On anomaly ranking and excess-mass
       curves", AISTATS, 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn.neighbors import KernelDensity
    >>> from skad.model_selection import excess_mass
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> X[::2] += 8
    >>> grid = {"bandwidth": [0.01, 0.5, 10]}
    >>> search = GridSearchCV(KernelDensity(), grid, scoring=excess_mass).fit(X)
    >>> search.best_params_
    {'bandwidth': 0.5}
    """

    def _criterion(self, scores, box_scores):
        return excess_mass_area(scores, box_scores, self.min_mass)


class MassVolume(_VolumeScorer):
    r"""Minus the area under the mass volume curve, label-free: higher is better.

    With data of distribution `P` in a box of volume 1, the mass volume curve of a score
    `s` is

    .. math:: MV(\alpha) = \min_u \; Leb(s \geq u)
        \quad \text{where} \quad P(s(X) \geq u) \geq \alpha,

    and no score takes less volume than the density itself. The criterion is **minus**
    the area under it for :math:`\alpha` from `min_mass` to 1, between ``min_mass - 1``
    and 0, since scikit-learn's searches maximise.
    ``skad.model_selection.mass_volume`` is this scorer with its defaults.

    Read more in the :ref:`User Guide <model_selection>`.

    Parameters
    ----------
    min_mass : float, default=0.9
        Least mass of the sets that count (0.9 in the paper of Goix), between 0 and 1.
    n_points : int, default=10000
        Points drawn in the box of the scored rows to measure volume.
    max_features : int or None, default=None
        For more features than about 8, where a box is too empty for its volume to be
        measured: the criterion is averaged over random subsets of so many features (5
        in the paper of Goix). None takes all features.
    n_subsets : int, default=20
        Number of subsets of features when there are more than `max_features`.
    random_state : int, RandomState instance or None, default=0
        Draws points and subsets. An int draws the same for every candidate of a
        search, so that they are compared on equal terms.

    See Also
    --------
    ExcessMass : Asks for the mass at a price of volume instead.
    mass_volume_curve : The curve itself.

    Notes
    -----
    As for `ExcessMass`, on boxes, subsets of features and their limit. The last steps
    of the curve belong to the least normal rows, so a few anomalies among the scored
    rows weigh more here than there.

    References
    ----------
    .. [1] S. Clémençon and A. Thomas, "Mass volume curves and anomaly ranking",
       Electronic Journal of Statistics, 2018.
    .. [2] N. Goix, "How to evaluate the quality of unsupervised anomaly detection
       algorithms?", ICML Anomaly Detection Workshop, 2016, section 2 and algorithm 1
       (arXiv:1607.01152).

    Examples
    --------
    >>> import numpy as np
    >>> from skad.density import Mahalanobis
    >>> from skad.model_selection import mass_volume
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> round(mass_volume(Mahalanobis().fit(X), X), 3)
    -0.052
    """

    def _criterion(self, scores, box_scores):
        return -mass_volume_area(scores, box_scores, self.min_mass)


excess_mass = ExcessMass()
mass_volume = MassVolume()

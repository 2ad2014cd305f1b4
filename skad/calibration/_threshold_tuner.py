"""A threshold that is best for what labels say."""

import warnings
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedKFold

from skad._parameters import with_parameters
from skad._rows import n_rows
from skad._sklearn import Interval, StrOptions
from skad.calibration._base import DetectorAround
from skad.calibration._held import takes_groups
from skad.calibration._labels import known_labels, own_offset


def threshold_curve(scores, is_anomaly):
    """Return all thresholds that differ, and what each of them flags.

    Parameters
    ----------
    scores : ndarray of shape (n,)
        Scores, higher is more normal; those below a threshold are flagged.
    is_anomaly : ndarray of shape (n,)
        Which samples are anomalies.

    Returns
    -------
    thresholds : ndarray of shape (t,)
        Ascending, halfway between neighbouring scores: the first flags nothing, the
        last everything.
    n_hits : ndarray of shape (t,)
        Anomalies among the flagged samples.
    n_flagged : ndarray of shape (t,)
        Flagged samples.
    """
    order = np.argsort(scores, kind="stable")
    scores, is_anomaly = scores[order], is_anomaly[order]
    last = np.flatnonzero(np.append(scores[1:] > scores[:-1], True))
    levels = scores[last]
    between = levels[:-1] + np.diff(levels) / 2
    # where rounding leaves no number between them
    between = np.where(between > levels[:-1], between, levels[1:])
    ends = levels[:1], np.nextafter(levels[-1:], np.inf)
    thresholds = np.concatenate([ends[0], between, ends[1]])
    n_flagged = np.append(0, last + 1)
    n_hits = np.append(0, np.cumsum(is_anomaly))[n_flagged]
    return thresholds, n_hits, n_flagged


def f_beta(n_hits, n_flagged, n_anomalies, beta):
    """Return the F-measure of the anomalies."""
    weight = beta**2
    return (1 + weight) * n_hits / (weight * n_anomalies + n_flagged)


def cost_matrix(cost):
    """Return a (2, 2) matrix, anomalies and normal samples by -1 and 1 predicted."""
    matrix = np.asarray(cost, dtype=np.float64)
    if matrix.ndim == 0:
        matrix = np.array([[0.0, matrix], [1.0, 0.0]])
    if matrix.shape != (2, 2) or not np.isfinite(matrix).all():
        raise ValueError(
            f"cost={cost!r} must be the cost of a missed anomaly in false alarms, or a "
            "(2, 2) matrix of finite costs."
        )
    return matrix


@with_parameters
class ThresholdTuner(DetectorAround):
    r"""Samples that score below the threshold that is best for labelled samples.

    Every threshold between two scores of labelled samples is tried, and the one with
    the best `objective` is taken; of several, the one with the fewest alarms. With
    precision `P`, the share of anomalies among the alarms, and recall `R`, the share of
    anomalies that raise one, the F-measure is

    .. math:: F_\beta = (1 + \beta^2) \frac{P R}{\beta^2 P + R}.

    Scores and maps are those of `detector`.

    Read more in the :ref:`User Guide <calibration>`.

    Parameters
    ----------
    objective : {"f_beta", "cost", "recall", "precision"}, default="f_beta"
        What is best: the largest F-measure; the smallest cost; the largest recall among
        thresholds with a precision of at least `target`; or the largest precision among
        those with a recall of at least `target`.
    beta : float, default=1.0
        How many times recall counts as much as precision in "f_beta".
    cost : float or array-like of shape (2, 2), default=10.0
        Of "cost". A number is what a missed anomaly costs when a false alarm costs 1.
        A matrix has a row for true anomalies and one for normal samples, and a column
        for what is predicted to be -1 and one for 1.
    target : float, default=0.9
        The precision that "recall" wants, or the recall that "precision" wants.
    cv : int, splitter, iterable or None, default=5
        Folds whose scores come from a detector fitted on the others: an int is that
        many, with like shares of each label, or for series blocks in their order. None
        takes the training scores, a frozen detector always does.

    Attributes
    ----------
    detector_ : detector
        The detector, fitted on all samples.
    best_threshold_ : float
        The best threshold of ``score_samples``; `offset_` is the same.
    best_score_ : float
        The objective there: F-measure, recall or precision, or minus the mean cost.
    curve_ : dict of ndarray
        "thresholds" of ``score_samples``, ascending, and at each of them "scores" (the
        objective), "precision" (NaN without alarms), "recall" and "alarm_rate" among
        the labelled samples.

    See Also
    --------
    skad.inspection.ThresholdDisplay : Draws what each threshold gives.
    QuantileThreshold : A threshold without labels.

    Notes
    -----
    Labels are 1 normal and -1 anomaly; samples of label 0 train the detector but are
    not counted. Around a classifier `y_ood` marks the anomalies. Without labels of both
    kinds there is nothing to tune: there is a warning, the threshold is the detector's
    own, and there are no ``best_threshold_``, ``best_score_`` and ``curve_``. A
    precision that no threshold reaches is an error. A `detector` that uses no labels
    learns from the anomalies as from any sample, and a memory of them finds none that
    are like them: fit it to normal samples, and give it in a ``FrozenEstimator``.

    As in scikit-learn's ``TunedThresholdClassifierCV`` the scores are of samples that
    were not learned from; here all folds make one curve instead of one each, since few
    folds have anomalies enough for a curve of their own. The best score is that of the
    best of many thresholds: on new samples it is lower, the more so the fewer
    anomalies are labelled. Costs are one fit more than folds.

    References
    ----------
    .. [1] C. J. van Rijsbergen, "Information retrieval", Butterworths, 1979, chapter 7.
    .. [2] C. Elkan, "The foundations of cost-sensitive learning", International Joint
       Conference on Artificial Intelligence, 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.calibration import ThresholdTuner
    >>> from skad.neighbors import KNN
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> y = np.ones(200, dtype=int)
    >>> X[::20] *= 6
    >>> y[::20] = -1
    >>> tuner = ThresholdTuner(KNN()).fit(X, y)
    >>> round(tuner.best_score_, 2)
    0.86
    >>> tuner.set_params(objective="recall", target=0.7).fit(X, y).best_score_
    0.9
    """

    objective: str = "f_beta"
    beta: float = 1.0
    cost: Any = 10.0
    target: float = 0.9
    cv: Any = 5

    _parameter_constraints = {
        "objective": [StrOptions({"f_beta", "cost", "recall", "precision"})],
        "beta": [Interval(Real, 0, None, closed="neither")],
        "cost": [Interval(Real, 0, None, closed="neither"), "array-like"],
        "target": [Interval(Real, 0, 1, closed="right")],
        "cv": ["cv_object"],
    }

    def _calibrate(self, X, y, params):
        n = n_rows(X)
        labels = known_labels(self._head(), y, n, params)
        self._fit_detector(X, y, params)
        if not ((labels == 1).any() and (labels == -1).any()):
            warnings.warn(
                "ThresholdTuner tunes nothing without labels y of both kinds, 1 "
                "(normal) and -1 (anomaly); the threshold is the detector's own.",
                stacklevel=5,
            )
            return
        scores, rows = self._calibration_scores(X, y, params, self._splitter())
        known = labels[rows] != 0
        scores = np.asarray(scores, dtype=np.float64)[known]
        self._tune(scores, labels[rows][known] == -1)

    def _splitter(self):
        if isinstance(self.cv, Integral) and not takes_groups(self._head()):
            return StratifiedKFold(self.cv)
        return self.cv

    def _tune(self, scores, is_anomaly):
        n, n_anomalies = len(scores), is_anomaly.sum()
        if n_anomalies in (0, n):
            raise ValueError(
                f"cv={self.cv!r} holds out {n - n_anomalies} normal samples and "
                f"{n_anomalies} anomalies; some of both are needed."
            )
        thresholds, n_hits, n_flagged = threshold_curve(scores, is_anomaly)
        none = n_flagged == 0
        precision = np.where(none, np.nan, n_hits / np.maximum(n_flagged, 1))
        recall = n_hits / n_anomalies
        if self.objective == "f_beta":
            objective = f_beta(n_hits, n_flagged, n_anomalies, self.beta)
            allowed = np.ones_like(none)
        elif self.objective == "cost":
            (hit, missed), (false, passed) = cost_matrix(self.cost)
            n_false = n_flagged - n_hits
            total = hit * n_hits + missed * (n_anomalies - n_hits)
            total += false * n_false + passed * (n - n_anomalies - n_false)
            objective, allowed = -total / n, np.ones_like(none)
        elif self.objective == "recall":
            objective, allowed = recall, precision >= self.target
        else:
            objective, allowed = precision, recall >= self.target
        if not allowed.any():
            raise ValueError(
                f"target={self.target} is a precision that no threshold reaches; the "
                f"highest is {np.nanmax(precision):.3g}."
            )
        best = int(np.argmax(np.where(allowed, objective, -np.inf)))
        self.best_threshold_ = float(thresholds[best])
        self.best_score_ = float(objective[best])
        self.curve_ = {
            "thresholds": thresholds,
            "scores": objective,
            "precision": precision,
            "recall": recall,
            "alarm_rate": n_flagged / n,
        }

    def _fit_offset(self, X, y, anomaly, **params):
        if hasattr(self, "best_threshold_"):
            return self.best_threshold_
        return own_offset(self.detector_)

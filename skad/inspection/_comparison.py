"""Several detectors on the same data; matplotlib is imported to draw."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import check_cv, cross_validate

from skad._array import to_numpy
from skad._needed import need
from skad.inspection._plots import (
    ANOMALY_COLOR,
    NORMAL_COLOR,
    estimator_name,
    legend_above,
    new_axes,
    paint,
)
from skad.metrics import average_precision
from skad.metrics._labels import finite_scores, is_anomaly

# Metric, what it is called, marker and colour: shapes tell them apart without colours.
_METRICS = (
    ("roc_auc", "ROC AUC", "o", NORMAL_COLOR),
    ("average_precision", "average precision", "D", ANOMALY_COLOR),
)


def areas(anomalous, decision):
    """Return ROC AUC and average precision, the anomalies being the positive class."""
    if anomalous.all() or not anomalous.any():
        raise ValueError(
            "a fold has rows of one kind only; both normal rows and anomalies are "
            "needed to compare (NoveltyKFold deals both to each fold)."
        )
    return {
        "roc_auc": float(roc_auc_score(anomalous, -decision)),
        "average_precision": average_precision(anomalous, -decision),
    }


def score_areas(estimator, X, y):
    """Score a fitted detector, as `cross_validate` calls it."""
    decision = finite_scores(estimator.decision_function(X), "decision")
    return areas(is_anomaly(to_numpy(y), name="y"), decision)


@dataclass
class DetectorComparisonDisplay:
    """How well several detectors tell anomalies from normal rows, fold by fold.

    A line per detector, the best on top: the ROC AUC and the average precision (with
    anomalies as the positive class), their mean as a filled marker, the folds as small
    dots, and the range of the folds as a line. Dotted lines show what chance reaches:
    0.5, and the share of anomalies.

    Parameters
    ----------
    names : list of str
        What the detectors are called.
    roc_auc : array of shape (n_detectors, n_folds)
        The area under the ROC curve in each fold.
    average_precision : array of shape (n_detectors, n_folds)
        The area under the curve of precision over recall in each fold.
    anomaly_share : float
        The share of anomalies among the rows that were tested.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What `plot` drew on.
    figure_ : matplotlib Figure
        Its figure.
    means_ : dict of matplotlib PathCollection
        The means, by "roc_auc" and "average_precision".
    folds_ : dict of matplotlib PathCollection
        The folds' dots.
    ranges_ : dict of matplotlib LineCollection
        The lines from the least to the largest fold.
    order_ : list of int
        The detectors from the top.

    Notes
    -----
    Folds share most of their training rows, so that their spread says how much the
    choice of rows matters and is no standard error. Two detectors whose ranges overlap
    may still differ: compare them fold by fold (`roc_auc` has the figures).

    Examples
    --------
    >>> from skad import ECOD, KNN
    >>> from skad.datasets import load_breast_cancer
    >>> from skad.inspection import DetectorComparisonDisplay
    >>> data = load_breast_cancer()
    >>> fitted = [KNN().fit(data.X_train), ECOD().fit(data.X_train)]
    >>> display = DetectorComparisonDisplay.from_estimator(
    ...     fitted, data.X_test, data.y_test
    ... )
    >>> display.names, display.roc_auc.shape
    (['KNN', 'ECOD'], (2, 1))
    """

    names: Any
    roc_auc: np.ndarray
    average_precision: np.ndarray
    anomaly_share: float

    @classmethod
    def from_estimator(
        cls, estimators, X, y, *, cv=None, n_jobs=None, ax=None, **options
    ):
        """Compare detectors on labelled data.

        Parameters
        ----------
        estimators : dict of estimators, or list of them
            Detectors, or pipelines that end in one, by what they are called. The ones
            of a list are called by their class, with a number where a class comes
            twice.
        X : array-like of shape (n_samples, n_features)
            The data.
        y : array-like of shape (n_samples,)
            1 normal, -1 anomaly, 0 unlabelled where `cv` tests no such row.
        cv : cross-validation generator, iterable or None, default=None
            Folds: a copy of each detector is fitted on each of them. `NoveltyKFold`
            trains on normal rows and tests on both kinds; an int makes plain folds,
            with anomalies among the training rows. None: the detectors are fitted
            already, and `X` is one fold.
        n_jobs : int or None, default=None
            How many folds are fitted at the same time.
        ax : matplotlib Axes or None, default=None
            Where to draw; axes of a new figure if None.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : DetectorComparisonDisplay
            What was drawn.
        """
        need("matplotlib", cls.__name__)
        estimators = named(estimators)
        y = to_numpy(y)
        if cv is None:
            return cls.from_predictions(
                {key: est.decision_function(X) for key, est in estimators.items()},
                y,
                ax=ax,
                **options,
            )
        folds = list(check_cv(cv).split(X, y))  # the same for every detector
        tested = np.concatenate([y[test] for _, test in folds])
        found = [
            cross_validate(
                estimator,
                X,
                y,
                cv=folds,
                scoring=score_areas,
                n_jobs=n_jobs,
                error_score="raise",
            )
            for estimator in estimators.values()
        ]
        metrics = {
            metric: np.array([result[f"test_{metric}"] for result in found])
            for metric, *_ in _METRICS
        }
        share = float(np.mean(is_anomaly(tested, name="y")))
        display = cls(list(estimators), **metrics, anomaly_share=share)
        return display.plot(ax, **options)

    @classmethod
    def from_predictions(cls, decisions, y, *, folds=None, ax=None, **options):
        """Compare given values of decision functions.

        Parameters
        ----------
        decisions : dict of array-likes of shape (n_samples,)
            The decision function (or the score) of each detector, higher is more
            normal, by the detector's name.
        y : array-like of shape (n_samples,)
            1 normal, -1 anomaly.
        folds : array-like of shape (n_samples,) or None, default=None
            Which fold each row was tested in; None is one fold.
        ax : matplotlib Axes or None, default=None
            Where to draw; axes of a new figure if None.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : DetectorComparisonDisplay
            What was drawn.
        """
        anomalous = is_anomaly(to_numpy(y), name="y")
        folds = np.zeros(len(anomalous)) if folds is None else np.asarray(folds)
        rows = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
        found = []
        for name, decision in decisions.items():
            decision = finite_scores(decision, f"decisions[{name!r}]")
            if len(decision) != len(anomalous):
                raise ValueError(
                    f"y has {len(anomalous)} labels, decisions[{name!r}] has "
                    f"{len(decision)} values."
                )
            found.append([areas(anomalous[own], decision[own]) for own in rows])
        metrics = {
            metric: np.array([[fold[metric] for fold in line] for line in found])
            for metric, *_ in _METRICS
        }
        share = float(np.mean(anomalous))
        display = cls([str(key) for key in decisions], **metrics, anomaly_share=share)
        return display.plot(ax, **options)

    def plot(
        self, ax=None, *, sort=True, ink="black", point_kwargs=None, line_kwargs=None
    ):
        """Draw on `ax`, or on axes of a new figure.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw.
        sort : bool, default=True
            Whether the detector with the largest mean ROC AUC comes first; otherwise
            they stand as they were given.
        ink : color, default="black"
            Colour of lines and text that stand for no metric.
        point_kwargs : dict or None, default=None
            Passed to matplotlib's `scatter` for the means.
        line_kwargs : dict or None, default=None
            Passed to matplotlib's `hlines` for the ranges.

        Returns
        -------
        self : DetectorComparisonDisplay
            With `ax_`, `figure_`, `means_`, `folds_`, `ranges_` and `order_`.
        """
        n_detectors = len(self.names)
        if ax is None:
            ax = new_axes(size=(6.4, 1.3 + 0.36 * n_detectors))
        self.order_ = list(range(n_detectors))
        if sort:
            means = self.roc_auc.mean(axis=1)
            self.order_ = np.argsort(-means, kind="stable").tolist()
        self.means_, self.folds_, self.ranges_ = {}, {}, {}
        chances = (0.5, self.anomaly_share)
        for (metric, label, marker, color), shift, chance in zip(
            _METRICS, (-0.16, 0.16), chances, strict=True
        ):
            values = getattr(self, metric)[self.order_]  # (n_detectors, n_folds)
            at = np.arange(n_detectors) + shift
            if values.shape[1] > 1:
                style = {"color": color, "linewidth": 1.4} | (line_kwargs or {})
                ends = values.min(axis=1), values.max(axis=1)
                self.ranges_[metric] = ax.hlines(at, *ends, **style)
                lines = np.repeat(at[:, None], values.shape[1], axis=1)
                style = {"s": 9, "marker": marker, "linewidth": 0.8}
                style |= {"facecolor": "none", "edgecolor": color}
                self.folds_[metric] = ax.scatter(values, lines, **style)
            face = color if marker == "o" else "white"
            style = {"s": 42, "marker": marker, "facecolor": face, "edgecolor": color}
            style |= {"linewidth": 1.6, "zorder": 3, "label": label}
            self.means_[metric] = ax.scatter(
                values.mean(axis=1), at, **style | (point_kwargs or {})
            )
            dots = (0, (1, 1.5)) if marker == "o" else (0, (4, 2))
            ax.axvline(
                chance,
                color=color,
                linestyle=dots,
                linewidth=1.2,
                label=f"{label} of chance",
            )
        ax.set_yticks(range(n_detectors), [self.names[k] for k in self.order_])
        ax.set_ylim(n_detectors - 0.5, -0.5)
        n_folds = self.roc_auc.shape[1]
        over = "" if n_folds == 1 else f", mean and {n_folds} folds"
        ax.set_xlabel(f"area under the curve{over}", fontsize=9)
        legend_above(ax, ink)
        paint(ax, ink)
        self.ax_, self.figure_ = ax, ax.figure
        return self


def named(estimators):
    """Return detectors by name: those of a list by class, numbered where needed."""
    if hasattr(estimators, "items"):
        return {str(name): estimator for name, estimator in estimators.items()}
    estimators = list(estimators)
    names = [estimator_name(estimator) for estimator in estimators]
    numbered = [
        name if names.count(name) == 1 else f"{name} {names[: k + 1].count(name)}"
        for k, name in enumerate(names)
    ]
    return dict(zip(numbered, estimators, strict=True))

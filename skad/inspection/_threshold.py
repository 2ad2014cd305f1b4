"""What each threshold finds and what it costs; matplotlib is imported to draw."""

from dataclasses import dataclass

import numpy as np

from skad._array import to_numpy
from skad._needed import need
from skad.inspection._plots import (
    ANOMALY_COLOR,
    NORMAL_COLOR,
    estimator_name,
    legend_above,
    new_axes,
    of_name,
    paint,
    scale_axis,
)
from skad.metrics._labels import finite_scores, is_anomaly


def rates_over_thresholds(decision, anomalous=None):
    """Return thresholds, precision, recall and alarm rate, each of shape (m,).

    A sample is flagged where its decision function is below the threshold. The
    thresholds are the values of `decision` and one above all of them, so that every
    set of samples that a threshold can flag occurs once; the first flags none and has
    no precision (NaN). Without labels precision and recall are None.
    """
    ordered = np.sort(decision)
    thresholds = np.unique(ordered)
    thresholds = np.append(thresholds, np.nextafter(thresholds[-1], np.inf))
    flagged = np.searchsorted(ordered, thresholds, side="left")
    alarm_rate = flagged / len(ordered)
    if anomalous is None:
        return thresholds, None, None, alarm_rate
    found = np.searchsorted(np.sort(decision[anomalous]), thresholds, side="left")
    precision = np.full(len(thresholds), np.nan)
    np.divide(found, flagged, out=precision, where=flagged > 0)
    return thresholds, precision, found / anomalous.sum(), alarm_rate


@dataclass
class ThresholdDisplay:
    """Precision, recall and alarm rate over the threshold of the decision function.

    The detector's own threshold is 0. The alarm rate is the share of all samples that
    are flagged, which is what somebody who has to look at the alarms pays; it needs no
    labels. Precision is the share of anomalies among the flagged samples and recall the
    share of anomalies that are flagged.

    Parameters
    ----------
    thresholds : ndarray of shape (n_thresholds,)
        Thresholds, ascending: samples with a smaller decision function are flagged.
    alarm_rate : ndarray of shape (n_thresholds,)
        The share of all samples that each flags.
    precision : ndarray of shape (n_thresholds,) or None, default=None
        NaN where no sample is flagged.
    recall : ndarray of shape (n_thresholds,) or None, default=None
        The share of the anomalies that are flagged.
    name : str or None, default=None
        What the detector is called.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What `plot` drew on.
    figure_ : matplotlib Figure
        Its figure.
    lines_ : dict of matplotlib Line2D
        The curves, by "precision", "recall" and "alarm rate".
    line_ : matplotlib Line2D
        The detector's own threshold.

    See Also
    --------
    ScoreDistributionDisplay : Where the samples lie on the same axis.

    Notes
    -----
    The curves are exact steps: between two values of the decision function nothing
    changes. A threshold that is read off the labels of some data looks better on these
    data than on others.

    Examples
    --------
    >>> from skad.inspection import ThresholdDisplay
    >>> decision, y = [-3.0, -1.0, 1.0, 2.0], [-1, 1, -1, 1]
    >>> display = ThresholdDisplay.from_predictions(decision, y)
    >>> display.recall.tolist()
    [0.0, 0.5, 0.5, 1.0, 1.0]
    >>> display.alarm_rate.tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """

    thresholds: np.ndarray
    alarm_rate: np.ndarray
    precision: np.ndarray | None = None
    recall: np.ndarray | None = None
    name: str | None = None

    @classmethod
    def from_estimator(cls, estimator, X, y=None, *, name=None, ax=None, **options):
        """Draw the curves of a fitted detector.

        Parameters
        ----------
        estimator : estimator
            A fitted detector, or a pipeline that ends in one.
        X : array-like of shape (n_samples, n_features)
            Samples that the detector was not fitted on.
        y : array-like of shape (n_samples,) or None, default=None
            1 normal, -1 anomaly; without labels the alarm rate alone is drawn.
        name : str or None, default=None
            What the detector is called; its class if None.
        ax : matplotlib Axes or None, default=None
            Where to draw; axes of a new figure if None.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : ThresholdDisplay
            What was drawn.
        """
        need("matplotlib", cls.__name__)
        name = estimator_name(estimator) if name is None else name
        decision = estimator.decision_function(X)
        return cls.from_predictions(decision, y, name=name, ax=ax, **options)

    @classmethod
    def from_predictions(cls, decision, y=None, *, name=None, ax=None, **options):
        """Draw the curves of given values of a decision function.

        Parameters
        ----------
        decision : array-like of shape (n_samples,)
            Decision function; below 0 is an anomaly.
        y : array-like of shape (n_samples,) or None, default=None
            1 normal, -1 anomaly; without labels the alarm rate alone is drawn.
        name : str or None, default=None
            What the detector is called.
        ax : matplotlib Axes or None, default=None
            Where to draw; axes of a new figure if None.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : ThresholdDisplay
            What was drawn.
        """
        decision = finite_scores(decision, "decision")
        if decision.ndim != 1 or len(decision) == 0:
            raise ValueError(
                f"decision has shape {decision.shape}; one value per sample is needed."
            )
        anomalous = None
        if y is not None:
            anomalous = is_anomaly(to_numpy(y), name="y")
            if len(anomalous) != len(decision):
                raise ValueError(
                    f"decision has {len(decision)} values, y has {len(anomalous)} "
                    "labels."
                )
            if not anomalous.any():
                raise ValueError(
                    "y has no anomaly (label -1), so that there is no recall; leave y "
                    "out to draw the alarm rate alone."
                )
        thresholds, *rates = rates_over_thresholds(decision, anomalous)
        precision, recall, alarm_rate = rates
        display = cls(thresholds, alarm_rate, precision, recall, name)
        return display.plot(ax, **options)

    def plot(self, ax=None, *, ink="black", curve_kwargs=None, line_kwargs=None):
        """Draw on `ax`, or on axes of a new figure.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw.
        ink : color, default="black"
            Colour of lines and text that stand for no curve.
        curve_kwargs : dict or None, default=None
            Passed to matplotlib's `plot` for every curve.
        line_kwargs : dict or None, default=None
            Passed to matplotlib's `axvline` for the detector's own threshold.

        Returns
        -------
        self : ThresholdDisplay
            With `ax_`, `figure_`, `lines_` and `line_`.
        """
        ax = new_axes(size=(6.4, 3.4)) if ax is None else ax
        scale_axis(ax, self.thresholds)
        # line styles tell the curves apart where colours do not
        curves = {
            "precision": (self.precision, NORMAL_COLOR, "-"),
            "recall": (self.recall, ANOMALY_COLOR, "--"),
            "alarm rate": (self.alarm_rate, ink, (0, (1, 1.2))),
        }
        self.lines_ = {}
        for label, (values, color, style) in curves.items():
            if values is None:
                continue
            options = {"color": color, "linestyle": style, "linewidth": 1.8}
            options |= {"label": label, "drawstyle": "steps-pre"}
            [self.lines_[label]] = ax.plot(
                self.thresholds, values, **options | (curve_kwargs or {})
            )
        line = {"color": ink, "linestyle": (0, (6, 3)), "linewidth": 1}
        line |= {"label": "the detector's own threshold"} | (line_kwargs or {})
        self.line_ = ax.axvline(0, **line)
        ax.set_ylim(-0.02, 1.02)
        label = of_name("threshold on the decision function", self.name)
        ax.set_xlabel(f"{label} (what is below is flagged)", fontsize=9)
        share = "share of samples" if self.recall is None else "share"
        ax.set_ylabel(share, fontsize=9)
        legend_above(ax, ink)
        paint(ax, ink)
        self.ax_, self.figure_ = ax, ax.figure
        return self

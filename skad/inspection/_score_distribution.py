"""How scores are distributed; matplotlib is imported to draw."""

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

_DARK = "#6e3000"  # the anomalies' vermilion, darker


@dataclass
class ScoreDistributionDisplay:
    """How the decision function is distributed, with the threshold at 0.

    Parameters
    ----------
    decision : ndarray of shape (n_samples,)
        Decision function of the rows; below 0 is an anomaly.
    y : ndarray of shape (n_samples,) or None, default=None
        1 normal, -1 anomaly, where it is known.
    train_decision : ndarray of shape (n_train,) or None, default=None
        Decision function of the training rows, drawn as an outline.
    unit : str, default="row"
        What a sample is called.
    normal : str, default="training"
        What the rows of `train_decision` are called.
    name : str or None, default=None
        What the detector is called.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What `plot` drew on.
    figure_ : matplotlib Figure
        Its figure.
    bars_ : list of matplotlib BarContainer
        The histogram of each kind of rows.
    line_ : matplotlib Line2D
        The threshold.

    See Also
    --------
    ThresholdDisplay : What other thresholds would find.

    Examples
    --------
    >>> from skad.density import Mahalanobis
    >>> from skad.inspection import ScoreDistributionDisplay
    >>> X = [[0.0], [0.1], [0.2], [0.3], [5.0]]
    >>> detector = Mahalanobis(contamination=0.2).fit(X)
    >>> display = ScoreDistributionDisplay.from_estimator(detector, X)
    >>> display.ax_.get_ylabel()
    'share of rows'
    """

    decision: np.ndarray
    y: np.ndarray | None = None
    train_decision: np.ndarray | None = None
    unit: str = "row"
    normal: str = "training"
    name: str | None = None

    @classmethod
    def from_estimator(
        cls, estimator, X, y=None, *, X_train=None, name=None, ax=None, **options
    ):
        """Draw the scores of a fitted detector.

        Parameters
        ----------
        estimator : estimator
            A fitted detector, or a pipeline that ends in one.
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        y : array-like of shape (n_samples,) or None, default=None
            1 normal, -1 anomaly.
        X_train : array-like of shape (n_train, n_features) or None, default=None
            Training rows to compare with.
        name : str or None, default=None
            What the detector is called; its class if None.
        ax : matplotlib Axes or None, default=None
            Where to draw; axes of a new figure if None.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : ScoreDistributionDisplay
            What was drawn.
        """
        need("matplotlib", cls.__name__)
        return cls.from_predictions(
            estimator.decision_function(X),
            y,
            train_decision=(
                None if X_train is None else estimator.decision_function(X_train)
            ),
            name=estimator_name(estimator) if name is None else name,
            ax=ax,
            **options,
        )

    @classmethod
    def from_predictions(
        cls, decision, y=None, *, train_decision=None, name=None, ax=None, **options
    ):
        """Draw given values of a decision function.

        Parameters
        ----------
        decision : array-like of shape (n_samples,)
            Decision function of the rows; below 0 is an anomaly.
        y : array-like of shape (n_samples,) or None, default=None
            1 normal, -1 anomaly.
        train_decision : array-like of shape (n_train,) or None, default=None
            Decision function of the training rows.
        name : str or None, default=None
            What the detector is called.
        ax : matplotlib Axes or None, default=None
            Where to draw; axes of a new figure if None.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : ScoreDistributionDisplay
            What was drawn.
        """
        decision = finite_scores(decision, "decision")
        if y is not None:
            y = np.where(is_anomaly(to_numpy(y), name="y"), -1, 1)
            if len(y) != len(decision):
                raise ValueError(
                    f"decision has {len(decision)} values, y has {len(y)} labels."
                )
        if train_decision is not None:
            train_decision = finite_scores(train_decision, "train_decision")
        display = cls(decision, y, train_decision, name=name)
        return display.plot(ax, **options)

    def plot(self, ax=None, *, bins=40, ink="black", bar_kwargs=None, line_kwargs=None):
        """Draw on `ax`, or on axes of a new figure.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw.
        bins : int, default=40
            Number of bins over all rows.
        ink : color, default="black"
            Colour of lines and text that stand for no kind of rows.
        bar_kwargs : dict or None, default=None
            Passed to matplotlib's `hist` for the bars.
        line_kwargs : dict or None, default=None
            Passed to matplotlib's `axvline` for the threshold.

        Returns
        -------
        self : ScoreDistributionDisplay
            With `ax_`, `figure_`, `bars_` and `line_`.
        """
        ax = new_axes(size=(6.4, 3.2)) if ax is None else ax
        groups = self._groups()
        values = [decision for _, decision, _ in groups]
        if self.train_decision is not None:
            values.append(self.train_decision)
        values = np.concatenate(values)
        edges = bin_edges(values, bins, scale_axis(ax, values))
        self.bars_ = []
        for label, decision, style in groups:
            weights = np.full(len(decision), 1 / max(1, len(decision)))
            style = {"alpha": 0.7, "label": label, **style, **(bar_kwargs or {})}
            self.bars_.append(ax.hist(decision, edges, weights=weights, **style)[2])
        if self.train_decision is not None:
            ax.hist(
                self.train_decision,
                edges,
                weights=np.full(len(self.train_decision), 1 / len(self.train_decision)),
                histtype="step",
                color=ink,
                label=f"{self.normal} {self.unit}s",
            )
        line = {"color": ink, "linestyle": "--", "linewidth": 1.2}
        line |= {"label": "threshold"} | (line_kwargs or {})
        self.line_ = ax.axvline(0, **line)
        label = of_name("decision function", self.name)
        ax.set_xlabel(f"{label} (below 0 is an anomaly)", fontsize=9)
        ax.set_ylabel(f"share of {self.unit}s", fontsize=9)
        legend_above(ax, ink)
        paint(ax, ink)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _groups(self):
        """Return (label, decision function, style) of each kind of rows."""
        plain = {"color": NORMAL_COLOR}
        if self.y is None:
            return [(f"test {self.unit}s", self.decision, plain)]
        hatched = {  # apart from the others also where colours are not seen
            "facecolor": ANOMALY_COLOR,
            "edgecolor": _DARK,
            "hatch": "////",
            "linewidth": 0,
        }
        anomaly = self.y == -1
        groups = [
            (f"normal test {self.unit}s", self.decision[~anomaly], plain),
            (f"anomalous test {self.unit}s", self.decision[anomaly], hatched),
        ]
        return [group for group in groups if len(group[1])]


def bin_edges(values, bins, width):
    """Return the edges (bins + 1,) of bins that look equal on the axis."""
    low, high = values.min(), values.max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    if width is None:
        return np.linspace(low, high, bins + 1)
    edges = np.linspace(np.arcsinh(low / width), np.arcsinh(high / width), bins + 1)
    edges = width * np.sinh(edges)
    edges[[0, -1]] = low, high  # rounding must not leave the extreme rows out
    return edges

"""Which features make samples anomalous; matplotlib is imported to draw."""

from dataclasses import dataclass
from typing import Any

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
)

_AGREE = 0.75  # of the samples have to deviate to one side for a direction to be drawn
_LONGEST = 34  # letters of a name


def shares_of_maps(maps):
    """Return each sample's map as shares (n, d): divided by its absolute sum."""
    total = np.abs(maps).sum(axis=1, keepdims=True)
    return np.divide(maps, total, out=np.zeros_like(maps), where=total > 0)


def directions(deviations):
    """Return 1, -1 or 0 for each feature (d,): the side that most samples are on."""
    above = (deviations > 0).mean(axis=0) >= _AGREE
    below = (deviations < 0).mean(axis=0) >= _AGREE
    return above.astype(int) - below


@dataclass
class FeatureBlameDisplay:
    """Each feature's share of the anomaly map of a sample, or of a group of samples.

    The map of each sample is divided by its absolute sum, so that no single sample
    speaks for a group; bars are the mean over the samples and whiskers reach from the
    lower to the upper quartile. A bar below 0 stands for a feature that speaks for
    normality, which only maps with negative values have. Features beyond `n_features`
    are summed in the last bar, so that what is drawn adds up.

    Parameters
    ----------
    shares : ndarray of shape (n_samples, n_features)
        Shares of the map, a row per sample.
    names : list of str
        What the features are called.
    direction : ndarray of shape (n_features,) or None, default=None
        1 where the samples are above what is usual, -1 where they are below, 0 where
        they do not agree.
    name : str or None, default=None
        What the detector is called.

    Attributes
    ----------
    ax_ : matplotlib Axes
        What `plot` drew on.
    figure_ : matplotlib Figure
        Its figure.
    bars_ : matplotlib BarContainer
        The bars, from the top.
    whiskers_ : matplotlib LineCollection or None
        The quartiles, for more than one sample.
    features_ : list of int
        The features that have a bar of their own, from the top.

    Notes
    -----
    A map says how anomalous a feature is, not to which side it deviates. The side is
    therefore taken from the data: the triangle shows whether at least three quarters of
    the samples lie above or below the training median. It says nothing about the
    detector: a feature can be blamed for a combination with others while its own value
    is ordinary. The map explains the detector, not the cause.

    Examples
    --------
    >>> import numpy as np
    >>> from skad import KNN
    >>> from skad.inspection import FeatureBlameDisplay
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> detector = KNN().fit(X)
    >>> display = FeatureBlameDisplay.from_estimator(
    ...     detector, [[0.0, -9.0, 0.0]], X_train=X, names=["width", "height", "depth"]
    ... )
    >>> display.features_[0], int(display.direction[1])
    (1, -1)
    """

    shares: np.ndarray
    names: Any
    direction: np.ndarray | None = None
    name: str | None = None

    @classmethod
    def from_estimator(
        cls, estimator, X, *, X_train=None, names=None, name=None, ax=None, **options
    ):
        """Draw the blame that a fitted detector puts on the features of samples.

        Parameters
        ----------
        estimator : estimator
            A fitted detector, or a pipeline that ends in one, with a map of one value
            per feature.
        X : array-like of shape (n_samples, n_features)
            The sample or the group of samples.
        X_train : array-like of shape (n_train, n_features) or None, default=None
            What is usual: the samples' sides of its medians are drawn.
        names : list of str or None, default=None
            What the features are called; the columns of a frame if None.
        name : str or None, default=None
            What the detector is called; its class if None.
        ax : matplotlib Axes or None, default=None
            Where to draw; axes of a new figure if None.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : FeatureBlameDisplay
            What was drawn.
        """
        need("matplotlib", cls.__name__)
        maps = np.asarray(to_numpy(estimator.transform(X)))
        if names is None and hasattr(X, "columns") and len(X.columns) == maps.shape[-1]:
            names = [str(column) for column in X.columns]
        deviations = None
        if X_train is not None:
            rows = np.asarray(to_numpy(X))
            if rows.shape != maps.shape:
                raise ValueError(
                    f"X has shape {rows.shape} and the map {maps.shape}: the sides of "
                    "features that a pipeline makes are not known; leave X_train out."
                )
            deviations = rows - np.median(np.asarray(to_numpy(X_train)), axis=0)
        return cls.from_predictions(
            maps,
            deviations=deviations,
            names=names,
            name=estimator_name(estimator) if name is None else name,
            ax=ax,
            **options,
        )

    @classmethod
    def from_predictions(
        cls, maps, *, deviations=None, names=None, name=None, ax=None, **options
    ):
        """Draw the blame in given anomaly maps.

        Parameters
        ----------
        maps : array-like of shape (n_samples, n_features)
            Anomaly maps, higher is more anomalous.
        deviations : array-like of shape (n_samples, n_features) or None, default=None
            The samples less what is usual, of which the signs are drawn.
        names : list of str or None, default=None
            What the features are called; x0, x1, ... if None.
        name : str or None, default=None
            What the detector is called.
        ax : matplotlib Axes or None, default=None
            Where to draw; axes of a new figure if None.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : FeatureBlameDisplay
            What was drawn.
        """
        maps = np.asarray(to_numpy(maps), dtype=np.float64)
        if maps.ndim != 2 or len(maps) == 0:
            raise ValueError(
                f"maps have shape {maps.shape}; at least one sample with one value per "
                "feature is needed (AnomalyMapDisplay draws maps of pictures)."
            )
        names = [f"x{j}" for j in range(maps.shape[1])] if names is None else names
        if len(names) != maps.shape[1]:
            raise ValueError(
                f"maps have {maps.shape[1]} features, names has {len(names)}."
            )
        direction = None
        if deviations is not None:
            deviations = np.asarray(to_numpy(deviations))
            if deviations.shape != maps.shape:
                raise ValueError(
                    f"maps have shape {maps.shape}, deviations {deviations.shape}."
                )
            direction = directions(deviations)
        display = cls(shares_of_maps(maps), list(names), direction, name)
        return display.plot(ax, **options)

    def plot(
        self, ax=None, *, n_features=10, ink="black", bar_kwargs=None, line_kwargs=None
    ):
        """Draw on `ax`, or on axes of a new figure.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw.
        n_features : int, default=10
            How many features have a bar of their own.
        ink : color, default="black"
            Colour of lines and text.
        bar_kwargs : dict or None, default=None
            Passed to matplotlib's `barh`.
        line_kwargs : dict or None, default=None
            Passed to matplotlib's `hlines` for the whiskers.

        Returns
        -------
        self : FeatureBlameDisplay
            With `ax_`, `figure_`, `bars_`, `whiskers_` and `features_`.
        """
        need("matplotlib", "drawing")
        from matplotlib.ticker import PercentFormatter

        mean = self.shares.mean(axis=0)
        order = np.argsort(-np.abs(mean), kind="stable")
        self.features_ = order[:n_features].tolist()
        rest = order[n_features:]
        values, labels = mean[self.features_], [self._label(j) for j in self.features_]
        if len(rest):
            values = np.append(values, mean[rest].sum())
            labels.append(f"{len(rest)} others" if len(rest) > 1 else "1 other")
        if ax is None:
            ax = new_axes(size=(6.4, 1.1 + 0.27 * len(values)))
        at = np.arange(len(values))
        color = [ANOMALY_COLOR if value >= 0 else NORMAL_COLOR for value in values]
        style = {"color": color, "height": 0.7} | (bar_kwargs or {})
        self.bars_ = ax.barh(at, values, **style)
        if len(rest):
            self.bars_[-1].set(facecolor="none", edgecolor=ink, linestyle=":")
        low, high = np.quantile(self.shares[:, self.features_], [0.25, 0.75], axis=0)
        self.whiskers_ = None
        if len(self.shares) > 1:
            style = {"color": ink, "linewidth": 1.2}
            style |= {"label": f"quartiles of {len(self.shares)} samples"}
            style |= line_kwargs or {}
            self.whiskers_ = ax.hlines(at[: len(low)], low, high, **style)
        ends = np.maximum(np.maximum(values[: len(high)], high), 0)
        self._draw_directions(ax, at, ends, ink)
        ax.axvline(0, color=ink, linewidth=0.8)
        ax.set_yticks(at, labels)
        ax.invert_yaxis()
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        sign = " (below 0: speaks for normal)" if (values < 0).any() else ""
        label = of_name("share of the anomaly map", self.name)
        ax.set_xlabel(f"{label}{sign}", fontsize=9)
        if ax.get_legend_handles_labels()[0]:
            legend_above(ax, ink, ncols=3, loc="lower right")  # there is more room
        paint(ax, ink)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _draw_directions(self, ax, at, ends, ink):
        """Draw triangles a little beyond the bars and whiskers."""
        if self.direction is None:
            return
        ends = ends + 0.02 * max(ends.max(), 1e-12)
        own = self.direction[self.features_]
        for side, marker, label in ((1, "^", "above"), (-1, "v", "below")):
            # empty sides too: the legend explains both
            chosen = own == side
            face = ink if side == 1 else "none"  # apart also where they are small
            style = {"marker": marker, "facecolor": face, "edgecolor": ink, "s": 26}
            style |= {"label": f"{label} the usual"}
            ax.scatter(ends[chosen], at[: len(ends)][chosen], **style)

    def _label(self, j):
        name = str(self.names[j])
        if len(name) <= _LONGEST:
            return name
        return name[: _LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"

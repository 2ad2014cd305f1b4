"""Plots of scores and maps; matplotlib is imported when one is drawn.

Figures are made through matplotlib's objects, so that nothing touches pyplot's state.
"""

import io
from dataclasses import dataclass

import numpy as np

# Okabe and Ito's blue and vermilion: apart for every kind of colour vision, and legible
# on white and on black.
NORMAL_COLOR = "#0072b2"
ANOMALY_COLOR = "#d55e00"

INKS = ("#1c1e21", "#e8eaed")  # on light and on dark pages

_HOT = (1.0, 0.45, 0.0)  # orange, where the map is largest
_DIM = 0.7  # white under it, so that pale orange stays apart from it


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

    Attributes
    ----------
    ax_ : matplotlib Axes
        What `plot` drew on.

    Examples
    --------
    >>> from skad.density import Mahalanobis
    >>> from skad.inspection import ScoreDistributionDisplay
    >>> X = [[0.0], [0.1], [0.2], [0.3], [5.0]]
    >>> detector = Mahalanobis(contamination=0.2).fit(X)
    >>> display = ScoreDistributionDisplay.from_estimator(detector, X).plot()
    >>> display.ax_.get_ylabel()
    'share of rows'
    """

    decision: np.ndarray
    y: np.ndarray | None = None
    train_decision: np.ndarray | None = None
    unit: str = "row"
    normal: str = "training"

    @classmethod
    def from_estimator(cls, estimator, X, y=None, *, X_train=None):
        """Make the display from a fitted detector.

        Parameters
        ----------
        estimator : estimator
            A fitted detector.
        X : array-like of shape (n_samples, n_features)
            Rows to score.
        y : array-like of shape (n_samples,) or None, default=None
            1 normal, -1 anomaly.
        X_train : array-like of shape (n_train, n_features) or None, default=None
            Training rows to compare with.

        Returns
        -------
        display : ScoreDistributionDisplay
            To be drawn with `plot`.
        """
        return cls(
            np.asarray(estimator.decision_function(X)),
            None if y is None else np.asarray(y),
            None
            if X_train is None
            else np.asarray(estimator.decision_function(X_train)),
        )

    def plot(self, ax=None, *, bins=40, ink="black"):
        """Draw on `ax`, or on axes of a new figure.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Where to draw.
        bins : int, default=40
            Number of bins over all rows.
        ink : color, default="black"
            Colour of lines and text that stand for no kind of rows.

        Returns
        -------
        self : ScoreDistributionDisplay
            With `ax_`.
        """
        if ax is None:
            from matplotlib.figure import Figure

            ax = Figure(figsize=(7, 3.2), layout="constrained").subplots()
        groups = self._groups()
        values = [decision for _, decision, _ in groups]
        if self.train_decision is not None:
            values.append(self.train_decision)
        values = np.concatenate(values)
        width = _linear_width(values)
        if width is not None:  # long tails: linear around the threshold, then log
            ax.set_xscale("asinh", linear_width=width)
        edges = _bin_edges(values, bins, width)
        for name, decision, color in groups:
            weights = np.full(len(decision), 1 / max(1, len(decision)))
            ax.hist(
                decision, edges, weights=weights, color=color, alpha=0.7, label=name
            )
        if self.train_decision is not None:
            ax.hist(
                self.train_decision,
                edges,
                weights=np.full(len(self.train_decision), 1 / len(self.train_decision)),
                histtype="step",
                color=ink,
                label=f"{self.normal} {self.unit}s",
            )
        ax.axvline(0, color=ink, linestyle="--", linewidth=1.2, label="threshold")
        ax.set_xlabel("decision function (below 0 is an anomaly)", fontsize=9)
        ax.set_ylabel(f"share of {self.unit}s", fontsize=9)
        ax.legend(
            frameon=False,
            labelcolor=ink,
            fontsize=8,
            ncols=2,
            loc="lower left",  # above the axes, where no bar can be under it
            bbox_to_anchor=(0, 1),
            borderaxespad=0,
        )
        paint(ax, ink)
        self.ax_ = ax
        return self

    def _groups(self):
        if self.y is None:
            return [(f"test {self.unit}s", self.decision, NORMAL_COLOR)]
        anomaly = self.y == -1
        groups = [
            (f"normal test {self.unit}s", self.decision[~anomaly], NORMAL_COLOR),
            (f"anomalous test {self.unit}s", self.decision[anomaly], ANOMALY_COLOR),
        ]
        return [group for group in groups if len(group[1])]


def heat_overlay(image, heat, *, largest=None):
    """Return a picture in grey with a map laid over it in orange.

    Parameters
    ----------
    image : array of shape (h, w)
        The picture; its smallest value is drawn black, its largest light grey.
    heat : array of shape (h, w)
        The map. Each pixel is tinted by its share of `largest`; what is not above 0 is
        left grey.
    largest : float or None, default=None
        The value that is drawn in full orange, for maps on one scale; the map's own
        largest if None.

    Returns
    -------
    rgb : ndarray of shape (h, w, 3), uint8
        The coloured picture.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.inspection import heat_overlay
    >>> heat_overlay(np.array([[0.0, 1.0]]), np.array([[0.0, 0.0]])).tolist()
    [[[0, 0, 0], [178, 178, 178]]]
    """
    grey = _unit(np.asarray(image, dtype=np.float64))
    heat = np.maximum(np.asarray(heat, dtype=np.float64), 0)
    largest = heat.max() if largest is None else largest
    share = np.minimum(heat / largest, 1) if largest > 0 else heat  # (h, w)
    weight = share[..., None]
    rgb = (1 - weight) * _DIM * grey[..., None] + weight * np.array(_HOT)
    return np.rint(255 * rgb).astype(np.uint8)


def png_of_pixels(pixels):
    """Return a PNG file with one dot per element of `pixels`, as bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png", optimize=True)
    return buffer.getvalue()


def jpeg_of_pixels(pixels):
    """Return a JPEG file with one dot per element of `pixels`, as bytes."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="jpeg", quality=85, subsampling=0)
    return buffer.getvalue()


def png_of_grey(image):
    """Return a picture of shape (h, w) as a PNG file in grey, as bytes."""
    unit = _unit(np.asarray(image, dtype=np.float64))
    return png_of_pixels(np.rint(255 * unit).astype(np.uint8))


def png_of_figure(figure, dpi=160):
    """Return a figure as a PNG file with a clear background, as bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, transparent=True)
    return buffer.getvalue()


def _unit(image):
    low, high = image.min(), image.max()
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def _linear_width(values):
    """Return where the axis turns logarithmic; None where it can be linear."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    spread = max(high - low, 1e-12 * max(1.0, abs(middle)))
    if max(values.max() - middle, middle - values.min()) < 12 * spread:
        return None
    return float(spread)


def _bin_edges(values, bins, width):
    low, high = values.min(), values.max()
    if low == high:
        low, high = low - 0.5, high + 0.5
    if width is None:
        return np.linspace(low, high, bins + 1)
    edges = np.linspace(np.arcsinh(low / width), np.arcsinh(high / width), bins + 1)
    edges = width * np.sinh(edges)
    edges[[0, -1]] = low, high  # rounding must not leave the extreme rows out
    return edges


def paint(ax, ink):
    """Give axes a clear background, and what stands for no data the colour `ink`."""
    ax.patch.set_alpha(0)
    ax.tick_params(colors=ink, which="both", labelsize=8)
    ax.xaxis.label.set_color(ink)
    ax.yaxis.label.set_color(ink)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)

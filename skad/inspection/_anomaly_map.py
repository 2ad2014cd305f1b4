"""Pictures with their anomaly maps laid over them; matplotlib is imported to draw."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skad._array import to_numpy
from skad._needed import need
from skad._pictures import PictureFiles
from skad.inspection._inspected import inspected, last_step
from skad.inspection._plots import new_axes

# Sky blue and bluish green of Okabe and Ito: both stay apart from the heat's orange.
CONTOUR_COLOR = "#56b4e9"
MASK_COLOR = "#009e73"

_HEAT = ["#d55e0000", "#d55e00b0", "#ff8c00e0", "#ffd23ff2"]  # clear, then orange, gold
_DIM = 0.75  # white under the heat
_PANEL = 2.3  # inches, the width of a picture
_SHOWN = 8  # pictures that are drawn unless told otherwise


@dataclass
class AnomalyMapDisplay:
    """Pictures beside their anomaly maps, all maps on one scale.

    A row per picture: the picture; the picture in grey with its map over it and the
    contour where the map crosses the threshold; and, where masks are known, the picture
    with the true defect marked.

    Parameters
    ----------
    pictures : sequence of arrays of shape (h, w) or (h, w, c)
        Pictures, uint8 or floats in 0..1; `PictureFiles` are read when they are drawn.
    maps : sequence of arrays of shape (h, w)
        Anomaly maps, higher is more anomalous.
    masks : sequence of arrays of shape (h, w) or None, default=None
        Where pictures are defective.
    threshold : float or None, default=None
        The value of the maps that the contour follows; None draws no contour.
    titles : sequence of str or None, default=None
        What is written over each picture.
    vmin, vmax : float or None, default=None
        Values that are drawn clear and in full colour. None: the median and the largest
        of all maps, not only of those that are drawn.

    Attributes
    ----------
    figure_ : matplotlib Figure
        What `plot` drew.
    axes_ : ndarray of Axes of shape (n_rows, n_panels)
        The panels.
    heats_ : list of matplotlib AxesImage
        The maps that were drawn.

    Examples
    --------
    >>> import numpy as np
    >>> from skad.inspection import AnomalyMapDisplay
    >>> picture = np.full((2, 16, 16), 0.5)
    >>> heat = np.zeros((2, 16, 16))
    >>> heat[1, 4:8, 4:8] = 3.0
    >>> display = AnomalyMapDisplay.from_predictions(picture, heat, threshold=2.0)
    >>> display.axes_.shape
    (2, 2)
    """

    pictures: Any
    maps: Any
    masks: Any = None
    threshold: float | None = None
    titles: Any = None
    vmin: float | None = None
    vmax: float | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator,
        X,
        *,
        masks=None,
        threshold=None,
        titles=None,
        vmin=None,
        vmax=None,
        ax=None,
        **options,
    ):
        """Draw the maps of a fitted detector on pictures.

        Parameters
        ----------
        estimator : estimator
            A fitted detector, or a pipeline that ends in one.
        X : pictures
            Whatever the detector takes: arrays and tensors (n, h, w) or (n, h, w, c),
            files, paths, or rows of pixels with the detector's `image_shape`.
        masks : sequence of arrays of shape (h, w) or None, default=None
            Where pictures are defective.
        threshold : float or None, default=None
            The value of the maps that the contour follows. None: the detector's own
            threshold where its score is the largest value of the map, so that exactly
            the pictures that it flags in part have a contour; else no contour.
        titles : sequence of str or None, default=None
            What is written over each picture; None is its decision function.
        vmin, vmax : float or None, default=None
            Values that are drawn clear and in full colour; see the class.
        ax : matplotlib Axes, array of Axes or None, default=None
            Where to draw; axes of a new figure if None.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : AnomalyMapDisplay
            What was drawn.
        """
        need("matplotlib", cls.__name__)
        last, found = last_step(estimator), inspected(estimator, X)
        maps, decision = found.maps, found.decision
        if getattr(X, "ndim", 0) == 2:  # rows of pixels
            shape = getattr(last, "image_shape_", None)
            if shape is None:
                raise ValueError(
                    f"X has rows and {type(last).__name__} no image_shape; use "
                    "from_predictions with pictures and maps in their shapes."
                )
            X = to_numpy(X).reshape(len(maps), *shape)
            maps = maps.reshape(len(maps), *shape[:2], -1).sum(axis=3)
        largest = maps.reshape(len(maps), -1).max(axis=1)
        if threshold is None and np.allclose(largest, -found.scores, rtol=1e-4):
            threshold = -float(last.offset_)
        if titles is None:
            titles = [f"decision {value:.3g}" for value in decision]
        return cls.from_predictions(
            X,
            maps,
            masks=masks,
            threshold=threshold,
            titles=titles,
            vmin=vmin,
            vmax=vmax,
            ax=ax,
            **options,
        )

    @classmethod
    def from_predictions(
        cls,
        X,
        maps,
        *,
        masks=None,
        threshold=None,
        titles=None,
        vmin=None,
        vmax=None,
        ax=None,
        **options,
    ):
        """Draw pictures and their maps.

        Parameters
        ----------
        X : pictures
            Arrays and tensors (n, h, w) or (n, h, w, c), a list of pictures of
            different sizes, files, or paths.
        maps : sequence of arrays of shape (h, w)
            The map of each picture, of its size.
        masks : sequence of arrays of shape (h, w) or None, default=None
            Where pictures are defective; None in it is a picture without a mask.
        threshold : float or None, default=None
            The value of the maps that the contour follows.
        titles : sequence of str or None, default=None
            What is written over each picture.
        vmin, vmax : float or None, default=None
            Values that are drawn clear and in full colour; see the class.
        ax : matplotlib Axes, array of Axes or None, default=None
            Where to draw; axes of a new figure if None.
        **options : dict
            Passed to `plot`.

        Returns
        -------
        display : AnomalyMapDisplay
            What was drawn.
        """
        if isinstance(X[0], str) or hasattr(X[0], "__fspath__"):
            X = PictureFiles(list(X))
        for name, other in (("maps", maps), ("masks", masks), ("titles", titles)):
            if other is not None and len(other) != len(X):
                raise ValueError(f"X has {len(X)} pictures, {name} has {len(other)}.")
        display = cls(X, maps, masks, threshold, titles, vmin, vmax)
        return display.plot(ax, **options)

    def plot(self, ax=None, *, rows=None, colorbar=True, ink="black"):
        """Draw the pictures on `ax`, or on axes of a new figure.

        Parameters
        ----------
        ax : matplotlib Axes, array of Axes or None, default=None
            Where to draw: axes of shape (n_rows, 2), with masks (n_rows, 3); or a
            single one, on which the map over one picture is drawn.
        rows : sequence of int or None, default=None
            The pictures that are drawn, in this order; None is the first eight.
        colorbar : bool, default=True
            Whether the scale of the maps is drawn beside them.
        ink : color, default="black"
            Colour of text.

        Returns
        -------
        self : AnomalyMapDisplay
            With `figure_`, `axes_` and `heats_`.
        """
        need("matplotlib", "drawing")
        from matplotlib.colors import LinearSegmentedColormap, Normalize

        if rows is None:
            rows = range(min(_SHOWN, len(self.maps)))
        single = ax is not None and np.ndim(ax) == 0
        parts = [_draw_heat] if single else [_draw_picture, _draw_heat, _draw_mask]
        parts = parts[: 3 if self.masks is not None else 2]
        drawn = [self._picture(i) for i in rows]
        axes = self._axes(ax, drawn, len(parts))
        norm = Normalize(*self._range(), clip=True)
        color_map = LinearSegmentedColormap.from_list("heat", _HEAT)
        self.heats_ = []
        for line, i, (picture, heat, mask) in zip(axes, rows, drawn, strict=True):
            for part, panel in zip(parts, line, strict=True):
                panel.set_axis_off()
                if part is _draw_heat:
                    shown = part(panel, picture, heat, norm, color_map, self.threshold)
                    self.heats_.append(shown)
                else:
                    part(panel, picture, mask)
            if self.titles is not None:
                line[0].set_title(self.titles[i], color=ink, fontsize=9, loc="left")
        if not single:
            for panel, name in zip(axes[0, 1:], ("map", "true defect"), strict=False):
                panel.set_title(name, color=ink, fontsize=9, loc="left")
        self.axes_, self.figure_ = axes, axes[0, 0].figure
        if colorbar:
            self._draw_scale(ink)
        return self

    def _picture(self, i):
        """Return picture, map and mask (or None), checked to be of one size."""
        picture, heat = to_numpy(self.pictures[i]), to_numpy(self.maps[i])
        mask = None if self.masks is None else self.masks[i]
        mask = None if mask is None else to_numpy(mask).astype(bool)
        for name, other in (("maps", heat), ("masks", mask)):
            if other is not None and other.shape != picture.shape[:2]:
                raise ValueError(
                    f"{name}[{i}] has shape {other.shape}, its picture has "
                    f"{picture.shape[:2]}."
                )
        return in_unit_range(picture), heat, mask

    def _axes(self, ax, drawn, n_panels):
        shape = len(drawn), n_panels
        if ax is None:
            heights = [heat.shape[0] / heat.shape[1] for _, heat, _ in drawn]
            above = 0.0 if self.titles is None else 0.22
            size = _PANEL * n_panels + 0.8, sum(_PANEL * h + above for h in heights)
            axes = new_axes(*shape, size=size, squeeze=False, height_ratios=heights)
            engine = axes[0, 0].figure.get_layout_engine()
            engine.set(w_pad=0.03, h_pad=0.03, hspace=0, wspace=0)
            return axes
        axes = np.atleast_1d(np.asarray(ax, dtype=object))
        if axes.size != shape[0] * shape[1]:
            raise ValueError(
                f"ax has {axes.size} axes; {shape[0]} pictures of {shape[1]} panels "
                f"need {shape[0] * shape[1]}."
            )
        return axes.reshape(shape)

    def _range(self):
        low, high = self.vmin, self.vmax
        maps = [to_numpy(heat) for heat in self.maps]
        if low is None:
            low = float(np.median(np.concatenate([heat.ravel() for heat in maps])))
        if high is None:
            high = max(float(heat.max()) for heat in maps)
        return low, high if high > low else low + 1

    def _draw_scale(self, ink):
        panels = list(self.axes_.ravel())
        height = self.figure_.get_size_inches()[1] * panels[0].get_position().height
        bar = self.figure_.colorbar(
            self.heats_[0],
            ax=panels,
            location="right",
            aspect=max(8, 6 * height * len(self.axes_)),
            fraction=0.08,
            pad=0.02,
        )
        bar.set_label("anomaly map", color=ink, fontsize=9)
        bar.ax.tick_params(colors=ink, labelsize=8)
        bar.outline.set_visible(False)
        bar.ax.set_facecolor("black")  # as under the clear end of the colours
        if self.threshold is not None:
            bar.ax.axhline(self.threshold, color=CONTOUR_COLOR, linewidth=1.5)


def _draw_picture(panel, picture, _):
    panel.imshow(picture, cmap="gray", vmin=0, vmax=1)


def _draw_heat(panel, picture, heat, norm, color_map, threshold):
    panel.imshow(_grey(picture), cmap="gray", vmin=0, vmax=1 / _DIM)
    shown = panel.imshow(heat, cmap=color_map, norm=norm)
    if threshold is not None and heat.min() < threshold < heat.max():
        panel.contour(heat, levels=[threshold], colors=CONTOUR_COLOR, linewidths=1.2)
    return shown


def _draw_mask(panel, picture, mask):
    from matplotlib.colors import to_rgba

    panel.imshow(_grey(picture), cmap="gray", vmin=0, vmax=1 / _DIM)
    if mask is not None:
        color = np.zeros((*mask.shape, 4))
        color[mask] = to_rgba(MASK_COLOR, 0.75)
        panel.imshow(color)


def _grey(picture):
    return picture if picture.ndim == 2 else picture @ [0.299, 0.587, 0.114]


def in_unit_range(picture):
    """Return a picture (h, w) or (h, w, 3) of floats in 0..1."""
    if picture.ndim == 3 and picture.shape[2] == 1:
        picture = picture[..., 0]
    if picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3):
        raise ValueError(
            f"a picture has shape {picture.shape}; (h, w), (h, w, 1) or (h, w, 3) is "
            "needed to draw it."
        )
    if picture.dtype.kind in "bu":
        whole = {"b": 1}.get(picture.dtype.kind) or np.iinfo(picture.dtype).max
        return picture / whole
    return np.clip(picture, 0, 1)

"""What plots share: colours, axes, scales, files; matplotlib is imported to draw.

Displays draw on axes that they are given. Only where they are given none is a figure of
pyplot's made, as scikit-learn's displays do.
"""

import io

import numpy as np

from skad._needed import need

# Okabe and Ito's blue and vermilion: apart for every kind of colour vision, and legible
# on white and on black.
NORMAL_COLOR = "#0072b2"
ANOMALY_COLOR = "#d55e00"

INKS = ("#1c1e21", "#e8eaed")  # on light and on dark pages

_HOT = (1.0, 0.45, 0.0)  # orange, where the map is largest
_DIM = 0.7  # white under it, so that pale orange stays apart from it


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
    """Return a figure as a PNG file with a clear background, as bytes.

    The figure keeps the background. `Figure.savefig` would draw all of it twice, the
    first time for the layout alone.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    figure.set_dpi(dpi)
    for part in (figure, *figure.axes):
        part.patch.set(facecolor="none", edgecolor="none")
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _unit(image):
    low, high = image.min(), image.max()
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def new_axes(n_rows=1, n_columns=1, *, size, **options):
    """Return axes of a new figure of pyplot's, `size` in inches."""
    pyplot = need("matplotlib.pyplot", "drawing")
    options |= {"figsize": size, "layout": "constrained"}
    return pyplot.subplots(n_rows, n_columns, **options)[1]


def scale_axis(ax, values):
    """Give values with long tails an axis that is linear around 0, then logarithmic.

    Returns where it turns logarithmic, or None where it stays linear.
    """
    width = linear_width(values)
    if width is not None:
        ax.set_xscale("asinh", linear_width=width)
        ticks = asinh_ticks(values.min(), values.max(), width)
        ax.set_xticks(ticks, [tick_label(tick) for tick in ticks])
    return width


def asinh_ticks(low, high, width, most=9):
    """Return 0 and round numbers with room for their labels between them."""
    powers = 10.0 ** np.arange(-300, 300)
    powers = powers[powers <= max(abs(low), abs(high))]
    # the rounder first; of one kind those nearer to 0 first, on either side
    candidates = [step * powers * sign for step in (1, 5, 2) for sign in (1, -1)]
    candidates = np.concatenate([[0.0], *candidates])
    candidates = candidates[(candidates >= low) & (candidates <= high)]
    places = np.arcsinh(candidates / width)
    room = (np.arcsinh(high / width) - np.arcsinh(low / width)) / most
    kept = []
    for k, place in enumerate(places):
        if all(abs(place - places[other]) > room for other in kept):
            kept.append(k)
    return sorted(candidates[kept].tolist())


def tick_label(value):
    """Return a round number as it is written at an axis."""
    if value == 0 or 1e-3 < abs(value) < 1e5:
        return f"{value:g}".replace("-", "\N{MINUS SIGN}")
    digit, power = f"{value:.0e}".split("e")
    times = r"\times " if digit.lstrip("-") != "1" else ""
    digit = digit if times else digit.replace("1", "")
    return f"${digit}{times}10^{{{int(power)}}}$"


def linear_width(values):
    """Return where the axis turns logarithmic; None where it can be linear."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    spread = max(high - low, 1e-12 * max(1.0, abs(middle)))
    if max(values.max() - middle, middle - values.min()) < 12 * spread:
        return None
    return float(spread)


def paint(ax, ink):
    """Give axes a clear background, and what stands for no data the colour `ink`."""
    ax.patch.set_alpha(0)
    ax.tick_params(colors=ink, which="both", labelsize=8)
    ax.xaxis.label.set_color(ink)
    ax.yaxis.label.set_color(ink)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)


def legend_above(ax, ink, **options):
    """Write the legend above the axes, where nothing that is drawn can be under it."""
    x = 1 if "right" in options.get("loc", "") else 0
    options = {"ncols": 2, "loc": "lower left", "bbox_to_anchor": (x, 1)} | options
    style = {"frameon": False, "labelcolor": ink, "fontsize": 8.5, "borderaxespad": 0}
    return ax.legend(**style, **options)


def of_name(what, name):
    """Return what an axis is called, with the name of the detector if there is one."""
    return what if name is None else f"{what} of {name}"


def estimator_name(estimator):
    """Return the class of a detector, of a pipeline that of its last step."""
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    return type(last).__name__

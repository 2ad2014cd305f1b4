"""What the page says about pictures: the most anomalous ones, with their maps."""

from html import escape

import numpy as np
from scipy.ndimage import binary_erosion
from sklearn.metrics import roc_auc_score

from skad.inspection import _html
from skad.inspection._anomaly_map import CONTOUR_COLOR, MASK_COLOR
from skad.inspection._html import number
from skad.inspection._plots import heat_overlay, jpeg_of_pixels

_LEAST = 160  # dots, the longer side: contours of smaller pictures would be coarse
_SKIPPED = 20  # files that were left out and that the page names


def facts(finding):
    """Return what the summary says of these data, as (name, value)."""
    height, width, channels = finding.image_shape
    kind = "grey" if channels == 1 else "colour"
    rows = [("pixels", f"{height} x {width}, {kind}")]
    if finding.skipped:
        rows.append(("files left out", f"{len(finding.skipped):,}"))
    return rows


def details(finding):
    """Return what stands below the histogram."""
    parts = []
    if finding.defects is not None and finding.metrics:
        parts += ["<h3>By kind of defect</h3>", _kinds(finding)]
    parts += ["<h3>Most anomalous pictures</h3>", _cards(finding)]
    if finding.skipped:
        parts += ["<h3>Files left out</h3>", _skipped(finding)]
    return parts


def gallery(finding, others):
    """Return nothing: pictures of several detectors are not compared."""
    return []


def _kinds(finding):
    """Return the table of defects: how many, how many flagged, how well told apart."""
    normal = finding.decision[finding.y == 1]
    rows = []
    for kind in sorted(set(finding.defects), key=lambda kind: (kind != "good", kind)):
        own = finding.decision[finding.defects == kind]
        area = "\N{EN DASH}"
        if kind != "good":
            labels = np.repeat([0, 1], [len(normal), len(own)])
            area = f"{roc_auc_score(labels, -np.concatenate([normal, own])):.3f}"
        rows.append([kind, f"{len(own):,}", f"{np.mean(own < 0):.1%}", area])
    header = ["kind", "pictures", "flagged", "ROC AUC against good"]
    caption = None
    if "pixel ROC AUC" in finding.metrics and finding.pixel_stride > 1:
        caption = (
            f"The figures over pixels look at one in {finding.pixel_stride} pixels in "
            "both directions."
        )
    return _html.table(header, rows, caption, numeric=(1, 2, 3))


def _cards(finding):
    largest = max(shown.heat.max() for shown in finding.pictures)
    largest = max(float(largest), finding.map_threshold)
    with_masks = any(shown.mask is not None for shown in finding.pictures)
    cards = [
        _card(finding, row, shown, largest)
        for row, shown in zip(finding.shown, finding.pictures, strict=True)
    ]
    note = (
        "Each picture beside its anomaly map: the more orange, the more anomalous, on "
        "one scale for all. The blue line is where the map crosses its threshold of "
        f"{number(finding.map_threshold)}."
    )
    if with_masks:
        note += " Green is the true defect."
    if finding.map_files is not None:
        note += " The maps of all pictures are in the folder maps."
    return (
        f'<p class="soft">{note}</p><div class="cards wider">'
        + "\n".join(cards)
        + "</div>"
    )


def _card(finding, row, shown, largest):
    name = f"picture {row}" if finding.files is None else finding.files[row]
    parts = [f"<strong>{escape(name)}</strong>"]
    if finding.defects is not None:
        parts.append(escape(finding.defects[row]))
    elif finding.y is not None:
        parts.append("normal" if finding.y[row] == 1 else "anomaly")
    parts.append(f"score {number(finding.score[row])}")
    parts.append("flagged" if finding.decision[row] < 0 else "not flagged")
    picture, heat, mask = _enlarged(shown.picture, shown.heat, shown.mask)
    images = [
        (np.rint(255 * picture).astype(np.uint8), f"{name}"),
        (_overlay(finding, picture, heat, largest), f"Anomaly map of {name}"),
    ]
    if mask is not None:
        images.append((_marked(picture, mask), f"True defect of {name}"))
    row_of_images = "".join(
        _html.photo(jpeg_of_pixels(pixels), alt) for pixels, alt in images
    )
    return _html.card(", ".join(parts), f'<div class="pair">{row_of_images}</div>')


def _overlay(finding, picture, heat, largest):
    low = finding.map_low
    pixels = heat_overlay(_grey(picture), heat - low, largest=largest - low)
    over = heat >= finding.map_threshold
    pixels[over & ~binary_erosion(over, iterations=2)] = _rgb(CONTOUR_COLOR)
    return pixels


def _marked(picture, mask):
    pixels = heat_overlay(_grey(picture), np.zeros(mask.shape))
    share = 0.6 * mask[..., None]
    return np.rint((1 - share) * pixels + share * _rgb(MASK_COLOR)).astype(np.uint8)


def _enlarged(*arrays):
    """Return small arrays with each pixel repeated, so that lines on them are thin."""
    factor = -(-_LEAST // max(arrays[0].shape[:2]))
    return [
        array
        if array is None or factor == 1
        else array.repeat(factor, axis=0).repeat(factor, axis=1)
        for array in arrays
    ]


def _grey(picture):
    return picture if picture.ndim == 2 else picture @ [0.299, 0.587, 0.114]


def _rgb(color):
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)], dtype=np.uint8)


def _skipped(finding):
    rows = finding.skipped[:_SKIPPED]
    caption = f"{len(finding.skipped):,} files were left out."
    if len(rows) < len(finding.skipped):
        caption += f" The first {len(rows)}; all of them are in skipped.csv."
    return _html.table(["file", "why"], rows, caption)

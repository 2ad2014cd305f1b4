"""What the page says about rows of a table, or about pictures in rows."""

from html import escape

import numpy as np

from skad.inspection import _html
from skad.inspection._html import number, numbers
from skad.inspection._plots import heat_overlay, png_of_grey, png_of_pixels


def details(finding):
    """Return what stands below the histogram."""
    return [
        "<h3>Most anomalous rows</h3>",
        _most_anomalous(finding),
        "<h3>Where they are anomalous</h3>",
        _where(finding),
    ]


def facts(finding):
    """Return what the summary says of these data, as (name, value)."""
    return [("features", f"{len(finding.feature_names):,}")]


def gallery(finding, others):
    """Return the maps of all detectors over the same pictures, a row per detector."""
    if finding.image_shape is None or not len(finding.compared):
        return []
    return [
        "<h3>The same pictures through every detector</h3>",
        _gallery(finding, others),
    ]


def _most_anomalous(finding):
    names = finding.feature_names
    header = ["row", "score", "decision", "most anomalous in"]
    if finding.y is not None:
        header.insert(3, "label")
    scores = numbers(finding.score[finding.shown])
    decisions = numbers(finding.decision[finding.shown])
    rows = []
    for row, score, decision in zip(finding.shown, scores, decisions, strict=True):
        cells = [int(row), score, decision]
        if finding.y is not None:
            cells.append({1: "normal", -1: "anomaly"}.get(int(finding.y[row]), "none"))
        top = ", ".join(names[column] for column in finding.top_features[row])
        rows.append([*cells, top])
    caption = "Rows count from 0; the score is lower the more anomalous a row is."
    return _html.table(
        header, rows, caption, numeric=(0, 1, 2), lists=(len(header) - 1,)
    )


def _where(finding):
    if finding.image_shape is not None:
        return _pictures(finding)
    parts = [
        '<p class="soft">Features by their share in the anomaly map, longest first; '
        "beside each its value and, in brackets, what 90 % of the training rows hold."
        "</p>"
    ]
    cards = [
        _html.card(_caption(finding, row), _feature_bars(finding, row, heat))
        for row, heat in zip(finding.shown, finding.maps, strict=True)
    ]
    parts.append('<div class="cards">' + "\n".join(cards) + "</div>")
    if finding.flagged.any():
        largest = finding.mean_map.max()
        order = np.argsort(-finding.mean_map, kind="stable")[:10]
        rows = [
            (finding.feature_names[j], "", finding.mean_map[j] / largest)
            for j in order
            if largest > 0
        ]
        caption = f"Mean over all {finding.flagged.sum():,} flagged rows"
        parts.append('<h3>Over all flagged rows</h3><div class="cards">')
        parts.append(_html.card(caption, _html.bars(rows)) + "</div>")
    return "\n".join(parts)


def _feature_bars(finding, row, heat, n_bars=6):
    order = np.argsort(-heat, kind="stable")[:n_bars]
    largest = heat[order[0]]
    rows = []
    for j in order:
        low, _, high = finding.train_range[:, j]
        beside = (
            f"{number(finding.X[row, j], 3)} ({number(low, 3)} to {number(high, 3)})"
        )
        share = float(heat[j] / largest) if largest > 0 else 0.0
        rows.append((finding.feature_names[j], beside, share))
    return _html.bars(rows)


def _pictures(finding):
    cards = []
    for row, heat in zip(finding.shown, finding.maps, strict=True):
        image = finding.X[row].reshape(finding.image_shape)
        j = int(np.argmax(heat))
        place = finding.feature_names[j]
        pair = _html.pixels(png_of_grey(image), f"Picture of row {row}")
        pair += _html.pixels(
            png_of_pixels(heat_overlay(image, heat.reshape(finding.image_shape))),
            f"Anomaly map of row {row}, largest at {place}",
        )
        cards.append(
            _html.card(_caption(finding, row), f'<div class="pair">{pair}</div>')
        )
    note = (
        '<p class="soft">Each picture beside its anomaly map: the more orange a pixel '
        "is, the more anomalous, relative to the map's own largest value.</p>"
    )
    return note + '<div class="cards pictures">' + "\n".join(cards) + "</div>"


def _gallery(finding, others):
    shape = finding.image_shape
    images = [finding.X[row].reshape(shape) for row in finding.compared]
    lines = [
        _gallery_line("picture", finding.compared, [png_of_grey(im) for im in images])
    ]
    for other in others:
        maps = [
            png_of_pixels(heat_overlay(image, heat.reshape(shape)))
            for image, heat in zip(images, other.compared_maps, strict=True)
        ]
        lines.append(_gallery_line(other.name, other.compared, maps))
    body = "\n".join(lines)
    return (
        '<p class="soft">The same test rows for every detector, whatever their scores.'
        f'</p><div class="wide" tabindex="0"><table class="gallery"><tbody>{body}'
        "</tbody></table></div>"
    )


def _gallery_line(name, rows, images):
    cells = [
        f"<td>{_html.pixels(png, f'{name}, row {row}')}</td>"
        for row, png in zip(rows, images, strict=True)
    ]
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>'


def _caption(finding, row):
    label = ""
    if finding.y is not None:
        label = {1: ", normal", -1: ", anomaly"}.get(int(finding.y[row]), "")
    score = number(finding.score[row])
    return f"Row {int(row)}{label}, score {score}"

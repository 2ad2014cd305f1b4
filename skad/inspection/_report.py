"""The report: one static page that says what is anomalous, how much, and where."""

from html import escape
from pathlib import Path

import numpy as np

from skad.inspection import _html
from skad.inspection._plots import (
    ScoreDistributionDisplay,
    heat_overlay,
    png_of_figure,
    png_of_grey,
    png_of_pixels,
)

_INKS = ("#1c1e21", "#e8eaed")  # on light and on dark pages


def write_report(folder, findings, *, title="Anomaly report", comparison=()):
    """Write `index.html` into a folder.

    Parameters
    ----------
    folder : str or Path
        Made where it is missing.
    findings : list of Findings
        Each gets a section: what `examine` gathered about one detector on one data set.
    title : str, default="Anomaly report"
        Heading of the page.
    comparison : sequence of Findings, default=()
        More detectors on the same data, compared in a table per data set; for pictures
        their maps are drawn beside each other.

    Returns
    -------
    path : Path
        The page.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"<h1>{escape(title)}</h1>", _overview(findings)]
    for finding in findings:
        others = [other for other in comparison if other.title == finding.title]
        parts.append(_section(finding, others))
    path = folder / "index.html"
    path.write_text(_html.page(title, "\n".join(parts)), encoding="utf-8")
    return path


def _overview(findings):
    lines = []
    for finding in findings:
        flagged = int(finding.flagged.sum())
        lines.append(
            f"<p><strong>{escape(finding.title)}</strong>: {escape(finding.name)} "
            f"learned from {finding.n_train:,} rows and flags {flagged:,} of "
            f"{len(finding.score):,} new rows ({flagged / len(finding.score):.1%}).</p>"
        )
    return "\n".join(lines)


def _section(finding, others):
    parts = [f"<h2>{escape(finding.title)}</h2>"]
    if others:
        parts += ["<h3>Detectors compared</h3>", _comparison(finding, others)]
        parts.append(f"<h3>{escape(finding.name)} in detail</h3>")
    parts += [_summary(finding), "<h3>Scores</h3>", _histogram(finding)]
    parts += ["<h3>Most anomalous rows</h3>", _most_anomalous(finding)]
    parts += ["<h3>Where they are anomalous</h3>", _where(finding)]
    if others and finding.image_shape is not None and len(finding.compared):
        parts += ["<h3>The same pictures through every detector</h3>"]
        parts.append(_gallery(finding, others))
    return "\n".join(parts)


def _comparison(finding, others):
    header = ["detector"]
    header += [*finding.metrics, "flagged", "fit, s", "score, s"]
    rows = [
        [
            other.name,
            *(f"{value:.3f}" for value in other.metrics.values()),
            f"{np.mean(other.flagged):.1%}",
            f"{other.fit_seconds:.3f}",
            f"{other.score_seconds:.3f}",
        ]
        for other in others
    ]
    caption = f"{finding.n_train:,} training rows, {len(finding.score):,} test rows"
    if finding.y is not None:
        share = np.mean(finding.y == -1)
        caption += f", of which {share:.1%} are anomalies"
    return _html.table(header, rows, caption + ".", numeric=range(1, len(header)))


def _summary(finding):
    flagged = finding.flagged
    train_flagged = f"{np.mean(finding.train_decision < 0):.1%}"
    if len(finding.train_decision) < finding.n_train:
        train_flagged += f" of {len(finding.train_decision):,} looked at"
    rows = [
        ("detector", finding.setting),
        ("training rows", f"{finding.n_train:,}"),
        ("test rows", f"{len(flagged):,}"),
        ("features", f"{len(finding.feature_names):,}"),
        ("threshold of the score", _number(finding.threshold)),
        ("flagged of the test rows", f"{flagged.sum():,} ({np.mean(flagged):.1%})"),
        ("flagged of the training rows", train_flagged),
    ]
    if finding.y is not None:
        anomalies = int(np.sum(finding.y == -1))
        rows.append(("anomalies by the labels", f"{anomalies:,}"))
    rows += [(name, f"{value:.3f}") for name, value in finding.metrics.items()]
    rows.append(("fit", f"{finding.fit_seconds:.3f} s"))
    rows.append(("score", f"{finding.score_seconds:.3f} s"))
    return _html.facts(rows)


def _histogram(finding):
    from matplotlib.figure import Figure

    images = []
    for ink in _INKS:
        figure = Figure(figsize=(5.8, 3.0), layout="constrained")
        ScoreDistributionDisplay(
            finding.decision, finding.y, finding.train_decision
        ).plot(figure.subplots(), ink=ink)
        images.append(png_of_figure(figure))
    alt = (
        f"Histogram of the decision function: {finding.flagged.sum():,} of "
        f"{len(finding.score):,} test rows lie below the threshold at 0, "
        f"between {_number(finding.decision.min())} and "
        f"{_number(finding.decision.max())}."
    )
    note = (
        "The decision function is the score less the threshold; rows left of the "
        "dashed line are flagged."
    )
    return _html.picture(*images, alt) + f'<p class="soft">{note}</p>'


def _most_anomalous(finding):
    names = finding.feature_names
    header = ["row", "score", "decision", "most anomalous in"]
    if finding.y is not None:
        header.insert(3, "label")
    scores = _numbers(finding.score[finding.shown])
    decisions = _numbers(finding.decision[finding.shown])
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
            f"{_number(finding.X[row, j], 3)} ({_number(low, 3)} to {_number(high, 3)})"
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
    """Return the maps of all detectors over the same pictures, a row per detector."""
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
    score = _number(finding.score[row])
    return f"Row {int(row)}{label}, score {score}"


def _number(value, figures=4):
    """Return a number with a few figures and no long tail of zeros."""
    text = f"{value:.{figures}g}"
    if "e" in text and 1 <= abs(value) < 1e7:
        text = f"{value:.0f}"
    return text.replace("-", "\N{MINUS SIGN}")


def _numbers(values):
    """Return a column of numbers with the same number of decimals."""
    largest = np.max(np.abs(values))
    if not 1e-3 <= largest < 1e7:
        return [f"{value:.3e}".replace("-", "\N{MINUS SIGN}") for value in values]
    decimals = max(0, 3 - int(np.floor(np.log10(largest))))
    return [f"{value:.{decimals}f}".replace("-", "\N{MINUS SIGN}") for value in values]

"""What the page says about series: the whole course, and the events in it."""

import numpy as np

from skad.inspection import _html
from skad.inspection._html import number, numbers
from skad.inspection._plots import INKS, png_of_figure

_SERIES = 4  # that are drawn whole
_EVENTS = 25  # in the table
_CLOSE = 6  # events that are drawn from near by
_AROUND = 40  # steps on either side of an event, at least

_WIDTHS = (11.0, 5.2)  # inches, on wide and on narrow screens


def facts(finding):
    """Return what the summary says of these data, as (name, value)."""
    rows = [("channels", f"{len(finding.feature_names):,}")]
    if finding.groups is not None:
        rows.append(("series", f"{len(finding.series):,}"))
    rows.append(("flagged stretches", f"{len(finding.events):,}"))
    return rows


def details(finding):
    """Return what stands below the histogram."""
    parts = ["<h3>The course</h3>", _course(finding)]
    if finding.events:
        parts += ["<h3>Events</h3>", _events(finding)]
        parts += ["<h3>The most anomalous from near by</h3>", _close(finding)]
    return parts


def gallery(finding, others):
    """Return nothing: courses through several detectors are not compared."""
    return []


def _course(finding):
    order = sorted(finding.series, key=lambda rows: finding.score[rows].min())
    note = "The score is lower the more anomalous a time step is. Flagged steps, below "
    note += "the dashed threshold, are shaded."
    if finding.y is not None:
        note += " Green bars mark the true anomalies."
    if len(finding.feature_names) > 4:
        note += " Of the channels, the four with the largest map are drawn."
    if len(order) > _SERIES:
        note += f" Of {len(order):,} series, the {_SERIES} with the lowest scores."
    parts = [f'<p class="soft">{note}</p>']
    for rows in order[:_SERIES]:
        parts.append(_drawing(finding, rows))
    return "\n".join(parts)


def _drawing(finding, rows):
    from matplotlib.figure import Figure

    display = finding.display(rows)
    n_panels = min(4, len(finding.feature_names)) + 1
    images = []
    for width in _WIDTHS:
        for ink in INKS:
            figure = Figure(figsize=(width, 0.5 + 1.3 * n_panels), layout="constrained")
            axes = figure.subplots(n_panels, 1, sharex=True)
            display.plot(axes, ink=ink)
            _name_axis(finding, axes[-1], ink)
            images.append(png_of_figure(figure, dpi=130))
    name = _series_name(finding, rows[0])
    low = rows[np.argmin(finding.score[rows])]
    alt = (
        f"{name or 'The series'}, {len(rows):,} time steps, with its score, which is "
        f"lowest at {finding.when(low)}."
    )
    heading = f"<h4>{_html.escape(name)}</h4>" if name else ""
    return heading + _html.wide_picture(*images, alt)


def _series_name(finding, row):
    if finding.groups is None:
        return ""
    return f"{finding.group_name} {finding.groups[row]}"


def _name_axis(finding, panel, ink):
    label = "row" if finding.time is None else finding.time_name[:60]
    if finding.time is not None and finding.time.utc:
        label += " (UTC)"
    elif finding.time is not None and finding.time.dates() is not None:
        return  # dates say what they are
    panel.set_xlabel(label, fontsize=9, color=ink, parse_math=False)


def _events(finding):
    events = finding.events[:_EVENTS]
    several = len(finding.feature_names) > 1
    header = ["start", "end", "steps", "score", "lowest at"]
    header += ["channels"] if several else []
    header += ["label"] if finding.y is not None else []
    header = ([finding.group_name] if finding.groups is not None else []) + header
    scores = numbers(np.array([event.score for event in events]))
    rows = []
    for event, score in zip(events, scores, strict=True):
        line = [] if finding.groups is None else [finding.groups[event.start]]
        line += [finding.when(event.start), finding.when(event.end)]
        line += [f"{event.n_steps:,}", score, finding.when(event.peak)]
        line += [", ".join(event.channels)] if several else []
        if finding.y is not None:
            line.append("anomaly" if event.anomaly else "normal")
        rows.append(line)
    caption = f"{len(finding.events):,} stretches of flagged steps"
    if len(events) < len(finding.events):
        caption += f", the {len(events)} most anomalous here, all in events.csv"
    at = header.index("steps")
    lists = (header.index("channels"),) if several else ()
    return _html.table(
        header, rows, caption + ".", numeric=(at, at + 1), lists=lists, nowrap=True
    )


def _close(finding):
    cards = []
    for event in finding.events[:_CLOSE]:
        [rows] = [rows for rows in finding.series if _holds(rows, event)]
        start, stop = np.searchsorted(rows, [event.start, event.end + 1])
        around = max(_AROUND, stop - start)
        own = slice(max(0, start - around), stop + around)
        caption = f"{finding.when(event.start)} to {finding.when(event.end)}, score "
        caption = _html.escape(caption + number(event.score))
        cards.append(_html.card(caption, _near(finding, rows, own, event)))
    return '<div class="cards">' + "\n".join(cards) + "</div>"


def _holds(rows, event):
    at = np.searchsorted(rows, event.start)
    return at < len(rows) and rows[at] == event.start


def _near(finding, rows, own, event):
    from matplotlib.figure import Figure

    channel = finding.feature_names.index((event.channels or finding.feature_names)[0])
    images = []
    for ink in INKS:
        figure = Figure(figsize=(4.2, 2.7), layout="constrained")
        axes = figure.subplots(2, 1, sharex=True)
        finding.display(rows).plot(axes, channels=[channel], rows=own, ink=ink)
        _name_axis(finding, axes[-1], ink)
        images.append(png_of_figure(figure, dpi=130))
    alt = f"{finding.feature_names[channel]} and the score around the event."
    return _html.picture(*images, alt)

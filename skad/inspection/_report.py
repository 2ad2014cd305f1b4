"""The report: one static page that says what is anomalous, how much, and where.

The page is the same for every kind of data: what was found, the detector, the scores.
What stands below is a matter of the kind, a module each, with `facts`, `details` and
`gallery`.
"""

import contextlib
import warnings
from html import escape

import numpy as np

from skad._needed import need
from skad._paths import as_path
from skad.inspection import _html, _report_pictures, _report_rows, _report_series
from skad.inspection._agreement import agreement
from skad.inspection._findings import open_text
from skad.inspection._html import number
from skad.inspection._pictures import PictureFindings
from skad.inspection._plots import INKS, png_of_figure
from skad.inspection._rows import RowFindings
from skad.inspection._score_distribution import ScoreDistributionDisplay
from skad.inspection._time_series import SeriesFindings

__all__ = ["write_report"]

_KINDS = {
    RowFindings: _report_rows,
    PictureFindings: _report_pictures,
    SeriesFindings: _report_series,
}


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
    need("PIL", "the report")
    matplotlib = need("matplotlib", "the report")
    folder = as_path(folder, "folder")
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"<h1>{escape(title)}</h1>", _overview(findings)]
    with _plain_plots(matplotlib):
        seen = set()
        for finding in findings:
            others = [other for other in comparison if other.title == finding.title]
            first = finding.title not in seen
            seen.add(finding.title)
            own = _section(finding, others if first else [], first)
            parts.append(f'<section id="{_anchor(findings, finding)}">{own}</section>')
    path = folder / "index.html"
    with open_text(path) as file:
        file.write(_html.page(title, "\n".join(parts)))
    return path


@contextlib.contextmanager
def _plain_plots(matplotlib):
    """Draw as matplotlib does by itself, whatever the user's settings and names are."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False  # $ in a name is a dollar
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        yield


def _anchor(findings, finding):
    """Return where the section of a finding is on the page."""
    return f"section-{next(k for k, f in enumerate(findings) if f is finding) + 1}"


def _overview(findings):
    lines = []
    for finding in findings:
        flagged, n = int(finding.flagged.sum()), len(finding.score)
        lines.append(
            f'<p><strong><a href="#{_anchor(findings, finding)}">'
            f"{escape(finding.title)}</a></strong>: {escape(finding.name)} "
            f"learned from {finding.n_train:,} {finding.unit}s and flags {flagged:,} "
            f"of {n:,} new {finding.unit}s ({flagged / n:.1%}).</p>"
        )
    return "\n".join(lines)


def _section(finding, others, first=True):
    kind = _KINDS[type(finding)]
    title = finding.title if first else f"{finding.title}: {finding.name}"
    parts = [f"<h2>{escape(title)}</h2>"]
    if others:
        parts += ["<h3>Detectors compared</h3>", _comparison(finding, others)]
        parts.append(f"<h3>{escape(finding.name)} in detail</h3>")
    parts += [_summary(finding, kind), "<h3>Scores</h3>", _histogram(finding)]
    parts += kind.details(finding)
    if others:
        parts += kind.gallery(finding, others)
    return "\n".join(parts)


def _comparison(finding, others):
    header = ["detector"]
    header += [*finding.metrics, "flagged"]
    header += ["same labels", "rank correlation"] if len(others) > 1 else []
    header += ["fit, s", f"{finding.scored}, s"]
    agreed = [[]] * len(others)
    if len(others) > 1:
        found = agreement(others)
        agreed = [
            [f"{same:.1%}", f"{correlation:.3f}"]
            for same, correlation in zip(
                found.same_labels_with_others,
                found.correlation_with_others,
                strict=True,
            )
        ]
    rows = [
        [
            other.name,
            *(f"{other.metrics.get(name, np.nan):.3f}" for name in finding.metrics),
            f"{np.mean(other.flagged):.1%}",
            *own,
            f"{other.fit_seconds:.3f}",
            f"{other.score_seconds:.3f}",
        ]
        for other, own in zip(others, agreed, strict=True)
    ]
    caption = (
        f"{finding.n_train:,} training {finding.unit}s, {len(finding.score):,} test "
        f"{finding.unit}s"
    )
    if finding.y is not None:
        share = np.mean(finding.y == -1)
        caption += f", of which {share:.1%} are anomalies"
    caption += "."
    if len(others) > 1:
        caption += (
            f" Same labels: the share of {finding.unit}s that it and another both flag "
            "or neither does; rank correlation: that of scores, Spearman's; both means "
            "over the other detectors."
        )
    return _html.table(header, rows, caption, numeric=range(1, len(header)))


def _summary(finding, kind):
    flagged = finding.flagged
    normal = "held-out" if finding.held_out else "training"
    normal_flagged = f"{np.mean(finding.train_decision < 0):.1%}"
    if len(finding.train_decision) < (finding.held_out or finding.n_train):
        normal_flagged += f" of {len(finding.train_decision):,} looked at"
    if finding.as_new and not finding.held_out:
        normal_flagged += ", each as if it were new"
    rows = [
        ("detector", finding.setting),
        (f"training {finding.unit}s", f"{finding.n_train:,}"),
        *(
            [(f"held-out {finding.unit}s", f"{finding.held_out:,}")]
            if finding.held_out
            else []
        ),
        (f"test {finding.unit}s", f"{len(flagged):,}"),
        *kind.facts(finding),
        ("threshold of the score", number(finding.threshold)),
        *([("what it means", finding.meaning)] if finding.meaning else []),
        (
            f"flagged of the test {finding.unit}s",
            f"{flagged.sum():,} ({np.mean(flagged):.1%})",
        ),
        (f"flagged of the {normal} {finding.unit}s", normal_flagged),
    ]
    if finding.y is not None:
        anomalies = int(np.sum(finding.y == -1))
        rows.append(("anomalies by the labels", f"{anomalies:,}"))
    rows += [(name, f"{value:.3f}") for name, value in finding.metrics.items()]
    rows.append(("fit", f"{finding.fit_seconds:.3f} s"))
    rows.append((finding.scored, f"{finding.score_seconds:.3f} s"))
    return _html.facts(rows)


def _histogram(finding):
    from matplotlib.figure import Figure

    images = []
    for ink in INKS:
        figure = Figure(figsize=(5.8, 3.0), layout="constrained")
        ScoreDistributionDisplay(
            finding.decision,
            finding.y,
            finding.train_decision,
            finding.unit,
            "held-out" if finding.held_out else "training",
        ).plot(figure.subplots(), ink=ink)
        images.append(png_of_figure(figure))
    alt = (
        f"Histogram of the decision function: {finding.flagged.sum():,} of "
        f"{len(finding.score):,} test {finding.unit}s lie below the threshold at 0, "
        f"between {number(finding.decision.min())} and "
        f"{number(finding.decision.max())}."
    )
    note = (
        f"The decision function is the score less the threshold; {finding.unit}s left "
        "of the dashed line are flagged."
    )
    return _html.picture(*images, alt) + f'<p class="soft">{note}</p>'

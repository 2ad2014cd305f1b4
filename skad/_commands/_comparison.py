"""Several detectors on the same data: how far they agree, as a table and as JSON."""

from skad.inspection._agreement import agreement

HEADER = ("detector", "flagged", "share", "same labels", "rank corr.")


def comparison(findings):
    """Return what is said of several findings beside each other.

    Parameters
    ----------
    findings : list of Findings
        Of the same samples.

    Returns
    -------
    table : list of dict
        One per detector.
    pairs : dict
        `rank_correlation` and `same_labels`, {name: {name: value}}.
    """
    found = agreement(findings)
    names = [finding.name for finding in findings]
    table = [
        {
            "detector": finding.name,
            "flagged": int(finding.flagged.sum()),
            "flagged_share": float(finding.flagged.mean()),
            "same_labels": float(found.same_labels_with_others[k]),
            "rank_correlation": float(found.correlation_with_others[k]),
            "metrics": dict(finding.metrics),
            "fit_seconds": finding.fit_seconds,
            "score_seconds": finding.score_seconds,
        }
        for k, finding in enumerate(findings)
    ]
    pairs = {
        name: {
            a: {b: float(matrix[i, j]) for j, b in enumerate(names)}
            for i, a in enumerate(names)
        }
        for name, matrix in (
            ("rank_correlation", found.correlation),
            ("same_labels", found.same_labels),
        )
    }
    return table, pairs


def lines_of(table):
    """Return the table as lines of text, with the columns above each other."""
    metrics = [
        name for name in ("ROC AUC", "average precision") if name in table[0]["metrics"]
    ]
    header = [*HEADER, *metrics, "fit, s", "look, s"]
    rows = [
        [
            line["detector"],
            f"{line['flagged']:,}",
            f"{line['flagged_share']:.1%}",
            f"{line['same_labels']:.1%}",
            f"{line['rank_correlation']:.3f}",
            *(f"{line['metrics'].get(name, float('nan')):.3f}" for name in metrics),
            f"{line['fit_seconds']:.3f}",
            f"{line['score_seconds']:.3f}",
        ]
        for line in table
    ]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(
            [cells[0].ljust(widths[0])]
            + [c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True)]
        )
        for cells in (header, *rows)
    ]

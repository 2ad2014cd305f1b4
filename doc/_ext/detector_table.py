"""The directives `detector-table`, `decision-chart`, and those of the checks.

All of them are made from the code.
"""

from api import places
from decision_chart import both
from detector_figures import NOTES, figures
from detector_rows import KINDS, kind, row
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import skad

# Columns from the left, with their widths: what one chooses by, then what one reads.
COLUMNS = {
    "Detector": 12,
    "Finds": 14,
    "Quality": 8,
    "Flagged": 8,
    "Honest scores": 7,
    "Seconds": 6,
    "Weights": 6,
    "Input": 7,
    "Labels": 7,
    "Localization": 13,
    "Cost": 13,
    "Paper": 13,
}


def list_table(rows, widths, css=""):
    """Return rows of cells as the source of a table, with a line of titles."""
    lines = [".. list-table::", "   :header-rows: 1"]
    lines += [f"   :class: {css}"] if css else []
    lines += [f"   :widths: {' '.join(map(str, widths))}", ""]
    for cells in [list(rows[0]), *[list(cells.values()) for cells in rows]]:
        for number, cell in enumerate(cells):
            lines.append(f"   {'* -' if number == 0 else '  -'} {cell}".rstrip())
    return "\n".join(lines)


class DetectorTable(SphinxDirective):
    """Show the table of the detectors of each kind of data."""

    def run(self):
        parts = []
        detectors = [cls for _, cls in skad.all_detectors()]
        for found, title in KINDS.items():
            cells = [
                row(cls) | figures(cls, found)
                for cls in detectors
                if kind(cls) == found
            ]
            rows = [{name: own[name] for name in COLUMNS} for own in cells]
            table = list_table(rows, list(COLUMNS.values()), "sortable")
            parts.append(f"{title}\n{'-' * len(title)}\n\n{NOTES[found]}\n\n{table}")
        return self.parse_text_to_nodes("\n\n".join(parts), allow_section_headings=True)


class DecisionChart(SphinxDirective):
    """Draw which detector to begin with, every one a link to its page."""

    def run(self):
        known = places()
        drawn = both(lambda name: f"generated/api/members/{known[name]}.html")
        return [nodes.raw("", drawn, format="html")]


class ExpectedFailures(SphinxDirective):
    """Show the estimator checks that cannot hold, with the reason for each."""

    def run(self):
        from tests._instances import EXPECTED_FAILURES, OVER_WINDOWS

        names = {}
        for name, checks in EXPECTED_FAILURES.items():
            for check, reason in checks.items():
                names.setdefault((check, reason), []).append(f"``{name}``")
        for check, reason in OVER_WINDOWS.items():
            windows = "detectors of series with windows of more than one step"
            names[check, reason] = [windows]
        rows = [
            {"Check": f"``{check}``", "Detectors": ", ".join(of), "Reason": reason}
            for (check, reason), of in names.items()
        ]
        return self.parse_text_to_nodes(list_table(rows, [30, 40, 30]))


class CheckedSettings(SphinxDirective):
    """Show the settings in which the estimator checks run, but for what they hold."""

    def run(self):
        from tests._instances import CHEAP

        held = {
            "classifier",
            "embedding",
            "backbone",
            "layers",
            "detector",
            "detectors",
        }
        rows = []
        for name, settings in sorted(CHEAP.items()):
            shown = [
                f"``{key}={value!r}``"
                for key, value in settings.items()
                if key not in held
            ]
            if shown:
                cells = {"Detector": f"``{name}``", "Settings": ", ".join(shown)}
                rows.append(cells)
        return self.parse_text_to_nodes(list_table(rows, [25, 75]))


def setup(app):
    """Register the directives."""
    app.add_directive("detector-table", DetectorTable)
    app.add_directive("decision-chart", DecisionChart)
    app.add_directive("expected-failures", ExpectedFailures)
    app.add_directive("checked-settings", CheckedSettings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

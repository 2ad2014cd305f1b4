"""The directives `detector-table` and `expected-failures`, made from the code."""

from detector_rows import KINDS, kind, row
from sphinx.util.docutils import SphinxDirective

import skad


def list_table(rows, widths):
    """Return rows of cells as the source of a table, with a line of titles."""
    lines = [".. list-table::", "   :header-rows: 1"]
    lines += [f"   :widths: {' '.join(map(str, widths))}", ""]
    for cells in [list(rows[0]), *[list(cells.values()) for cells in rows]]:
        for number, cell in enumerate(cells):
            lines.append(f"   {'* -' if number == 0 else '  -'} {cell}")
    return "\n".join(lines)


class DetectorTable(SphinxDirective):
    """Show the table of the detectors of each kind of data."""

    def run(self):
        parts = []
        detectors = [cls for _, cls in skad.all_detectors()]
        for found, title in KINDS.items():
            rows = [row(cls) for cls in detectors if kind(cls) == found]
            table = list_table(rows, [12, 24, 10, 10, 20, 24])
            parts.append(f"{title}\n{'-' * len(title)}\n\n{table}")
        return self.parse_text_to_nodes("\n\n".join(parts), allow_section_headings=True)


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


def setup(app):
    """Register the directives."""
    app.add_directive("detector-table", DetectorTable)
    app.add_directive("expected-failures", ExpectedFailures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

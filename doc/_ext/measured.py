"""Measurements in the text, by roles and directives: no figure is typed by hand.

The role `quality` is a detector's figure on real data, `measured` a cell of a file. The
directives `family-figures`, `quality-beside-peers`, `speed-beside-peers` are tables.
"""

from detector_table import list_table
from docutils import nodes
from how_good import (
    balance,
    beside_peers,
    cell,
    family_tables,
    grid,
    grid_ratios,
    networks,
    quality_of,
    times,
)
from sphinx.util.docutils import SphinxDirective, SphinxRole

from benchmarks import _readme


def as_source(title, note, rows):
    """Return a section with a table, with an anchor where it is of pictures."""
    table = list_table(rows, [100 // len(rows[0])] * len(rows[0]), "sortable")
    anchor = ".. _pictures-measured:\n\n" if title == "Pictures" else ""
    return f"{anchor}{title}\n{'-' * len(title)}\n\n{note}\n\n{table}"


class Quality(SphinxRole):
    """A detector's figure on real data."""

    def run(self):
        return [nodes.Text(quality_of(self.text))], []


class Measured(SphinxRole):
    """One cell of a file of results."""

    def run(self):
        return [nodes.Text(cell(self.text))], []


class FamilyFigures(SphinxDirective):
    """Show what was measured of a family's detectors."""

    required_arguments = 1

    def run(self):
        parts = []
        for note, rows in family_tables(self.arguments[0]):
            parts += [list_table(rows, [25, 30, 25, 20], "sortable"), note]
        return self.parse_text_to_nodes("\n\n".join(parts))


class QualityBesidePeers(SphinxDirective):
    """Show how good detectors are, beside those of other libraries."""

    def run(self):
        parts = [as_source(title, *found) for title, found in beside_peers().items()]
        return self.parse_text_to_nodes("\n\n".join(parts), allow_section_headings=True)


class SpeedBesidePeers(SphinxDirective):
    """Show how fast detectors are, beside those of other libraries."""

    def run(self):
        name = _readme.HEAD[3]
        parts = [
            as_source(title, balance([float(row[column]) for row in rows]), rows)
            for title, column, rows in (
                ("All kinds", name, times()),
                ("Networks, fit and score", "Theirs over ours", networks()),
            )
        ]
        note = (
            "Theirs over ours: scikit-learn's own class where there is one, else "
            "PyOD's. *Fit* sets our threshold, from scores of rows that are left out; "
            "*fit, same threshold* takes the quantile of training scores that theirs "
            "takes. Where a dash stands a fit takes too long to be measured. What is "
            "slower, and why: ``IsolationForest`` finds again which rows each tree has "
            "seen, to leave them out, and compares features in units of their own; "
            "``CBLOF`` leaves each row out of its centre (with as many starts of "
            "k-means as theirs has, one; the default is ten); ``GMM`` and "
            "``Mahalanobis`` fit as theirs do and leave rows out besides, and ``GMM`` "
            "takes a root of each covariance, for maps; ``OneClassSVM`` takes sets of "
            "variables at a time, which repays itself with many rows."
        )
        note = f"{note} {balance(grid_ratios())}"
        parts.append(as_source("Tables, by size", note, grid()))
        return self.parse_text_to_nodes("\n\n".join(parts), allow_section_headings=True)


def setup(app):
    """Register roles and directives."""
    app.add_role("quality", Quality())
    app.add_role("measured", Measured())
    app.add_directive("family-figures", FamilyFigures)
    app.add_directive("quality-beside-peers", QualityBesidePeers)
    app.add_directive("speed-beside-peers", SpeedBesidePeers)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""The directives `detector-table` and `expected-failures`: tables made from the code.

A row says of a detector what its class and its docstring say. Nothing is written by
hand a second time: a new detector is in the table as soon as it is in `__all__`.
"""

import inspect
import re

from numpydoc.docscrape import NumpyDocString
from sphinx.util.docutils import SphinxDirective

import skad
from skad._commands._build import kind_of_data

KINDS = {
    "tables": "Rows of a table",
    "pictures": "Pictures",
    "series": "Time series",
    "a classifier": "Around a classifier",
}
ELEMENTS = {
    "tables": "features",
    "pictures": "pixels",
    "series": "steps and channels",
    "a classifier": "elements of the input",
}
COST = re.compile(r"O\(|\b[Cc]osts?\b|\blinear in\b")
SENTENCE = re.compile(r"(?<=[.])\s+(?=[A-Z`:])")


def plain(lines):
    """Return paragraphs as one line of reST without citations."""
    return re.sub(r"\s*\[\d+\]_", "", " ".join(" ".join(lines).split()))


def first_reference(doc):
    """Return authors, title and year of the paper that a docstring names first."""
    text = " ".join(" ".join(doc["References"]).split())
    entry = re.split(r"\.\. \[\d+\] ", text)[1]
    authors, title = re.match(r'(.+?), "(.+?),?"', entry).groups()
    entry = re.sub(r"arXiv[:.]? ?\d+\.\d+", "", entry)
    return authors, title, re.findall(r"\b(?:1[89]|20)\d\d\b", entry)[-1]


def short(authors):
    """Return the surnames of one or two authors, of more the first one's."""
    names = re.split(r",? and |, ", authors.replace(" et al.", ", et al."))
    surname = re.compile(r"^(?:[\w.-]+\. )*")
    first = surname.sub("", names[0])
    if len(names) == 1:
        return first
    second = surname.sub("", names[1])
    return (
        f"{first} et al."
        if len(names) > 2 or second == "et al."
        else (f"{first} and {second}")
    )


def paper(doc):
    authors, title, year = first_reference(doc)
    return f"{short(authors)} ({year}), *{title}*"


def data(cls):
    """Return what a detector takes."""
    tags = cls().__sklearn_tags__()
    kinds = {"tables": "rows", "a classifier": "what the classifier takes"}
    found = kinds.get(kind_of_data(cls), kind_of_data(cls))
    if kind_of_data(cls) == "series" and inspect.getdoc(cls).startswith("Edges"):
        found = "edges of a graph, in the order of time"
    if kind_of_data(cls) == "tables" and "image_shape" in cls._parameter_constraints:
        found += ", pictures"
    return found + (", also with NaN" if tags.input_tags.allow_nan else "")


def labels(cls):
    """Return the labels that `fit` uses."""
    if kind_of_data(cls) == "a classifier":
        required = cls().__sklearn_tags__().target_tags.required
        return "classes" if required else "classes, optional"
    uses = inspect.getattr_static(cls, "_uses_labels", False)
    if isinstance(uses, property):
        return "what its detector uses"
    return "known anomalies, optional" if uses else "none"


def localization(cls, doc):
    """Return what the map is over, and how the class says it relates to the score."""
    elements = ELEMENTS[kind_of_data(cls)]
    if cls()._map_sums_to_score:
        return f"{elements}; sums to the score"
    text = plain(doc["Extended Summary"])
    clauses = re.findall(r"[Tt]he map (?:is )?(.+?)(?:[.:;](?=\s)|$)", text)
    return f"{elements}; {clauses[0]}" if clauses else elements


def cost(cls, doc):
    """Return what the Notes say of the cost, and the epochs of a network."""
    notes = SENTENCE.split(plain(doc["Notes"]))
    ordered = [sentence for sentence in notes if "O(" in sentence]
    found = ordered or [sentence for sentence in notes if COST.search(sentence)]
    if "max_epochs" in cls._parameter_constraints:
        found.insert(0, f"Trains {cls().max_epochs} epochs of a network.")
    return " ".join(found[:2])


def row(cls):
    """Return the cells of a detector, by column."""
    doc = NumpyDocString(inspect.getdoc(cls))
    return {
        "Detector": f"``{cls.__name__}``",
        "Paper": paper(doc),
        "Input": data(cls),
        "Labels": labels(cls),
        "Localization": localization(cls, doc),
        "Cost": cost(cls, doc),
    }


def list_table(rows, widths):
    """Return rows of cells as the source of a table, with a line of titles."""
    lines = [".. list-table::", "   :header-rows: 1"]
    lines += [f"   :widths: {' '.join(map(str, widths))}", ""]
    for cells in [list(rows[0]), *[list(row.values()) for row in rows]]:
        for number, cell in enumerate(cells):
            lines.append(f"   {'* -' if number == 0 else '  -'} {cell}")
    return "\n".join(lines)


class DetectorTable(SphinxDirective):
    """Show the table of the detectors of each kind of data."""

    def run(self):
        parts = []
        detectors = [cls for _, cls in skad.all_detectors()]
        for kind, title in KINDS.items():
            rows = [row(cls) for cls in detectors if kind_of_data(cls) == kind]
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

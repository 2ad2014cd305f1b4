"""Writes README's tables of detectors from the first lines of their docstrings.

``python -m tests._readme`` writes them anew, `test_docs` says when that is due.
"""

import pathlib
import re

import skad

FILE = pathlib.Path(__file__).parents[1] / "README.md"

# What a table's detectors look at, as `_data` says, and its heading.
TABLES = {
    ("rows",): "of rows",
    ("pictures",): "of pictures",
    ("series", "edges"): "of series",
    ("classifier",): "around a classifier",
    ("detector",): "around any detector",
}


def line(name, cls):
    """Return the line of a detector: its name and its docstring's summary."""
    summary = cls.__doc__.split("\n")[0].removesuffix(".")
    return f"| `{name}` | {summary[0].lower()}{summary[1:]} |"


def tables():
    """Return {heading: table}."""
    found = {}
    for data, title in TABLES.items():
        heading = f"| detector {title} | finds |"
        lines = [
            line(name, cls)
            for name, cls in sorted(skad.all_detectors(), key=lambda d: d[0].lower())
            if cls._data in data
        ]
        found[heading] = "\n".join([heading, "| --- | --- |", *lines, ""])
    return found


def with_tables(text):
    """Return README's text with its tables of detectors as they have to be."""
    for heading, table in tables().items():
        old = re.compile(rf"^{re.escape(heading)}\n(\|.*\n)*", re.MULTILINE)
        assert old.search(text), f"README has no line {heading}"
        text = old.sub(lambda _, table=table: table, text)
    return text


if __name__ == "__main__":
    FILE.write_text(with_tables(FILE.read_text("utf-8")), "utf-8")

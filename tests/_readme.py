"""Writes README's table of families and their detectors from the packages.

``python -m tests._readme`` writes it anew, `test_docs` says when that is due. What each
detector finds stands in the manual's table of all detectors.
"""

import pathlib
import re
from importlib import import_module

import skad

FILE = pathlib.Path(__file__).parents[1] / "README.md"
HEADING = "| family | detectors | classes |"


def line(family):
    """Return the line of a family: its page, its docstring's summary, its detectors."""
    package = import_module(f"skad.{family}")
    summary = package.__doc__.split("\n")[0].removesuffix(".")
    summary = summary.removeprefix("Detectors ")
    known = dict(skad.all_detectors())
    names = sorted((n for n in package.__all__ if n in known), key=str.lower)
    names = ", ".join(f"`{name}`" for name in names)
    page = f"[{family}](doc/user_guide/{family}.rst)"
    return f"| {page} | {summary[0].lower()}{summary[1:]} | {names} |"


def table():
    """Return the table."""
    families = sorted(skad._WITH_DETECTORS)
    return "\n".join([HEADING, "| --- | --- | --- |", *map(line, families), ""])


def with_table(text):
    """Return README's text with its table of detectors as it has to be."""
    old = re.compile(rf"^{re.escape(HEADING)}\n(\|.*\n)*", re.MULTILINE)
    assert old.search(text), f"README has no line {HEADING}"
    return old.sub(lambda _: table(), text)


if __name__ == "__main__":
    FILE.write_text(with_table(FILE.read_text("utf-8")), "utf-8")

"""The directive `changelog`, which shows CHANGELOG.md, so that it is written once."""

import re
from pathlib import Path

from sphinx.util.docutils import SphinxDirective

HEADINGS = {"## ": "-", "### ": "~"}


def as_rst(markdown):
    """Return a page of headings, paragraphs, lists, links and `code` as reST."""
    lines = []
    for line in markdown.splitlines():
        mark = next((mark for mark in HEADINGS if line.startswith(mark)), None)
        text = re.sub(r"\[([^]]+)\]\((\S+?)\)", r"`\1 <\2>`__", line)
        if mark:
            text = text.removeprefix(mark).replace("[", "").replace("]", "")
            lines += [text, HEADINGS[mark] * len(text)]
        elif not line.startswith("# "):
            # of a link's own backticks none are code
            code = r"(?<!`)`([^`<]+)`(?![`_])"
            lines.append(re.sub(code, r"``\1``", text))
    return "\n".join(lines)


class Changelog(SphinxDirective):
    """Show the changes of the file that is named."""

    required_arguments = 1

    def run(self):
        path = (
            Path(self.env.doc2path(self.env.docname)).parent / self.arguments[0]
        ).resolve()
        self.env.note_dependency(path)
        return self.parse_text_to_nodes(
            as_rst(path.read_text(encoding="utf-8")), allow_section_headings=True
        )


def setup(app):
    """Register the directive."""
    app.add_directive("changelog", Changelog)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

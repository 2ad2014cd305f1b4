"""Formulas as MathML, which browsers draw themselves: no script, no network."""

import re

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)


def known(text):
    """Return TeX without what docutils has another name for."""
    text = re.sub(r"\\dots(?![a-z])", r"\\ldots", text)
    # \big( is \bigl( or, of a closing bracket, \bigr)
    text = re.sub(r"(\\[bB]ig)(?=[])}]|\\\})", r"\1r", text)
    return re.sub(r"(\\[bB]ig)(?=[^a-z])", r"\1l", text)


def formula(text, block):
    """Return TeX as MathML; lines of a display that align are one environment."""
    if block and "\\\\" in text and "\\begin" not in text:
        text = f"\\begin{{aligned}}{text}\\end{{aligned}}"
    return tex2mathml(known(text), as_block=block)


def visit(translator, node, block):
    try:
        translator.body.append(formula(node.astext(), block))
    except MathError as error:
        logger.warning("%s in the formula %s", error, node.astext(), location=node)
    raise nodes.SkipNode


def setup(app):
    """Register the renderer `mathml`."""
    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(lambda self, node: visit(self, node, block=False), None),
        block_renderers=(lambda self, node: visit(self, node, block=True), None),
    )
    return {"parallel_read_safe": True, "parallel_write_safe": True}

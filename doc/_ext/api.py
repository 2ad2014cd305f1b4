"""The reference: a page for each public name, found in `__all__`.

Before Sphinx looks for sources, a page for each module is written, whose
`autosummary` makes the pages of its members. Names in the text become links to them.
"""

import inspect
import re
from importlib import import_module
from pathlib import Path

from docutils import nodes
from gallery import gallery_names
from public_names import modules, places
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxDirective

from skad.base import BaseDetector


def kind(member):
    """Return the heading under which a member stands."""
    if inspect.isclass(member):
        return "Detectors" if issubclass(member, BaseDetector) else "Classes"
    return "Functions" if inspect.isroutine(member) else "Objects"


def heading(text, line):
    return f"{text}\n{line * len(text)}\n"


def module_page(module, names):
    """Return the source of a module's page."""
    loaded = import_module(module)
    parts = [
        heading(module, "="),
        inspect.getdoc(loaded),
        f".. currentmodule:: {module}",
    ]
    groups = {}
    for name in names:
        groups.setdefault(kind(getattr(loaded, name)), []).append(name)
    for title in ("Detectors", "Classes", "Functions", "Objects"):
        if title in groups:
            if len(groups) > 1:
                parts.append(heading(title, "-"))
            members = "\n".join(f"   {name}" for name in groups[title])
            parts.append(f".. autosummary::\n   :toctree: members\n\n{members}")
    return "\n\n".join(parts) + "\n"


def own_methods(full_name):
    """Return the methods of a class that skad wrote and documented, its own first."""
    module, _, name = full_name.rpartition(".")
    cls = getattr(import_module(module), name)
    found = {}
    for owner in cls.__mro__:
        if not owner.__module__.startswith("skad."):
            continue
        for method, value in vars(owner).items():
            routing = re.fullmatch("set_.*_request", method)  # scikit-learn's
            if (
                method[0] != "_"
                and not routing
                and callable(getattr(cls, method, value))
            ):
                found.setdefault(method, inspect.getdoc(getattr(cls, method, value)))
    return [method for method, text in found.items() if text]


def write(path, text):
    """Write a file unless it is there and right, so that nothing is built anew."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def write_pages(app, config):
    folder = Path(app.srcdir) / "generated" / "api"
    wanted = modules()
    for module, names in wanted.items():
        write(folder / f"{module}.rst", module_page(module, names))
    members = {f"{m}.{name}.rst" for m, names in wanted.items() for name in names}
    for path in [*folder.glob("*.rst"), *folder.glob("members/*.rst")]:
        if path.stem not in wanted and path.name not in members:
            path.unlink()  # the page of a name that is gone
    config.autosummary_context["own_methods"] = own_methods
    config.autosummary_context["gallery_names"] = gallery_names


def mend_types(app, what, name, obj, options, lines):
    r"""Join types that go on after a backslash, and say that `name_` is no link.

    In a raw docstring Python does not join them; docutils takes `name_` for a link.
    """
    text = re.sub(r", \\\n\s*", ", ", "\n".join(lines))
    typed = re.compile(r"^(\w[\w, *]*) : (.+)$", flags=re.M)
    lines[:] = typed.sub(
        lambda line: (
            f"{line[1]} : " + re.sub(r"(?<![`\w])(\w+_)\b(?!`)", r"`\1`", line[2])
        ),
        text,
    ).split("\n")


def target_of(text, known):
    """Return the full name of what a literal such as ``KNN(p=1)`` names, or None.

    `load` and the like are words of other libraries, too: they need the module's name.
    """
    name = text.split("(")[0].removeprefix("skad.")
    short = name.rpartition(".")[2]
    target = known.get(short, "")
    if not target.endswith(f".{name}") or (
        short == text and short.isalpha() and short.islower()
    ):
        return None
    return target


def is_elsewhere(literal):
    """Tell whether a literal is a call of another library, left in a table of calls."""
    node = literal
    while node.parent is not None and not isinstance(node, nodes.entry):
        node = node.parent
    first = isinstance(node, nodes.entry) and node.parent.index(node) == 0
    return first and "calls" in node.parent.parent.parent.parent["classes"]


def link_names(app, doctree):
    """Make a link of every literal that is a public name, with or without arguments."""
    for literal in list(doctree.findall(nodes.literal)):
        target = target_of(literal.astext(), app.env.skad_places)
        linked = isinstance(
            literal.parent, nodes.reference | nodes.title | pending_xref
        )
        if target is None or linked or is_elsewhere(literal):
            continue
        link = pending_xref(
            "", refdomain="py", reftype="obj", reftarget=target, refdoc=app.env.docname
        )
        link["refspecific"] = False
        literal.replace_self(link)
        link += literal


def find_places(app):
    app.env.skad_places = places()


class Modules(SphinxDirective):
    """List the pages of the modules, each with the first line of its docstring."""

    def run(self):
        pages = [f"generated/api/{module}" for module in modules()]
        items = [
            f"* :doc:`{page.rpartition('/')[2]} <{page}>`: "
            + inspect.getdoc(import_module(page.rpartition("/")[2])).splitlines()[0]
            for page in pages
        ]
        toctree = [".. toctree::", "   :hidden:", "", *[f"   {page}" for page in pages]]
        return self.parse_text_to_nodes("\n".join([*items, "", *toctree]))


def setup(app):
    """Connect the steps."""
    app.add_directive("api-modules", Modules)
    app.connect("config-inited", write_pages)
    app.connect("builder-inited", find_places)
    # before numpydoc, which makes reST of the sections
    app.connect("autodoc-process-docstring", mend_types, priority=400)
    app.connect("doctree-read", link_names)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
